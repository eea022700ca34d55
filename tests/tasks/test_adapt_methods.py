"""One contract over all methods of fine-tuning, and each against its formula."""

from dataclasses import fields, replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.nn.functional import cross_entropy, log_softmax, one_hot, softmax

from autodistil.errors import ConfigError
from autodistil.tasks.adapt import METHODS
from autodistil.tasks.adapt.intermediate import relation_error
from autodistil.tasks.adapt.lelp import SUBCLASSES, subclass_probabilities
from autodistil.tasks.adapt.method import CLASSES, SCORES, Answers, divergence, supervised
from autodistil.tasks.adapt.method_sum import MethodSum, read_methods
from autodistil.tasks.adapt.self_guided import share_of_labels

FURTHER = 6
"""Views and teachers that methods may need."""
NEEDS = ("teacher", "before", "dropped", "swapped", "moved", "counts")
TOLD = {"lelp", "self-guided", "trans-encoder"}


def answers_of(classes, seed=0, rows=6, unknown=(), progress=0.5, further=0, told=None):
    """Random answers in float64; one class stands for scores."""
    generator = torch.Generator().manual_seed(seed)

    def random(*shape):
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    labels = torch.randint(classes, (rows,), generator=generator) if classes > 1 else random(rows)
    known = torch.tensor([i not in unknown for i in range(rows)])
    one, two, three = (
        Answers(random(rows, classes).requires_grad_(), labels, known, progress, further=random(rows, further))
        for _ in range(3)
    )
    return replace(
        one,
        teacher=random(rows, classes),
        before=random(rows, classes),
        dropped=two,
        swapped=three,
        moved=random(1)[0].square(),
        counts=torch.bincount(labels, minlength=classes).double() if classes > 1 else None,
        told=softmax(random(rows, told), -1) if told else None,
    )


def answers_for(name, classes, **more):
    method = METHODS[name]
    further = method.further(classes) if method.further else 0
    return answers_of(classes, further=further, told=(further or classes) if name in TOLD else None, **more)


def of_row(answers, row):
    """One row of everything that has rows."""
    parts = {}
    for field in fields(answers):
        value = getattr(answers, field.name)
        if isinstance(value, Answers):
            parts[field.name] = of_row(value, row)
        elif isinstance(value, Tensor) and value.ndim and field.name != "counts":
            parts[field.name] = value[row : row + 1]
        else:
            parts[field.name] = value
    return Answers(**parts)


CASES = [
    (name, classes)
    for name, method in METHODS.items()
    for classes in (1, 2, 5)
    if (SCORES if classes > 1 else CLASSES) not in method.only
]


@pytest.mark.parametrize(("name", "classes"), CASES)
def test_a_method_is_a_loss_of_rows(name, classes):
    """(rows,), finite, at least 0, differentiable, of each row alone, and nothing is asked that it does not need."""
    method, answers = METHODS[name], answers_for(name, classes, unknown=(1,))
    loss = method.loss(answers)
    assert loss.shape == (6,)
    assert loss.isfinite().all()
    assert (loss >= -1e-6).all()
    loss.sum().backward()
    assert answers.logits.grad.isfinite().all()
    assert torch.allclose(method.loss(replace(answers, **{n: None for n in NEEDS if n not in method.needs})), loss)
    for row in range(6):
        assert torch.allclose(method.loss(of_row(answers, row))[0], loss[row])


@pytest.mark.parametrize(("name", "classes"), CASES)
def test_a_row_without_a_label_does_not_depend_on_it(name, classes):
    answers = answers_for(name, classes, unknown=(2,))
    others = answers.labels.clone()
    others[2] = (others[2] + 1) % classes if classes > 1 else 7.0
    views = {view: replace(getattr(answers, view), labels=others) for view in ("dropped", "swapped")}
    changed = replace(answers, labels=others, **views)
    assert torch.allclose(METHODS[name].loss(answers), METHODS[name].loss(changed))


@pytest.mark.parametrize(("name", "classes"), CASES)
def test_the_head_that_is_exported_is_one_map_of_the_classes(name, classes):
    objective = MethodSum(((1.0, name),), classes)
    assert objective.head.shape == (classes, objective.outputs)
    outputs = torch.eye(classes).repeat(1, -(-objective.outputs // classes))[:, : objective.outputs]
    assert torch.allclose(objective.head.sum(1), torch.ones(classes)), "logits are means of outputs"
    assert (objective.head[outputs == 0] == 0).all() or METHODS[name].head is None


@pytest.mark.parametrize("name", [name for name, method in METHODS.items() if "before" in method.needs])
def test_the_first_epoch_of_a_self_taught_student_is_plain(name):
    answers = replace(answers_of(3), before=None)
    assert torch.equal(METHODS[name].loss(answers), supervised(answers))


def test_soft_targets_are_hintons():
    answers = answers_of(4)
    theirs, ours = softmax(answers.teacher / 2, -1), softmax(answers.logits / 2, -1)
    kl = (theirs * (theirs.log() - ours.log())).sum(-1)
    expected = 0.7 * 4 * kl + 0.3 * cross_entropy(answers.logits, answers.labels, reduction="none")
    for name in ("soft-targets", "intermediate"):
        assert torch.allclose(METHODS[name].loss(answers), expected)
    assert torch.allclose(divergence(answers.teacher, answers.teacher, 2.0), torch.zeros(6, dtype=torch.float64))


@given(st.floats(0, 1))
def test_progressive_targets_drift_from_the_label_to_the_students_own_answer(progress):
    answers = answers_of(3, progress=progress)
    share = 0.8 * progress
    targets = (1 - share) * one_hot(answers.labels, 3) + share * softmax(answers.before, -1)
    expected = cross_entropy(answers.logits, targets, reduction="none")
    assert torch.allclose(METHODS["ps-kd"].loss(answers), expected)


def test_a_copy_that_was_wrong_teaches_little():
    answers = answers_of(2)
    right = 20.0 * (2 * one_hot(answers.labels, 2) - 1).double()
    added = [(METHODS["self-kd"].loss(replace(answers, before=b)) - supervised(answers)) for b in (right, -right)]
    assert torch.allclose(added[0], divergence(answers.logits, right, 2.0), rtol=1e-4)
    assert (added[1] < 1e-6).all()


def test_smoothed_labels_give_a_tenth_to_all_classes_alike():
    answers = answers_of(4)
    targets = 0.9 * one_hot(answers.labels, 4) + 0.1 / 4
    expected = -(targets * log_softmax(answers.logits, -1)).sum(-1)
    assert torch.allclose(METHODS["label-smoothing"].loss(answers), expected)


def test_an_anchored_student_pays_for_moving_and_for_what_hidden_tokens_change():
    answers = answers_of(3)
    still = replace(answers, moved=torch.zeros(()), dropped=replace(answers.dropped, logits=answers.logits))
    assert torch.allclose(METHODS["anchor"].loss(still), supervised(answers))
    clean, hidden = softmax(answers.logits, -1), softmax(answers.dropped.logits, -1)
    expected = supervised(answers) + 0.5 * (clean * (clean / hidden).log()).sum(-1) + 0.01 * answers.moved
    assert torch.allclose(METHODS["anchor"].loss(answers), expected)


def test_augmented_labels_are_class_and_order():
    answers = answers_for("augmented-labels", 3)
    straight, crossed, rows = answers.further, answers.swapped.further, torch.arange(6)
    joint = log_softmax(straight, -1)[rows, answers.labels] + log_softmax(crossed, -1)[rows, 3 + answers.labels]
    both = softmax((straight[:, :3] + crossed[:, 3:]) / 2, -1)
    kl = (both * (both.log() - log_softmax(answers.logits, -1))).sum(-1)
    expected = supervised(answers) + kl - joint / 2
    assert torch.allclose(METHODS["augmented-labels"].loss(answers), expected)


def test_experts_lean_to_rarer_classes_and_agree_with_hidden_tokens_where_they_are_right():
    answers, expected = answers_for("experts", 3), torch.zeros(6, dtype=torch.float64)
    heads, others = ([view.logits, view.further[:, :3], view.further[:, 3:]] for view in (answers, answers.dropped))
    for lean, clean, hidden in zip((0, 1, 2), heads, others, strict=True):
        shift = lean * answers.counts.clamp(min=1).log()
        p, q = softmax(clean + shift, -1), softmax(hidden + shift, -1)
        kl = (p * (p / q).log()).sum(-1) * (p.argmax(-1) == answers.labels)
        expected = expected + (cross_entropy(clean + shift, answers.labels, reduction="none") + 0.6 * kl) / 3
    assert torch.allclose(METHODS["experts"].loss(answers), expected)
    assert torch.allclose(MethodSum(((1.0, "experts"),), 2).head, torch.eye(2).repeat(1, 3) / 3)


def test_experts_of_classes_that_are_alike_frequent_do_not_lean():
    answers = answers_for("experts", 3)
    level = replace(answers, counts=torch.full((3,), 7.0))
    assert torch.allclose(METHODS["experts"].loss(level), METHODS["experts"].loss(replace(level, counts=torch.ones(3))))


def test_relations_of_a_teacher_of_any_width_are_met_by_turning_it():
    generator = torch.Generator().manual_seed(0)
    teacher = torch.randn(3, 5, 8, generator=generator, dtype=torch.float64)
    mask = torch.tensor([[1, 1, 1, 1, 1], [1, 1, 1, 0, 0], [1, 0, 0, 0, 0]])
    turned = torch.cat([teacher @ torch.linalg.qr(torch.randn(8, 8, generator=generator).double()).Q, 0 * teacher], -1)
    assert torch.allclose(relation_error(turned, teacher, mask), torch.zeros((), dtype=torch.float64))
    other = torch.randn(3, 5, 4, generator=generator, dtype=torch.float64)
    padded = torch.where(mask[..., None] > 0, other, 7.0)
    assert torch.allclose(relation_error(padded, teacher, mask), relation_error(other, teacher, mask))
    tokens = [a @ a.T / (a.norm(dim=1)[:, None] * a.norm(dim=1)) for a in (other[0], teacher[0])]
    alone = relation_error(other[:1], teacher[:1], mask[:1])
    assert torch.allclose(alone, (tokens[0] - tokens[1]).square().mean()), "one text is like itself"


def test_subclasses_split_their_class_by_what_the_head_does_not_see():
    generator = torch.Generator().manual_seed(0)
    features, head = (torch.randn(*shape, generator=generator) for shape in ((80, 12), (2, 12)))
    logits = features @ head.T
    shares = subclass_probabilities(features, head, logits).unflatten(-1, (2, SUBCLASSES))
    assert torch.allclose(shares.sum(-1), softmax(logits / 2, -1), atol=1e-5)
    assert (shares[:, 0].std(0) > 0.01).all(), "rows differ in every subclass"
    moved = features + torch.randn(80, 2, generator=generator) @ head
    within = shares / shares.sum(-1, keepdim=True)
    again = subclass_probabilities(moved, head, logits).unflatten(-1, (2, SUBCLASSES))
    assert torch.allclose(again / again.sum(-1, keepdim=True), within, atol=1e-4)


def test_subclasses_are_learnt_and_their_sums():
    answers = answers_for("lelp", 2)
    sums = answers.told.reshape(6, 2, SUBCLASSES).sum(-1)
    kl = (answers.told * (answers.told.log() - log_softmax(answers.further / 2, -1))).sum(-1)
    kl = kl + (sums * (sums.log() - log_softmax(answers.logits / 2, -1))).sum(-1)
    assert torch.allclose(METHODS["lelp"].loss(answers), 0.7 * 4 * kl + 0.3 * supervised(answers))


@given(st.integers(0, 50))
def test_the_share_of_labels_is_the_best_one(seed):
    """No other share in [0, 1] does better on the rows that choose (ridge regression, by brute force)."""
    generator = torch.Generator().manual_seed(seed)
    features, chosen = (torch.randn(rows, 4, generator=generator, dtype=torch.float64) for rows in (30, 20))
    weights = torch.randn(4, 2, generator=generator, dtype=torch.float64)
    noise = torch.randn(30, 2, generator=generator, dtype=torch.float64)
    labels, truth = features @ weights + noise, chosen @ weights
    previous = features @ weights + 0.3 * noise.flip(0)
    share = share_of_labels(features, labels, previous, chosen, truth)

    def error(share):
        both = torch.cat([features, torch.ones(30, 1, dtype=torch.float64)], 1)
        ridge = 0.01 * (both.T @ both).diagonal().mean() * torch.eye(5, dtype=torch.float64)
        fitted = torch.linalg.solve(both.T @ both + ridge, both.T @ (share * labels + (1 - share) * previous))
        return (torch.cat([chosen, torch.ones(20, 1, dtype=torch.float64)], 1) @ fitted - truth).square().sum()

    assert 0 <= share <= 1
    assert error(share) <= min(error(other) for other in torch.linspace(0, 1, 21)) + 1e-9


def test_a_guided_student_learns_mixed_targets():
    answers = answers_for("self-guided", 3)
    expected = cross_entropy(answers.logits, answers.told, reduction="none")
    assert torch.allclose(METHODS["self-guided"].loss(answers), expected)
    assert torch.equal(METHODS["self-guided"].loss(replace(answers, told=None)), supervised(answers))


def test_a_scorer_without_labels_learns_what_it_is_told():
    answers = answers_for("trans-encoder", 1)
    expected = (answers.logits - answers.told).square()[:, 0]
    assert torch.equal(METHODS["trans-encoder"].loss(answers), expected)


def test_class_weights_weigh_labels():
    answers, weights = answers_of(3), torch.tensor([0.5, 1.0, 2.0], dtype=torch.float64)
    weighed = supervised(replace(answers, class_weights=weights))
    assert torch.allclose(weighed, supervised(answers) * weights[answers.labels])


def test_a_sum_gives_each_method_its_own_outputs():
    both = read_methods("lelp + 0.5*augmented-labels", taught=True, classes=2, pairs=True)
    assert both.needs == {"teacher", "swapped"}
    assert both.outputs == 2 + 2 * SUBCLASSES + 4
    answers = answers_of(2, further=2 * SUBCLASSES + 4)
    told = softmax(torch.randn(6, 2 * SUBCLASSES, dtype=torch.float64), -1)
    swapped = replace(answers.swapped, further=answers.swapped.further[:, -4:])
    expected = METHODS["lelp"].loss(replace(answers, further=answers.further[:, :-4], told=told)) + 0.5 * METHODS[
        "augmented-labels"
    ].loss(replace(answers, further=answers.further[:, -4:], swapped=swapped))
    assert torch.allclose(both.loss(answers, [told, None]), expected)
    assert both.name == "lelp+0.5*augmented-labels"


def test_what_is_none():
    assert read_methods("auto", True, 2, False).name == "soft-targets"
    assert read_methods("auto", False, 2, False).name == "cross-entropy"
    for text, classes, said in (
        ("soft-target", 2, "did you mean"),
        ("soft-targets", 2, "needs a fine-tuned teacher"),
        ("0*ps-kd", 2, "above 0"),
        ("augmented-labels", 2, "for tasks of classes and pairs, this is one of classes"),
        ("experts", 1, "for tasks of classes, this is one of scores"),
    ):
        with pytest.raises(ConfigError, match=said):
            read_methods(text, taught=False, classes=classes, pairs=False)
