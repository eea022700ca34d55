"""Several teachers, how well each fits a task, and what a teacher reads beside the student."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from autodistil.errors import ConfigError
from autodistil.models.hf_folder import EvaluatedModel
from autodistil.stages.adapting import _together, adapt
from autodistil.tasks.adapting import Lesson
from autodistil.tasks.catalogue import load_task
from autodistil.tasks.finetune import EvaluationSettings
from autodistil.tasks.mixed_teachers import MixedTeachers, _distances, check_weights, task_fit

SETTINGS = EvaluationSettings(learning_rates=(3e-3,), epochs=8, batch_size=8, max_length=16)


@pytest.fixture
def data(write_task):
    """Reviews whose texts say nothing: the label is in what a teacher alone reads."""
    labels = np.random.default_rng(0).integers(2, size=160)
    rows = [(f"review {i}", ("awful", "lovely")[label], str(label)) for i, label in enumerate(labels)]
    return write_task("told", header="text_a\tteacher_text\tlabel", train=rows[:120], dev=rows[120:])


@given(st.integers(0, 30), st.integers(2, 4))
def test_features_that_are_the_labels_fit_best(seed, classes):
    random = np.random.default_rng(seed)
    labels = np.eye(classes)[np.arange(24) % classes]
    noise = random.normal(size=(24, classes))
    far = task_fit(labels + 100 * noise, labels)
    assert -1 <= far <= 1
    assert task_fit(labels + 1e-9 * noise, labels) >= max(0.7, far)


def test_distances_are_those_of_numpy():
    rows = np.random.default_rng(0).normal(size=(7, 5))
    np.testing.assert_allclose(_distances(rows), 1 - np.corrcoef(rows), atol=1e-12)
    assert (_distances(np.ones((2, 3)))[0] == 1).all()


def test_features_fit_scores_that_change_with_them():
    scores = np.linspace(0, 1, 20)[:, None]
    turning = np.concatenate([np.cos(3 * scores), np.sin(3 * scores)], 1)
    assert task_fit(np.concatenate([turning, -turning], 1), scores) > 0.99
    assert abs(task_fit(np.random.default_rng(0).normal(size=(20, 8)), scores)) < 0.4
    assert task_fit(np.ones((20, 3)) * np.arange(3), scores) == 0.0, "all alike"


def test_a_teacher_reads_what_a_student_does_not(data, tiny_bert, tmp_path):
    found = adapt(str(tiny_bert), "told", tmp_path / "mine", data, str(tiny_bert), SETTINGS, plain=False)
    assert found.metrics["teacher"]["accuracy"] > 0.95
    assert found.metrics["student"]["accuracy"] < 0.9
    told = load_task("told", data)
    assert told.evaluated.text_b is None
    assert told.privileged.evaluated.text_b == told.evaluated.teacher_text
    assert told.privileged.evaluated.take([3, 5]).text_b == (
        told.evaluated.teacher_text[3],
        told.evaluated.teacher_text[5],
    )
    pair = replace(told.evaluated, text_b=("x",) * len(told.evaluated))
    assert pair.privileged.text_b[0] == f"x {pair.teacher_text[0]}"


def test_logits_of_several_teachers_are_mixed(data, tiny_bert, tmp_path):
    for name, seed in (("a", 0), ("b", 1)):
        adapt(str(tiny_bert), "told", tmp_path / name, data, None, replace(SETTINGS, epochs=1), seed=seed)
    models = [EvaluatedModel.open(str(tmp_path / name)) for name in ("a", "b")]
    task = load_task("told", data)
    lesson = Lesson.of(task, SETTINGS)
    mixed = MixedTeachers.of(models, lesson, SETTINGS, (3.0, 1.0))
    one, other = (MixedTeachers.of([model], lesson, SETTINGS) for model in models)
    assert [one.share for one in mixed.teachers] == [0.75, 0.25]
    np.testing.assert_allclose(mixed.answers(task), 0.75 * one.answers(task) + 0.25 * other.answers(task), atol=1e-5)
    both = 0.75 * one.taught(lesson).answers + 0.25 * other.taught(lesson).answers
    np.testing.assert_allclose(mixed.taught(lesson).answers, both, atol=1e-5)
    by_fit = MixedTeachers.of(models, lesson, SETTINGS)
    assert sum(one.share for one in by_fit.teachers) == pytest.approx(1)
    assert mixed.name.startswith("0.75 ")


def test_the_costs_of_teachers_that_all_answer_add_up():
    one, other = {"params": 5, "size_mb": 2.0, "flops": 10, "tokens": 128}, {"params": 7, "size_mb": 1.0}
    assert _together([one, {**other, "flops": 1, "tokens": 128}])["flops"] == 11
    assert _together([one, other]) == {"params": 12, "size_mb": 3.0}, "FLOPs are told where all have them"
    assert _together([one]) == one


@pytest.mark.parametrize(("weights", "teachers"), [((1.0,), 2), ((1.0, 0.0), 2), ((1.0, float("nan")), 2), ((1.0,), 0)])
def test_weights_are_one_a_teacher(weights, teachers):
    with pytest.raises(ConfigError, match="one a teacher, above 0"):
        check_weights(weights, teachers)
