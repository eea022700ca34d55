"""Self-distillation in rounds: targets are labels and what the last round's student answered, a y + (1 - a) p.

Borup & Andersen 2021 (arXiv 2102.13088): without the labels each round only regularises more. In ridge regression the
best a is a closed form, as answers are linear in targets; here it is that of a ridge regression of the student's
features, on the rows that choose.
"""

import torch
from torch import Tensor
from torch.nn.functional import log_softmax, one_hot, softmax

from autodistil.tasks.adapt.method import Answers, Method, supervised
from autodistil.tasks.adapt.preparation import Preparation

ROUNDS = 3
RIDGE = 0.01
"""Of the features' mean square."""


def loss(answers: Answers) -> Tensor:
    """Cross-entropy with the mixed targets, of scores the squared error; with labels in the first round."""
    if answers.told is None:
        return supervised(answers)
    if answers.scores:
        return (answers.logits - answers.told).square()[:, 0]
    return -(answers.told * log_softmax(answers.logits, dim=-1)).sum(-1)


def share_of_labels(features: Tensor, labels: Tensor, previous: Tensor, chosen: Tensor, truth: Tensor) -> Tensor:
    """The share a of labels in the targets that a ridge regression does best with, in [0, 1].

    With f(y) its answers to the rows that choose after targets y, f(a y + (1 - a) p) = a f(y) + (1 - a) f(p), whose
    squared error is least at a = <truth - f(p), f(y) - f(p)> / ||f(y) - f(p)||^2.

    Args:
        features: of the training rows, (rows, width).
        labels: theirs, (rows, outputs).
        previous: what the last student answered to them, (rows, outputs).
        chosen: features of the rows that choose, (rows that choose, width).
        truth: labels of these, (rows that choose, outputs).
    """
    features, chosen = (torch.cat([part.double(), part.new_ones(len(part), 1)], 1) for part in (features, chosen))
    gram = features.T @ features
    gram.diagonal().add_(RIDGE * gram.diagonal().mean())
    both = torch.cat([labels.double(), previous.double()], 1)
    by_labels, by_previous = (chosen @ torch.linalg.solve(gram, features.T @ both)).chunk(2, 1)
    apart = by_labels - by_previous
    share = ((truth.double() - by_previous) * apart).sum() / apart.square().sum().clamp(min=1e-12)
    return share.clamp(0, 1)


def prepare(preparation: Preparation) -> Tensor:
    """The targets of the last round, (rows, outputs)."""
    targets: Tensor | None = None
    truth = _as_targets(preparation.labels, preparation.classes)
    for _ in range(ROUNDS - 1):
        found = preparation.fitted(preparation.model, targets)
        previous = found.answers if preparation.classes == 1 else softmax(found.answers, dim=-1)
        known, chosen = preparation.known, _as_targets(preparation.chosen, preparation.classes)
        share = share_of_labels(found.features[known], truth[known], previous[known], found.chosen, chosen).float()
        targets = (share * truth + (1 - share) * previous).where(known[:, None], previous)
    assert targets is not None
    return targets


def _as_targets(labels: Tensor, classes: int) -> Tensor:
    return labels[:, None].float() if classes == 1 else one_hot(labels.long(), classes).float()


SELF_GUIDED = Method(loss, prepare=prepare)
