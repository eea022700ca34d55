"""Three heads for frequent, all and rare classes, each the same with tokens hidden: for long tails.

MDCS (Zhao et al. 2023, arXiv 2308.09922): expert e learns z + l_e log n, n the rows of each class, so that its z leans
to rarer classes the larger l_e is; KL from its clean view to its view with tokens hidden, on rows that the clean view
has right. What is exported is the mean of the heads. Departures: l = 0, 1, 2; the experts share all but the head.
"""

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, softmax

from autodistil.tasks.adapt.method import CLASSES, COUNTS, DROPPED, Answers, Method, divergence_from

LEANS = (0.0, 1.0, 2.0)
CONSISTENCY = 0.6


def loss(answers: Answers) -> Tensor:
    """Mean over the experts; 0 where there is no label."""
    assert answers.counts is not None
    assert answers.dropped is not None
    prior = answers.counts.clamp(min=1).log()
    labels = answers.labels.where(answers.known, 0).long()
    total = torch.zeros_like(answers.logits[:, 0])
    for lean, clean, hidden in zip(LEANS, _experts(answers), _experts(answers.dropped), strict=True):
        shifted = clean + lean * prior
        right = shifted.argmax(-1) == labels
        same = divergence_from(hidden + lean * prior, softmax(shifted.detach(), dim=-1))
        supervised = cross_entropy(shifted, labels, weight=answers.class_weights, reduction="none")
        total = total + supervised + CONSISTENCY * same * right
    return (total / len(LEANS)).where(answers.known, torch.zeros_like(total))


def _experts(answers: Answers) -> tuple[Tensor, ...]:
    assert answers.further is not None
    return answers.logits, *answers.further.chunk(len(LEANS) - 1, dim=-1)


EXPERTS = Method(
    loss,
    frozenset({DROPPED, COUNTS}),
    only=frozenset({CLASSES}),
    further=lambda classes: (len(LEANS) - 1) * classes,
    head=lambda classes: torch.eye(classes).repeat(1, len(LEANS)) / len(LEANS),
)
