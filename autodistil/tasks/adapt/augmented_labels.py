"""Self-supervised label augmentation of pairs: the label is class and order of the two texts, known to further outputs.

Lee et al. 2020 (arXiv 1910.05872, eq. 4 and 6, "SLA+SD"): joint cross-entropy of both orders, KL from the mean of the
joint logits of the right order to the plain head, and the plain head's cross-entropy.
"""

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, softmax

from autodistil.tasks.adapt.method import (
    CLASSES,
    PAIRS,
    SWAPPED,
    Answers,
    Method,
    divergence_from,
    supervised,
)


def loss(answers: Answers) -> Tensor:
    """Of rows without a label the KL alone."""
    assert answers.further is not None
    assert answers.swapped is not None
    assert answers.swapped.further is not None
    classes = answers.logits.shape[1]
    straight, crossed = answers.further, answers.swapped.further
    labels = answers.labels.where(answers.known, 0).long()
    joint = (
        cross_entropy(straight, labels, reduction="none") + cross_entropy(crossed, classes + labels, reduction="none")
    ) / 2
    mean = (straight[:, :classes] + crossed[:, classes:]) / 2
    taught = divergence_from(answers.logits, softmax(mean.detach(), dim=-1))
    return supervised(answers) + taught + joint.where(answers.known, torch.zeros_like(joint))


AUGMENTED_LABELS = Method(
    loss, frozenset({SWAPPED}), only=frozenset({CLASSES, PAIRS}), further=lambda classes: 2 * classes
)
