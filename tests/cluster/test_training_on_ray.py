"""Trainings on an embedded Ray cluster end where one process does, in either layout and whatever happens to workers."""

import pytest
from cluster_faults import Faults, StopWhen, assert_same_training, with_faults

from autodistil import pipeline
from autodistil.cluster.ray_session import check_resources, ray_session
from autodistil.config import RunConfig
from autodistil.errors import ClusterError, DivergedError
from autodistil.run.run import Run
from autodistil.training.metrics import read_metrics

pytestmark = [pytest.mark.ray, pytest.mark.timeout(1800)]


@pytest.fixture(scope="module")
def session():
    with ray_session() as opened:
        yield opened


def test_embedded_session_listens_on_loopback_and_is_too_small_for_many(session):
    assert session.embedded
    assert session.address.startswith("127.0.0.1:")
    with pytest.raises(ClusterError, match="999 workers of 1 CPUs are more than"):
        check_resources(session, RunConfig(workers=999))


def test_two_workers_end_where_one_process_does(session, training_options, of_one, tmp_path):
    pipeline.train(Run.open(tmp_path / "run", training_options, {"workers": 2}))
    assert_same_training(tmp_path / "run", of_one)


def test_workers_that_raise_and_are_killed_change_nothing(session, training_options, of_one, tmp_path, monkeypatch):
    run = Run.open(tmp_path / "run", training_options, {"workers": 2, "max_failures": 2})
    faults = Faults(tmp_path, raises_at=(1, 2), killed_at=(0, 4))
    with_faults(monkeypatch, faults)
    pipeline.train(run)
    assert (tmp_path / "raised").exists()
    assert (tmp_path / "killed").exists()
    assert_same_training(tmp_path / "run", of_one)


def test_too_many_failures_are_one_line_and_can_be_resumed(session, training_options, of_one, tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        with_faults(patch, Faults(tmp_path, raises_at=(0, 3)))
        with pytest.raises(ClusterError, match=r"more often than max_failures = 0 \(ValueError: a fault of the test"):
            pipeline.train(Run.open(tmp_path / "run", training_options, {"workers": 2, "max_failures": 0}))
    pipeline.train(Run.open(tmp_path / "run", training_options, {"workers": 1}), resume=True)
    assert_same_training(tmp_path / "run", of_one)


@pytest.mark.parametrize("layout", ["joint", "split"])
def test_a_training_that_diverges_ends_once_on_all_workers(session, training_options, tmp_path, layout):
    """It is not tried again: the same steps would end in the same; the checkpoint before it is in the run folder."""
    options = {"workers": 2, "layout": layout, "learning_rate": 1e30, "max_failures": 2}
    with pytest.raises(DivergedError, match=r"diverged in step 2: .*; kept: (tiny|base) after step 1"):
        pipeline.train(Run.open(tmp_path / "run", training_options, options))
    rows = read_metrics(tmp_path / "run" / "metrics.jsonl")
    assert {row["step"] for row in rows} == {1}
    assert not list((tmp_path / "run").glob("superlm/*/superlm.safetensors"))


def test_a_stopped_training_is_saved_and_one_process_goes_on(session, training_options, of_one, tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        stop = StopWhen(tmp_path / "waiting")
        patch.setattr("autodistil.cluster.ray_train.stop_on_interrupt", lambda: stop)
        with_faults(patch, Faults(tmp_path, waits_at=(1, 2), seconds=3.0))
        with pytest.raises(KeyboardInterrupt):
            pipeline.train(Run.open(tmp_path / "run", training_options, {"workers": 2}))
    assert len(list((tmp_path / "run").glob("superlm/*/checkpoint.safetensors"))) == 2
    pipeline.train(Run.open(tmp_path / "run", training_options, {"workers": 0}), resume=True)
    assert_same_training(tmp_path / "run", of_one)


def test_split_layout_fills_the_same_run_folder(session, training_options, of_one, tmp_path):
    pipeline.train(Run.open(tmp_path / "run", training_options, {"workers": 1, "layout": "split"}))
    assert_same_training(tmp_path / "run", of_one)
