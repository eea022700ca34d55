"""Fitting before training: what SuperLMs start from, when it is left out, and that a resumed run starts alike."""

import pytest
import torch
from autodistil_helpers import small_space
from run_helpers import run_options, stop_after

from autodistil import pipeline
from autodistil.run.run import Run
from autodistil.stages.fitting import fitted_start, fitted_student, spread_students

SPACE = """
sub_spaces:
  tiny: {num_layers: [1, 2], hidden_size: [32], head_size: 16, mlp_ratio: [1.0, 2.0]}
  whole: {num_layers: [2, 4], hidden_size: [48, 64], head_size: 16, mlp_ratio: [2.0, 4.0]}
"""


@pytest.fixture
def options(tmp_path, quickstart_teacher_dir):
    """Of a run whose training moves nothing: a random BERT of 4 layers x 64 units, its own shape in `whole`."""
    rate = {"learning_rate": 1e-30, "least_squares": "all"}
    return run_options(tmp_path, quickstart_teacher_dir, SPACE, train_steps=4, checkpoint_seconds=0.0, **rate)


def assert_equal(ours, theirs):
    for name, value in ours.state_dict().items():
        torch.testing.assert_close(value, theirs.state_dict()[name], rtol=0, atol=1e-25, msg=name)


def test_a_sub_space_without_the_teachers_shape_starts_fitted(options, tmp_path):
    run = Run.open(tmp_path / "run", options)
    pipeline.train(run)
    tiny, whole = run.inputs.space.sub_spaces
    other = Run.open(tmp_path / "other", options)
    plain, fitted = other.superlms.new(tiny), fitted_start(run, tiny)
    assert run.scorer.loss(fitted, tiny.largest) < run.scorer.loss(plain, tiny.largest)
    assert_equal(run.superlms.trained("tiny"), fitted)
    assert_equal(run.superlms.trained("whole"), other.superlms.new(whole))
    assert fitted_start(run, whole) is None


def test_superlms_are_fitted_only_where_that_is_asked_for(options, tmp_path):
    run = Run.open(tmp_path / "run", {**options, "least_squares": "alone"})
    assert fitted_start(run, run.inputs.space.sub_space("tiny")) is None
    assert fitted_student(run, run.inputs.space.candidates[0]) is not None
    run = Run.open(tmp_path / "other", {**options, "least_squares": "none"})
    assert fitted_student(run, run.inputs.space.candidates[0]) is None


@pytest.mark.slow
def test_a_resumed_training_starts_from_the_fit_that_was_kept(options, tmp_path, monkeypatch):
    whole = Run.open(tmp_path / "whole", options)
    pipeline.train(whole)
    run = Run.open(tmp_path / "run", options)
    with monkeypatch.context() as patch:
        stop_after(patch, 2)
        with pytest.raises(KeyboardInterrupt):
            pipeline.train(run)
    monkeypatch.setattr("autodistil.stages.fitting.fit_linear_maps", lambda *_: pytest.fail("fitted again"))
    run = Run.open(tmp_path / "run", options)
    pipeline.train(run, resume=True)
    assert_equal(run.superlms.trained("tiny"), whole.superlms.trained("tiny"))


@pytest.mark.parametrize("count", [1, 2, 5, 100])
def test_spread_students_have_both_ends(count):
    space = small_space_of_bert()
    chosen = spread_students(space, count)
    assert len(set(chosen)) == len(chosen) == min(count, len(space.architectures))
    assert chosen[0] == space.largest
    assert count == 1 or chosen[-1] == space.smallest


def small_space_of_bert():
    return small_space(None)
