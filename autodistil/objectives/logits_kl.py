"""KL(teacher || student) of the distributions over the next token (Hinton et al., arXiv 1503.02531), of decoders.

The mean over real tokens, at temperature 1. Its gradient by the student's logits is q - p, with q the student's
probabilities and p the teacher's. Logits are never all there at once: see `logits.py`.
"""

from __future__ import annotations

import torch
from torch import Tensor

from autodistil.objectives.logits import term_of


def kl(log_ours: Tensor, log_theirs: Tensor) -> tuple[Tensor, Tensor]:
    """The sum over tokens, and its gradient; see `logits.Comparison`."""
    theirs = log_theirs.exp()
    return torch.dot(theirs.view(-1), log_theirs.sub_(log_ours).view(-1)), log_ours.exp_().sub_(theirs)


TERM = term_of(kl)
