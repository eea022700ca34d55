"""Every command that README and docs show can be typed so, and the documentation builds with no broken link."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from typer.main import get_command

from autodistil.cli import app

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
VERBS = get_command(app)


def command_lines(page):
    """Lines of a page's code blocks, and inline code, that call autodistil; comments and continuation marks gone."""
    text = page.read_text(encoding="utf-8").replace("\\\n", " ")
    blocks = "\n".join(re.findall(r"```(?:sh|bash)?\n(.*?)```", text, re.DOTALL))
    lines = [line.split("  #")[0].strip() for line in blocks.splitlines()]
    inline = re.findall(r"`(autodistil [^`]*)`", re.sub(r"```.*?```", "", text, flags=re.DOTALL))
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
