"""Names are text in Markdown, whoever chose them."""

import re

import pytest

from autodistil.report.page import literal


@pytest.mark.parametrize(
    "name", ["<img src=x onerror=alert(1)>", "a\x1b[31mred", "<!--", "&lt;b&gt;", "| # _x_ `y` [z](javascript:w) ~~"]
)
def test_no_name_is_markup(name):
    shown = literal(name)
    assert not set("<>\x1b") & set(shown)
    assert not re.search(r"(?<!\\)[`*_\[\]|#~$]", shown)
