"""The emitted set: its one-file runner needs only ONNX Runtime and NumPy, and writes a table that reads like ours."""

import importlib.metadata
import json
import shutil
import subprocess
import sys
import sysconfig
import venv
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest

from autodistil.errors import ProfileError
from autodistil.profiling.emit import RUNNER, RUNNER_MODULES, emit_set, write_set
from autodistil.profiling.fingerprint import this_device
from autodistil.profiling.latency_table import read_table
from autodistil.profiling.session import Plan
from tests.profiling.conftest import CONFIG

PLAN = Plan(shapes=((1, 8),))


@pytest.fixture
def emitted(lookup, header, tmp_path):
    """The folder of a set with the hand-made student."""
    folder = tmp_path / "set"
    shutil.copytree(lookup.path.parent, folder / "students")
    moved = {name: folder / "students" / getattr(lookup, name).name for name in ("path", "cases")}
    write_set([replace(lookup, **moved)], PLAN, header, folder)
    return folder


def run(python, folder, *options):
    return subprocess.run(
        [python, str(folder / RUNNER), *options], cwd=folder, capture_output=True, text=True, check=False, env={}
    )


def test_the_runner_writes_a_table_that_reads_like_ours(emitted):
    done = run(sys.executable, emitted)
    assert done.returncode == 0, done.stderr
    table = read_table(emitted / "table.json")
    assert table.device == this_device()
    assert (table.runtime, table.threads, table.family) == ("onnx", 1, "bert")
    assert [(entry.student, entry.batch, entry.seq_len) for entry in table.entries] == [(CONFIG, 1, 8)]
    assert "1 entries in table.json" in done.stderr


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--threads", "0"], "profile: threads: got 0; allowed: whole numbers from 1"),
        (["--rounds", "-1"], "profile: rounds: got -1"),
        (["--out", "no/such/folder.json"], "profile: --out: got 'no/such/folder.json'"),
    ],
)
def test_wrong_options_of_the_runner_are_one_line(emitted, options, says):
    done = run(sys.executable, emitted, *options)
    assert done.returncode == 2
    assert done.stderr.strip().splitlines()[-1].lstrip(".").startswith(says)


def test_a_half_copied_set_is_one_line(emitted):
    (emitted / "students" / "model.onnx").unlink()
    assert "copy the whole folder" in run(sys.executable, emitted).stderr
    (emitted / "set.json").write_text("{}")
    assert "set.json is damaged" in run(sys.executable, emitted).stderr
    (emitted / "set.json").unlink()
    done = run(sys.executable, emitted)
    assert done.returncode == 2
    assert len(done.stderr.strip().splitlines()) == 1


def test_the_runner_holds_the_measuring_modules_alone(emitted):
    with zipfile.ZipFile(emitted / RUNNER) as archive:
        ours = {name.removeprefix("autodistil/") for name in archive.namelist()} - {"__main__.py", "__init__.py"}
    assert ours == set(RUNNER_MODULES)


def test_a_runtime_that_needs_more_and_a_taken_folder_are_refused(source, header, tmp_path):
    with pytest.raises(ProfileError, match="got 'torch' with --emit; allowed: onnx, onnx-int8"):
        emit_set([source], replace(PLAN, runtime="torch"), header, tmp_path)
    (tmp_path / "something").touch()
    with pytest.raises(ProfileError, match="is not an empty folder"):
        emit_set([source], PLAN, header, tmp_path)


def bare_environment(folder):
    """A virtual environment with ONNX Runtime and NumPy and nothing else; returns its Python."""
    venv.create(folder, symlinks=sys.platform != "win32")
    scripts, suffix = ("Scripts", ".exe") if sys.platform == "win32" else ("bin", "")
    python = folder / scripts / f"python{suffix}"
    site = Path(sysconfig.get_path("purelib", vars={"base": str(folder), "platbase": str(folder)}))
    for distribution in map(importlib.metadata.distribution, ("onnxruntime", "numpy")):
        for top in {Path(str(file)).parts[0] for file in distribution.files or ()} - {".."}:
            (site / top).symlink_to(Path(str(distribution.locate_file(top))).resolve())
    return str(python)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_an_exported_set_is_measured_in_a_bare_virtual_environment(source, header, tmp_path):
    emit_set([source], PLAN, header, tmp_path / "set")
    python = bare_environment(tmp_path / "bare")
    missing = subprocess.run([python, "-c", "import torch"], capture_output=True, text=True, check=False, env={})
    assert "No module named 'torch'" in missing.stderr
    done = run(python, tmp_path / "set", "--out", "bare.json")
    assert done.returncode == 0, done.stderr
    table = read_table(tmp_path / "set" / "bare.json")
    assert table.entries[0].student == CONFIG
    assert json.loads((tmp_path / "set" / "set.json").read_text())["shapes"] == [[1, 8]]


def test_a_set_for_an_accelerator_is_refused(source, header, tmp_path):
    with pytest.raises(ProfileError, match="device: got 'cuda' with --emit; allowed: cpu"):
        emit_set([source], Plan(device="cuda", shapes=((1, 8),)), header, tmp_path / "set")
    assert not (tmp_path / "set").exists()


def test_the_runner_measures_no_memory_where_the_set_says_so(emitted):
    content = json.loads((emitted / "set.json").read_text())
    (emitted / "set.json").write_text(json.dumps({**content, "memory": False}))
    assert run(sys.executable, emitted).returncode == 0
    assert [entry.peak_memory_mb for entry in read_table(emitted / "table.json").entries] == [None]
