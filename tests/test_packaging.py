"""The wheel and the sdist hold what they need, and the wheel runs where nothing else of ours is."""

import os
import re
import shutil
import subprocess
import sys
import tarfile
import venv
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
IN_THE_WHEEL = {
    "autodistil/py.typed",
    "autodistil/export/card.md",
    "autodistil/report/templates/base.html",
    "autodistil/report/templates/report.html",
    "autodistil/report/templates/report.md",
    "autodistil/report/templates/compare.html",
    "autodistil/report/templates/page.css",
    "autodistil/report/templates/choose.js",
    "autodistil/models/architectures/modeling_per_layer.py",
    "autodistil/search_spaces/minilm-l6-h384.yaml",
}
IN_THE_SDIST = IN_THE_WHEEL - {"autodistil/search_spaces/minilm-l6-h384.yaml"} | {
    "search_spaces/minilm-l6-h384.yaml",
    "pyproject.toml",
    "LICENSE",
    "constraints.txt",
    "tests/conftest.py",
    "docs/examples/embedding.md",
    "examples/search_students.py",
    "Dockerfile",
    "CITATION.cff",
}


def built(kind, out):
    """The path of a distribution, built by the backend that pyproject.toml names."""
    hatchling = pytest.importorskip("hatchling.build", reason="not installed: pip install hatchling")
    before = Path.cwd()
    os.chdir(ROOT)
    try:
        return out / getattr(hatchling, f"build_{kind}")(str(out))
    finally:
        os.chdir(before)


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    return built("wheel", tmp_path_factory.mktemp("wheel"))


def test_the_wheel_holds_what_the_package_reads(wheel):
    names = set(zipfile.ZipFile(wheel).namelist())
    assert names >= IN_THE_WHEEL
    tops = {name.split("/")[0] for name in names}
    assert tops == {"autodistil", next(top for top in tops if top.endswith(".dist-info"))}
    ours = {path.relative_to(ROOT).as_posix() for path in (ROOT / "autodistil").rglob("*") if path.is_file()}
    assert {
        name for name in ours if "__pycache__" not in name and not name.startswith("autodistil/search_spaces")
    } <= names
    assert not [name for name in names if name.endswith((".pyc", ".tmp"))]


def test_the_wheel_names_its_command_and_its_licence(wheel):
    archive = zipfile.ZipFile(wheel)
    texts = {Path(name).name: archive.read(name).decode() for name in archive.namelist() if ".dist-info/" in name}
    assert "autodistil = autodistil.cli:main" in texts["entry_points.txt"]
    assert "License-Expression: Apache-2.0" in texts["METADATA"]
    assert "Classifier: Typing :: Typed" in texts["METADATA"]
    assert "Apache License" in texts["LICENSE"]


def test_the_sdist_holds_the_sources_tests_and_docs(tmp_path):
    archive = built("sdist", tmp_path)
    with tarfile.open(archive) as content:
        names = {name.partition("/")[2] for name in content.getnames()}
    assert names >= IN_THE_SDIST
    assert not [name for name in names if name.startswith((".venv", "runs/", "site/"))]


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_the_wheel_searches_in_a_bare_environment(wheel, tmp_path, quickstart_teacher_dir):
    """Needs a package index (or pip's cache): everything is installed anew, at the pinned versions."""
    python = bare_environment(tmp_path / "bare")
    command = [
        python,
        "-m",
        "pip",
        "install",
        "--quiet",
        "--constraint",
        ROOT / "constraints.txt",
        f"{wheel}[quickstart]",
    ]
    installed = subprocess.run(command, capture_output=True, text=True, check=False, timeout=1500)
    if "No matching distribution" in installed.stderr or "ConnectionError" in installed.stderr:
        pytest.skip(f"no package index: {installed.stderr.splitlines()[-1]}")
    assert installed.returncode == 0, installed.stderr
    teachers = subprocess.run(
        [tmp_path / "bare" / "bin" / "autodistil", "teachers"], capture_output=True, text=True, check=True
    )
    assert re.search(r"all-MiniLM-L6-v2 │ installed", teachers.stdout)
    shutil.copytree(quickstart_teacher_dir, tmp_path / "teacher")
    (tmp_path / "text.txt").write_text(
        "\n\n".join(f"The river {i} runs along the wall of town {7 * i}." for i in range(900))
    )
    inputs = ["--budget", "100MFLOPs", "--teacher", "teacher", "--corpus", "text.txt", "--run", "run"]
    short = [
        "--train-steps",
        "1",
        "--batch-size",
        "2",
        "--seq-len",
        "16",
        "--threads",
        "1",
        "--sampler",
        "random",
        "--trials",
        "6",
    ]
    searched = subprocess.run(
        [tmp_path / "bare" / "bin" / "autodistil", "search", *inputs, *short],
        cwd=tmp_path,
        env={name: value for name, value in os.environ.items() if name != "PYTHONPATH"},
        capture_output=True,
        text=True,
        check=False,
        timeout=600,
    )
    assert searched.returncode == 0, searched.stderr
    assert (tmp_path / "run" / "report.html").is_file()
    assert "export: autodistil export --run run --pick best" in searched.stdout


def bare_environment(folder):
    """The Python of an environment that holds pip alone."""
    venv.create(folder, with_pip=True)
    python = folder / "bin" / "python"
    listed = subprocess.run(
        [python, "-m", "pip", "list", "--format", "freeze"], capture_output=True, text=True, check=True
    )
    assert {line.split("==")[0] for line in listed.stdout.split()} <= {"pip", "setuptools"}
    assert Path(sys.prefix) not in python.parents
    return python
