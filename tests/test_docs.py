"""Every command that README and docs show can be typed so, and the documentation builds with no broken link."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from typer.main import get_command

from autodistil.cli.commands import app
from autodistil.data.selection import SELECTIONS
from autodistil.evaluation.evaluate import METHODS as SCORED_BY
from autodistil.formats import FORMATS
from autodistil.models.layer_maps import LAYER_MAPS
from autodistil.models.ordering import ORDERS
from autodistil.objectives import TERMS
from autodistil.student_search.samplers import SAMPLERS
from autodistil.tasks.adapt import METHODS as ADAPT
from autodistil.training.sampling import SAMPLINGS

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
PROSE = [*PAGES, ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md"]
VERBS = get_command(app)
README_WORDS = 700
"""As `wc -w` counts: code, tables and their marks are words too."""
PROSE_WIDTH = 100
_BLOCK = re.compile(r"^ *```(\w*)\n(.*?)^ *```", re.DOTALL | re.MULTILINE)


def command_lines(page):
    """Lines of a page's code blocks, and inline code, that call autodistil; comments and continuation marks gone."""
    text = page.read_text(encoding="utf-8").replace("\\\n", " ")
    blocks = "\n".join(block for kind, block in _BLOCK.findall(text) if kind in ("", "sh", "bash"))
    lines = [line.split("  #")[0].strip() for line in blocks.splitlines()]
    inline = re.findall(r"`(autodistil [^`]*)`", _BLOCK.sub("", text))
    return [line for line in [*lines, *inline] if line.startswith("autodistil ")]


CASES = [(page.name, line) for page in PAGES for line in command_lines(page)]


def test_there_are_commands_on_the_pages():
    assert len(CASES) > 40
    assert {"README.md", "index.md", "devices.md", "clusters.md"} <= {name for name, _ in CASES}


@pytest.mark.parametrize(("page", "line"), CASES, ids=[f"{page}-{i}" for i, (page, _) in enumerate(CASES)])
def test_verb_and_options_of_a_command_exist(page, line):
    words = shlex.split(line.replace("|", " "), comments=True)[1:]
    if not words or words[0].startswith("-"):
        assert not words or words[0] in ("--help", "--version")
        return
    known = {name: command for verb in VERBS.commands.values() for name, command in [(verb.name, verb)]}
    verbs = [word for word in words if word in known]
    assert words[0] in known, f"{page}: {line}"
    options = {option for verb in verbs for part in known[verb].params for option in [*part.opts, *part.secondary_opts]}
    for word in words[1:]:
        if word.startswith("--"):
            assert word.split("=")[0] in options | {"--help"}, f"{page}: {line}"


NAMED = {
    "{}": [*TERMS, *ADAPT, *FORMATS],
    "sampling: {}": SAMPLINGS,
    "order: {}": ORDERS,
    "layer_map: {}": LAYER_MAPS,
    "--select {}": SELECTIONS,
    "--sampler {}": SAMPLERS,
    "--method {}": SCORED_BY,
}


def test_the_page_of_methods_has_every_one_and_no_empty_cell():
    lines = (ROOT / "docs" / "methods.md").read_text(encoding="utf-8").splitlines()
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if line.startswith("| ")]
    named = {name for row in rows for name in re.findall("`([^`]+)`", row[0])}
    assert {how.format(name) for how, names in NAMED.items() for name in names} <= named
    assert all(all(row) for row in rows)
    tests = [row[3].strip("`") for row in rows if len(row) == 6 and row[0] != "method"]
    assert len(tests) > 60
    assert [path for path in tests if not (ROOT / path).is_file()] == []


def test_the_readme_is_short():
    assert len((ROOT / "README.md").read_text(encoding="utf-8").split()) <= README_WORDS


def too_wide(text):
    """Lines of prose that are too wide; tables, code, HTML comments, options of directives and what has no place to
    break, such as a bare link, are none."""
    text = _BLOCK.sub("", text)
    prose = [line for line in text.splitlines() if not re.match(r" *(\||<!--|!\[|:::)|    +members:", line)]
    return [line for line in prose if len(line) > PROSE_WIDTH and " " in re.sub(r"`[^`]*`", "code", line.strip("-* "))]


@pytest.mark.parametrize("page", PROSE, ids=[page.relative_to(ROOT).as_posix() for page in PROSE])
def test_prose_is_wrapped(page):
    assert too_wide(page.read_text(encoding="utf-8")) == []


def test_what_is_too_wide():
    wide = "a word " * 20
    assert too_wide(f"short\n{wide}\n") == [wide]
    excepted = [f"| {wide}|", f"```\n{wide}\n```", f"```sh\n{wide}\n```", f"- <https://{'x' * 100}>", f"`{wide}`"]
    assert too_wide("\n\n".join(excepted)) == []


def test_every_page_is_in_the_navigation():
    listed = re.findall(r": (\S+\.md)$", (ROOT / "mkdocs.yml").read_text(encoding="utf-8"), re.MULTILINE)
    pages = [page.relative_to(ROOT / "docs").as_posix() for page in PAGES if page.name != "README.md"]
    assert sorted(listed) == sorted(pages)


def test_the_documentation_builds(tmp_path):
    pytest.importorskip("mkdocstrings", reason="the documentation needs: pip install 'autodistil[docs]'")
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path / "site")],
        cwd=ROOT,
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    reference = (tmp_path / "site" / "reference" / "index.html").read_text(encoding="utf-8")
    assert "SearchResult" in reference
    assert "fonts.googleapis" not in reference
