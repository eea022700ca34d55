"""A run in MLflow and Weights & Biases, through their own libraries, offline."""

import json
import math
import subprocess
import sys
from pathlib import Path

import pytest
from run_helpers import one_line, run_options

import autodistil
from autodistil import cli
from autodistil.run import tracking
from autodistil.run.tracking import Found, GuardedTracker, TrackedRun, check_tracker, flat

SPACE = """
sub_spaces:
  small:
    num_layers: [1, 2]
    hidden_size: [32]
    num_heads: [2]
    head_size: [16]
    mlp_ratio: [2.0]
"""
FOUND = Found(
    "1MFLOPs", {"best": {"loss": 0.5}}, {"best": "a"}, {"id": ["a", "b"], "loss": [0.5, None], "flops": [2.0, 1.0]}
)


def told(folder):
    return TrackedRun("0123456789abcdef", "run", folder, {"teacher": "t" * 900, "seed": "0"})


class Broken:
    """A tracker whose server is away."""

    def __init__(self, run):
        raise ConnectionError("no\nroute")


@pytest.mark.slow
def test_nothing_is_imported_unless_asked():
    code = "import sys, autodistil.pipeline; print({'mlflow', 'wandb'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=110)
    assert done.stdout.strip() == "set()"


def test_a_missing_library_is_said_in_one_line(monkeypatch, tmp_path, capsys):
    monkeypatch.setitem(sys.modules, "wandb", None)
    command = ["train", "--run", str(tmp_path / "run"), "--track", "wandb", "--teacher"]
    teacher = str(Path(__file__).parent)  # never opened
    with pytest.raises(SystemExit) as caught:
        cli.main([*command, teacher])
    assert caught.value.code == 2
    assert one_line(capsys).endswith("pip install 'autodistil[track-wandb]'")
    assert not (tmp_path / "run").exists()


def test_unknown_trackers_are_refused(tmp_path, capsys):
    with pytest.raises(SystemExit):
        cli.main(["train", "--run", str(tmp_path / "run"), "--track", "wandbb"])
    assert "(did you mean 'wandb'?); allowed: mlflow, wandb, none" in one_line(capsys)


@pytest.mark.parametrize("name", [None, "none"])
def test_without_a_tracker_nothing_is_asked(name):
    check_tracker(name)
    tracker = GuardedTracker(name, lambda: pytest.fail("asked"), pytest.fail)
    tracker.log_step("small", 1, {"loss": 1.0})
    tracker.log_found(FOUND)
    tracker.close(True)


def test_a_tracker_that_fails_is_left_in_one_line(monkeypatch, tmp_path):
    monkeypatch.setattr(tracking, "TRACKERS", {"mlflow": ("mlflow", Broken)})
    said = []
    tracker = GuardedTracker("mlflow", lambda: told(tmp_path), said.append)
    for step in range(3):
        tracker.log_step("small", step, {"loss": 1.0})
    tracker.close(False)
    assert said == [
        "tracking with mlflow stops here (ConnectionError: no route); the run folder holds the same numbers"
    ]


def test_figures_of_picks_are_named_after_them():
    assert flat({"best": {"loss": 1.0}, "knee": {"loss": 2.0}}) == {"best/loss": 1.0, "knee/loss": 2.0}


@pytest.fixture
def mlflow_client(tmp_path, monkeypatch):
    """MLflow with a store in a file of SQLite."""
    pytest.importorskip("mlflow", reason="not installed: pip install 'autodistil[track-mlflow]'")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path / 'mlflow.db'}")
    monkeypatch.chdir(tmp_path)
    from mlflow import MlflowClient

    return MlflowClient()


@pytest.mark.filterwarnings("default")
def test_mlflow_gathers_training_and_searches_of_a_folder_in_one_run(mlflow_client, tmp_path, quickstart_teacher_dir):
    options = run_options(tmp_path, quickstart_teacher_dir, SPACE, track="mlflow", train_steps=3)
    result = autodistil.search(tmp_path / "run", budgets=["5GFLOPs"], **options)
    autodistil.search(tmp_path / "run", budgets=["4GFLOPs"])  # the run remembers the tracker
    experiment = mlflow_client.get_experiment_by_name("autodistil")
    (run,) = mlflow_client.search_runs([experiment.experiment_id])
    assert run.info.status == "FINISHED"
    assert run.data.params["train_steps"] == "3"
    assert run.data.tags["autodistil.folder"] == str((tmp_path / "run").resolve())
    assert run.data.tags["autodistil.budgets"] == "4GFLOPs"
    assert run.data.tags["autodistil.best"] == result.best
    assert run.data.metrics["best/flops"] == result.candidates.loc[result.best, "flops"]
    rows = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    history = mlflow_client.get_metric_history(run.info.run_id, "small/loss")
    assert sorted((one.step, one.value) for one in history) == [(row["step"], row["loss"]) for row in rows]
    front = json.loads(Path(mlflow_client.download_artifacts(run.info.run_id, "front.json", str(tmp_path))).read_text())
    assert front["id"] == list(result.pareto["id"])


@pytest.mark.filterwarnings("default")
def test_wandb_writes_an_offline_run_into_the_folder(tmp_path, monkeypatch, quickstart_teacher_dir):
    pytest.importorskip("wandb", reason="not installed: pip install 'autodistil[track-wandb]'")
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.delenv("WANDB_DIR", raising=False)
    options = run_options(tmp_path, quickstart_teacher_dir, SPACE, track="wandb", train_steps=3)
    result = autodistil.search(tmp_path / "run", budgets=["5GFLOPs"], **options)
    (file,) = (tmp_path / "run" / "wandb").glob("offline-run-*/*.wandb")
    records = offline_records(file)
    history = [row for row in records["history"] if "small/step" in row]
    assert [row["small/step"] for row in history] == [1, 2, 3]
    rows = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert [row["small/loss"] for row in history] == [row["loss"] for row in rows]
    assert records["config"]["train_steps"] == "3"
    assert records["summary"]["best"] == result.best
    assert math.isclose(records["summary"]["best/loss"], result.candidates.loc[result.best, "loss"])
    assert any(row.get("front/nrows") == len(result.pareto) for row in records["history"])


def offline_records(file):
    """History, config and summary of an offline run."""
    from wandb.proto import wandb_internal_pb2

    found = {"history": [], "config": {}, "summary": {}}
    for data in leveldb_log(file.read_bytes()[7:], 7):
        record = wandb_internal_pb2.Record()
        record.ParseFromString(data)
        found["config"].update(named(record.run.config.update))
        found["summary"].update(named(record.summary.update))
        if record.history.item:
            found["history"].append(named(record.history.item))
    return found


def named(items):
    """Items of W&B as a dict of plain values."""
    return {item.key or "/".join(item.nested_key): json.loads(item.value_json) for item in items}


def leveldb_log(content, offset):
    """The records of a log in LevelDB's format: blocks of 32 KiB, parts under 7 bytes of checksum, length and kind."""
    position, record = 0, b""
    while position + 7 <= len(content):
        room = 32768 - (position + offset) % 32768
        if room < 7:
            position += room
            continue
        length, kind = int.from_bytes(content[position + 4 : position + 6], "little"), content[position + 6]
        record += content[position + 7 : position + 7 + length]
        position += 7 + length
        if kind in (1, 4):  # whole, or its last part
            yield record
            record = b""
