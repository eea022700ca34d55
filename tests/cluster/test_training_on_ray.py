"""Trainings on an embedded Ray cluster end where one process does, in either layout and whatever happens to workers."""

import pytest
from cluster_faults import SPACE, STEPS, Faults
from run_helpers import run_options
from safetensors.torch import load_file

from autodistil import pipeline
from autodistil.cluster.session import check_resources, ray_session
from autodistil.config import RunConfig
from autodistil.context import RunContext
from autodistil.errors import ClusterError
from autodistil.training.metrics import read_metrics

pytestmark = [pytest.mark.ray, pytest.mark.timeout(900)]


@pytest.fixture(scope="module")
def session():
    with ray_session() as opened:
        yield opened


@pytest.fixture(scope="module")
def options(tmp_path_factory, quickstart_teacher_dir):
    folder = tmp_path_factory.mktemp("ray")
    return run_options(
        folder,
        quickstart_teacher_dir,
        SPACE,
        batch_size=5,
        train_steps=STEPS,
        checkpoint_seconds=0.0,
        objective="relation-kl+embedding-similarity",
    )


@pytest.fixture(scope="module")
def of_one(options, tmp_path_factory):
    """What one process without Ray trains."""
    run = tmp_path_factory.mktemp("one") / "run"
    pipeline.train(RunContext.open(run, options))
    return run


def in_order(rows):
    return sorted(rows, key=lambda row: (row["sub_space"], row["step"]))


def assert_same_training(run, expected):
    """Every step once, in order and on the same data; the same weights but for rounding, which AdamW may blow up."""
    ours, theirs = (
        sorted(read_metrics(r / "metrics.jsonl"), key=lambda row: (row["sub_space"], row["step"]))
        for r in (run, expected)
    )
    assert [(row["sub_space"], row["step"], row["tokens"]) for row in ours] == [
        (row["sub_space"], row["step"], row["tokens"]) for row in theirs
    ]
    for row, other in zip(ours, theirs, strict=True):
        assert row["loss"] == pytest.approx(other["loss"], rel=1e-3)
    for name in ("tiny", "base"):
        weights, others = (load_file(r / "superlm" / name / "superlm.safetensors") for r in (run, expected))
        assert weights.keys() == others.keys()
        for key, value in others.items():
            assert float((weights[key] - value).abs().mean()) < 2e-5, (name, key)
    assert not list(run.glob("superlm/*/checkpoint*"))


def test_embedded_session_listens_on_loopback_and_is_too_small_for_many(session):
    assert session.embedded
    assert session.address.startswith("127.0.0.1:")
    with pytest.raises(ClusterError, match="999 workers of 1 cpus are more than"):
        check_resources(session, RunConfig(workers=999))


def test_two_workers_end_where_one_process_does(session, options, of_one, tmp_path):
    pipeline.train(RunContext.open(tmp_path / "run", options, {"workers": 2}))
    assert_same_training(tmp_path / "run", of_one)


def test_a_worker_that_raises_and_one_that_is_killed_change_nothing(session, options, of_one, tmp_path, monkeypatch):
    context = RunContext.open(tmp_path / "run", options, {"workers": 2, "max_failures": 2})
    faults = Faults(tmp_path, raises_at=(1, 2), killed_at=(0, 4))
    with_faults(monkeypatch, faults)
    pipeline.train(context)
    assert (tmp_path / "raised").exists()
    assert (tmp_path / "killed").exists()
    assert_same_training(tmp_path / "run", of_one)


def test_too_many_failures_are_one_line_and_one_process_goes_on(session, options, of_one, tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        with_faults(patch, Faults(tmp_path, raises_at=(0, 3)))
        with pytest.raises(ClusterError, match=r"more often than max_failures = 0 \(ValueError: a fault of the test"):
            pipeline.train(RunContext.open(tmp_path / "run", options, {"workers": 2, "max_failures": 0}))
    pipeline.train(RunContext.open(tmp_path / "run", options, {"workers": 0}), resume=True)
    assert_same_training(tmp_path / "run", of_one)


def test_split_layout_fills_the_same_run_folder(session, options, of_one, tmp_path):
    pipeline.train(RunContext.open(tmp_path / "run", options, {"workers": 1, "layout": "split"}))
    assert_same_training(tmp_path / "run", of_one)


def with_faults(patch, faults):
    """Let workers of the trainings to come have faults."""
    from autodistil.cluster import training as on_ray

    original = on_ray.train_on_cluster
    patch.setattr(on_ray, "train_on_cluster", lambda *arguments: original(*arguments, after_step=faults))
