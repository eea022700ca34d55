"""docs/extending.md: its files and lines, put into a copy of the package, keep the contracts, and a run uses them."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from run_helpers import run_options

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "extending.md").read_text(encoding="utf-8")
FILES = re.findall(r"```python\n# (\S+)\n(.*?)```", PAGE, re.DOTALL)
DIFFS = re.findall(r"```diff\n\+\+\+ (\S+)\n(.*?)```", PAGE, re.DOTALL)
ENTRIES = re.search(r"^pytest tests -k '(.*)'$", PAGE, re.MULTILINE)[1].split(" or ")
CONTRACTS = tuple(dict.fromkeys(re.findall(r"`(tests/\S+\.py)`", PAGE.split("## A term")[0].split("| contract |")[1])))


def patched(source, diff):
    """The source with the lines that `+` adds between those that stand around them, as far indented as those are."""
    rows = source.splitlines()
    for hunk in diff.split("@@\n"):
        lines = hunk.splitlines()
        old = [line.strip() for line in lines if line[0] == " "]
        (start,) = [i for i in range(len(rows)) if [row.strip() for row in rows[i : i + len(old)]] == old]
        indent = rows[start][: len(rows[start]) - len(rows[start].lstrip())]
        rows[start : start + len(old)] = [indent + line[1:].strip() for line in lines]
    return "\n".join([*rows, ""])


@pytest.fixture(scope="module")
def extended(tmp_path_factory):
    """A copy of the checkout in which all that the page says is done."""
    root = tmp_path_factory.mktemp("extended")
    for name in ("autodistil", "tests", "search_spaces"):
        shutil.copytree(ROOT / name, root / name)  # compiled files stay valid
    shutil.copy(ROOT / "pyproject.toml", root)
    for path, text in FILES:
        assert not (root / path).exists()
        (root / path).write_text(text, encoding="utf-8")
    for path, diff in DIFFS:
        (root / path).write_text(patched((root / path).read_text(encoding="utf-8"), diff), encoding="utf-8")
    return root


def run(extended, *arguments):
    """The output of Python in the copy."""
    done = subprocess.run(
        [sys.executable, *map(str, arguments)],
        cwd=extended,
        env={**os.environ, "PYTHONPATH": str(extended), "COLUMNS": "160"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    return done.stdout


def test_every_section_is_one_file_of_few_lines_and_one_line_of_a_dict():
    assert len(FILES) == len(DIFFS) == len(ENTRIES) == PAGE.count("```python")
    for (path, text), (changed, diff) in zip(FILES, DIFFS, strict=True):
        assert Path(changed) == Path(path).parent / "__init__.py"
        assert len(re.findall(r"^\+", diff, re.MULTILINE)) == 2
        assert len([line for line in text.splitlines() if line.strip()]) <= 32


def test_the_files_keep_the_style(extended):
    paths = [path for path, _ in FILES]
    run(extended, "-m", "ruff", "check", "--ignore", "PT018", *paths)
    run(extended, "-m", "ruff", "format", "--check", *paths, *(path for path, _ in DIFFS))


@pytest.mark.slow
def test_contracts_hold_for_what_the_page_adds(extended):
    options = ("-v", "-p", "no:cacheprovider", "-p", "no:xdist", "-k", " or ".join(ENTRIES))
    done = run(extended, "-m", "pytest", *options, *CONTRACTS)
    passed = re.findall(r"^(\S+?)::(\S+) PASSED", done, re.MULTILINE)
    assert {name for name, _ in passed} == set(CONTRACTS)
    for entry in ENTRIES:
        assert any(entry in test for _, test in passed), entry
    assert "SKIPPED" not in done
    assert len(passed) > 20


USES = """
import sys
from autodistil.cli import main

sys.modules["kaleido"] = None  # no picture, which takes seconds
for line in sys.argv[1].splitlines():
    try:
        main(line.split())
    except SystemExit as end:
        assert not end.code, line
"""


@pytest.mark.slow
def test_a_run_uses_what_the_page_adds(extended, tmp_path, quickstart_teacher_dir):
    line = re.search(r"```yaml\n(embedding_divisor: .*)\n", PAGE)[1]
    grid = {"num_layers": [1, 2], "hidden_size": [32, 64], "head_size": 16, "mlp_ratio": 2.0}
    space = yaml.safe_dump({"name": "x", "sub_spaces": {"base": {**grid, **yaml.safe_load(line)}}})
    made = run_options(tmp_path, quickstart_teacher_dir, space, sampling="stratified", train_steps=2, threads=1)
    (tmp_path / "options.yaml").write_text(yaml.safe_dump(made))
    objective, sampler = (re.search(rf"`(--{name} [\w+-]+)`", PAGE)[1] for name in ("objective", "sampler"))
    folder, student = tmp_path / "run", tmp_path / "student"
    search = f"search --config {tmp_path}/options.yaml {objective} {sampler} --trials 4 --budget 3Mparams"
    export = f"export --run {folder} --to {student} {re.search(r'`export (--format .*?)`', PAGE)[1]}"
    push = f"push {student} --repo me/student --dry-run"
    said = run(extended, "-c", USES, "\n".join([f"{search} --run {folder}", export, push]))
    config = yaml.safe_load((folder / "run.yaml").read_text())["config"]
    assert (config["objective"], config["sampling"], config["sampler"]) == (
        "last-huber+relation-kl",
        "stratified",
        "fill-budget",
    )
    assert re.search(r"torch-export: `exported/model\.pt2`: [\d.]+ MB, differs from PyTorch by", said)
    assert said.count("exported/model.pt2") > 1, "push sends it"
    assert re.search(r"L\d-H(32-A2-F64-E[48]|64-A4-F128-E(8|16))\b", said)
