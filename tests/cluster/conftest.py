"""A short training, and what one process makes of it."""

import pytest
from cluster_faults import SPACE, STEPS
from run_helpers import run_options

from autodistil import pipeline
from autodistil.run.run import Run


@pytest.fixture(scope="session")
def training_options(tmp_path_factory, quickstart_teacher_dir):
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


@pytest.fixture(scope="session")
def of_one(training_options, tmp_path_factory):
    """What one process without Ray trains."""
    run = tmp_path_factory.mktemp("one") / "run"
    pipeline.train(Run.open(run, training_options))
    return run
