"""One contract over all methods of fine-tuning, and each against its formula."""

from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn.functional import cross_entropy, one_hot, softmax

from autodistil.errors import ConfigError
from autodistil.tasks.adapt import METHODS, read_method
from autodistil.tasks.adapt.method import Answers, divergence, supervised


def answers_of(classes, seed=0, rows=6, unknown=(), progress=0.5):
    """Random answers; one class stands for scores."""
    generator = torch.Generator().manual_seed(seed)
    logits, teacher, before = (torch.randn(rows, classes, generator=generator) for _ in range(3))
    labels = (
        torch.randint(classes, (rows,), generator=generator) if classes > 1 else torch.randn(rows, generator=generator)
    )
    known = torch.tensor([i not in unknown for i in range(rows)])
    return Answers(logits.requires_grad_(), labels, known, progress, teacher, before)


@pytest.mark.parametrize("classes", [1, 2, 5])
@pytest.mark.parametrize("name", METHODS)
def test_a_method_is_a_loss_of_rows(name, classes):
    """(rows,), finite, at least 0, differentiable, of each row alone, and nothing is asked that it does not need."""
    method, answers = METHODS[name], answers_of(classes, unknown=(1,))
    loss = method.loss(answers)
    assert loss.shape == (6,)
    assert loss.isfinite().all()
    assert (loss >= -1e-6).all()
    loss.sum().backward()
    assert answers.logits.grad.isfinite().all()
    given = {need: None for need in ("teacher", "before") if need not in method.needs}
    assert torch.allclose(method.loss(replace(answers, **given)), loss)
    for row in range(6):
        part = slice(row, row + 1)
        alone = Answers(
            answers.logits[part],
            answers.labels[part],
            answers.known[part],
            0.5,
            answers.teacher[part],
            answers.before[part],
        )
        assert torch.allclose(method.loss(alone)[0], loss[row], atol=1e-6)


@pytest.mark.parametrize("classes", [1, 3])
@pytest.mark.parametrize("name", METHODS)
def test_a_row_without_a_label_does_not_depend_on_it(name, classes):
    answers = answers_of(classes, unknown=(2,))
    others = answers.labels.clone()
    others[2] = 0 if classes > 1 else 7.0
    assert torch.allclose(METHODS[name].loss(answers), METHODS[name].loss(replace(answers, labels=others)))


@pytest.mark.parametrize("name", [name for name, method in METHODS.items() if "before" in method.needs])
def test_the_first_epoch_of_a_self_taught_student_is_plain(name):
    answers = replace(answers_of(3), before=None)
    assert torch.equal(METHODS[name].loss(answers), supervised(answers))


def test_soft_targets_are_hintons():
    answers = answers_of(4)
    theirs, ours = softmax(answers.teacher / 2, -1), softmax(answers.logits / 2, -1)
    kl = (theirs * (theirs.log() - ours.log())).sum(-1)
    expected = 0.7 * 4 * kl + 0.3 * cross_entropy(answers.logits, answers.labels, reduction="none")
    assert torch.allclose(METHODS["soft-targets"].loss(answers), expected, atol=1e-5)
    assert torch.allclose(divergence(answers.teacher, answers.teacher, 2.0), torch.zeros(6), atol=1e-6)


@given(st.floats(0, 1))
def test_progressive_targets_drift_from_the_label_to_the_students_own_answer(progress):
    answers = answers_of(3, progress=progress)
    share = 0.8 * progress
    targets = (1 - share) * one_hot(answers.labels, 3) + share * softmax(answers.before, -1)
    expected = cross_entropy(answers.logits, targets, reduction="none")
    assert torch.allclose(METHODS["ps-kd"].loss(answers), expected, atol=1e-5)


def test_a_copy_that_was_wrong_teaches_little():
    answers = answers_of(2)
    right = 20.0 * (2 * one_hot(answers.labels, 2) - 1)
    added = [(METHODS["self-kd"].loss(replace(answers, before=b)) - supervised(answers)) for b in (right, -right)]
    assert torch.allclose(added[0], divergence(answers.logits, right, 2.0), rtol=1e-4)
    assert (added[1] < 1e-6).all()


def test_class_weights_weigh_labels():
    answers, weights = answers_of(3), torch.tensor([0.5, 1.0, 2.0])
    weighed = supervised(replace(answers, class_weights=weights))
    assert torch.allclose(weighed, supervised(answers) * weights[answers.labels])


def test_sums_and_what_is_none():
    answers = answers_of(3)
    both = read_method("soft-targets + 0.5*ps-kd", taught=True)
    assert both.needs == {"teacher", "before"}
    expected = METHODS["soft-targets"].loss(answers) + 0.5 * METHODS["ps-kd"].loss(answers)
    assert torch.allclose(both.loss(answers), expected)
    assert read_method("auto", taught=True).needs == {"teacher"}
    assert not read_method("auto", taught=False).needs
    for text, said in (
        ("soft-target", "did you mean"),
        ("soft-targets", "needs a fine-tuned teacher"),
        ("0*ps-kd", "above 0"),
    ):
        with pytest.raises(ConfigError, match=said):
            read_method(text, taught=False)
