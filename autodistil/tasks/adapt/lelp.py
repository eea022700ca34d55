"""Pseudo-subclasses: what the teacher's embeddings say within a class, beside what its head says of classes.

LELP (Loo et al. 2024, arXiv 2409.20449): embeddings without what the head reads (off the span of its rows), the leading
principal components of each class, turned at random so that all say alike much; a row's share of a subclass is its
class's probability times a softmax over these directions. The student learns the subclasses. Departures: their sums are
taught to a plain head beside, since a Hugging Face classifier has one; five subclasses a class.
"""

import torch
from torch import Tensor
from torch.nn.functional import softmax

from autodistil.tasks.adapt.method import CLASSES, TEACHER, Answers, Method, divergence_from, supervised
from autodistil.tasks.adapt.preparation import Preparation

SUBCLASSES = 5
TEMPERATURE = 2.0
SHARE = 0.7
"""Of the loss that is the teacher's, of rows that have a label; of others it is all."""


def loss(answers: Answers) -> Tensor:
    """0.7 T^2 (KL of subclasses + KL of their sums to the plain head) + 0.3 CE, at T = 2."""
    assert answers.further is not None
    assert answers.told is not None
    told = answers.told
    sums = told.unflatten(-1, (answers.logits.shape[1], -1)).sum(-1)
    taught = TEMPERATURE**2 * (
        divergence_from(answers.further / TEMPERATURE, told) + divergence_from(answers.logits / TEMPERATURE, sums)
    )
    return taught.where(~answers.known, SHARE * taught + (1 - SHARE) * supervised(answers))


def subclass_probabilities(features: Tensor, head: Tensor, logits: Tensor, seed: int = 0) -> Tensor:
    """What the student is to say, (rows, classes * subclasses), a class after the other.

    Args:
        features: the teacher's embeddings, (rows, width).
        head: its last linear map, (classes, width).
        logits: its answers, (rows, classes).
        seed: of the random turn.
    """
    features, head = features.double(), head.double()
    seen = torch.linalg.svd(head, full_matrices=False).Vh
    unseen = features - features @ seen.T @ seen
    of_class, shares = logits.argmax(-1), []
    generator = torch.Generator().manual_seed(seed)
    turn = torch.linalg.qr(torch.randn(SUBCLASSES, SUBCLASSES, generator=generator, dtype=torch.float64)).Q
    for number in range(logits.shape[1]):
        own = unseen[of_class == number] if (of_class == number).sum() > SUBCLASSES else unseen
        mean = own.mean(0)
        found = torch.linalg.svd(own - mean, full_matrices=False).Vh[:SUBCLASSES]
        directions = found.new_zeros(SUBCLASSES, found.shape[1])
        directions[: len(found)] = found
        said = (unseen - mean) @ directions.T @ turn
        deviation = ((own - mean) @ directions.T @ turn).std().clamp(min=1e-9)
        shares.append(softmax(said / deviation, dim=-1))
    classes = softmax(logits.double() / TEMPERATURE, dim=-1)
    return (classes[:, :, None] * torch.stack(shares, dim=1)).flatten(1).float()


def prepare(preparation: Preparation) -> Tensor:
    """Each row's subclasses."""
    teacher = preparation.teacher
    assert teacher is not None
    return subclass_probabilities(teacher.features, teacher.head, teacher.answers, preparation.seed)


LELP = Method(
    loss,
    frozenset({TEACHER}),
    only=frozenset({CLASSES}),
    further=lambda classes: SUBCLASSES * classes,
    prepare=prepare,
)
