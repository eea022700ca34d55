"""Self-distillation: the labels, and one's own copy of an epoch ago as far as that was right.

CE + w T^2 KL at T = 2, with w how good the copy was (Carrino et al. 2023, arXiv 2309.17134: its mAP@k on the batch).
Departure: w is of each row, what the copy gave to the right answer. No teacher is needed.
"""

import torch
from torch import Tensor
from torch.nn.functional import softmax

from autodistil.tasks.adapt.method import BEFORE, Answers, Method, divergence, supervised

TEMPERATURE = 2.0


def loss(answers: Answers) -> Tensor:
    """Of scores, the copy weighs e^-(its squared error)."""
    labelled = supervised(answers)
    if answers.before is None:
        return labelled
    if answers.scores:
        trust = torch.exp(-(answers.before[:, 0] - answers.labels).square())
    else:
        labels = answers.labels.where(answers.known, 0).long()
        trust = softmax(answers.before, dim=-1).gather(1, labels[:, None])[:, 0]
    trust = trust.where(answers.known, torch.ones_like(trust))
    return labelled + trust * divergence(answers.logits, answers.before, TEMPERATURE)


SELF_KD = Method(loss, frozenset({BEFORE}))
