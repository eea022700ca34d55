"""Generalised Jensen-Shannon divergence of the distributions over the next token (GKD, arXiv 2306.13649), of decoders.

    m = b p + (1 - b) q,   JS = b KL(p || m) + (1 - b) KL(q || m)

with the teacher's probabilities p and the student's q: eq. 2 of GKD, b = 0.5. It is bounded, by log 2 at b = 0.5. The
mean over real tokens, at temperature 1. With r = log q - log m its gradient by the student's logits is
(1 - b) q (r - sum q r).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from autodistil.objectives.logits import term_of

BETA = 0.5


def js(log_ours: Tensor, log_theirs: Tensor) -> tuple[Tensor, Tensor]:
    """The sum over tokens, and its gradient; see `logits.Comparison`."""
    log_mixed = torch.logaddexp(log_theirs + math.log(BETA), log_ours + math.log1p(-BETA))
    theirs = torch.dot(log_theirs.exp().view(-1), log_theirs.sub_(log_mixed).view(-1))
    ratio, ours = log_mixed.neg_().add_(log_ours), log_ours.exp_()
    by_token = (ours * ratio).sum(-1, keepdim=True)
    return BETA * theirs + (1 - BETA) * by_token.sum(), ratio.sub_(by_token).mul_(ours).mul_(1 - BETA)


TERM = term_of(js)
