"""What the driver makes of the workers' news, without a cluster."""

from types import SimpleNamespace

import pytest
from autodistil_helpers import RECIPE, objective_of, random_teacher, small_space
from ray.train import Checkpoint

from autodistil.cluster.checkpoint_storage import Storage
from autodistil.cluster.ray_train import NewsDesk, _failed, _without_old_saves
from autodistil.cluster.relay import Begun, Relay, Saved, Stepped
from autodistil.config import RunConfig
from autodistil.errors import ClusterError, TeacherError
from autodistil.models.superlm import SuperLM
from autodistil.run.folder import RunFolder
from autodistil.run.tracking import GuardedTracker
from autodistil.stages.training import RunLedger
from autodistil.training.checkpoint import CHECKPOINT, WEIGHTS, save_checkpoint, steps_saved
from autodistil.training.metrics import read_metrics
from autodistil.training.trainer import StepMetrics, SuperLMTrainer
from autodistil.utils import Progress


@pytest.fixture
def ledger(tmp_path):
    tracker = GuardedTracker(None, None, print)
    return RunLedger(RunFolder(tmp_path), ("small",), tracker)


@pytest.fixture
def desk(ledger, tmp_path):
    return NewsDesk(ledger, Storage.of(str(tmp_path)), Progress())


def stepped(*steps, rank=0):
    rows = [StepMetrics("small", step, 8, 1.0 / step, 1.0, 1.0, 0.1, 1.0, 0.5) for step in steps]
    return Stepped("small", rank, "host", 0.1 * (rank + 1), rows)


def test_steps_that_are_done_again_are_entered_once(desk, ledger, tmp_path):
    done, told = [], []

    def advance(steps=1, status=""):
        done.append(steps)
        told.append(status)

    news = [
        Begun({"small": 0}, 2),
        stepped(1, 2),
        stepped(rank=1),
        stepped(3, 4),
        Begun({"small": 2}, 1),
        stepped(3, 4),
    ]
    for each in news:
        desk.enter(each, advance)
    ledger.close()
    assert [row["step"] for row in read_metrics(tmp_path / "metrics.jsonl")] == [1, 2, 3, 4]
    assert sum(done) == 4
    assert "small 0.250  2 workers, slowest 1 on host: 0.20 s a step" in told
    assert "1 workers" in told[-1]


def test_a_checkpoint_is_brought_into_the_run_folder(desk, tmp_path):
    teacher = random_teacher()
    trainer = SuperLMTrainer(SuperLM.from_teacher(teacher, small_space(teacher)), RECIPE, objective_of("relation-kl"))
    folder = tmp_path / "superlm" / "small"
    for steps, there, gone in ((2, CHECKPOINT, WEIGHTS), (RECIPE.steps, WEIGHTS, CHECKPOINT)):
        trainer.steps_done = steps
        place = tmp_path / f"storage-{steps}"
        save_checkpoint(trainer, place / "small")
        desk.enter(Saved(Checkpoint.from_directory(place).path), lambda *_: None)
        assert steps_saved(folder) == steps
        assert (folder / there).is_file()
        assert not (folder / gone).exists()
    desk.enter(Saved(str(tmp_path / "removed")), lambda *_: None)
    assert steps_saved(folder) == RECIPE.steps


def test_only_the_last_checkpoint_of_each_training_is_brought():
    news = [Saved("/s/a/1"), Saved("/s/b/1"), Begun({}, 1), Saved("/s/a/2")]
    assert _without_old_saves(news) == [Saved("/s/b/1"), Begun({}, 1), Saved("/s/a/2")]


def test_a_relay_hands_each_news_out_once_and_passes_on_the_wish_to_stop():
    relay = Relay()
    assert not relay.post(Saved("a"))
    relay.stop()
    assert relay.post(Saved("b"))
    assert relay.take() == [Saved("a"), Saved("b")]
    assert relay.take() == []


def test_a_failure_is_one_line_and_an_error_of_ours_stays_itself():
    job = SimpleNamespace(config=RunConfig(max_failures=3))
    failed = _failed(ValueError("two\nlines"), job)
    assert isinstance(failed, ClusterError)
    assert "max_failures = 3 (ValueError: two lines)" in str(failed)
    error = Exception("workers failed")
    error.worker_failures = {0: TeacherError("no such teacher")}
    assert str(_failed(error, job)) == "no such teacher"
