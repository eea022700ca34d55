"""KL(student || teacher) of the distributions over the next token (MiniLLM, Gu et al., arXiv 2306.08543), of decoders.

It shuns what the teacher finds unlikely, where KL(teacher || student) shuns missing what the teacher finds likely. The
mean over real tokens, at temperature 1. With r = log q - log p of the student's probabilities q and the teacher's p its
gradient by the student's logits is q (r - sum q r). Departure: MiniLLM takes it over whole texts that the student
writes, by policy gradients; this is its part of single tokens, over any text (`--on-policy` has the student write it).
"""

from __future__ import annotations

from torch import Tensor

from autodistil.objectives.logits import term_of


def reverse_kl(log_ours: Tensor, log_theirs: Tensor) -> tuple[Tensor, Tensor]:
    """The sum over tokens, and its gradient; see `logits.Comparison`."""
    ratio, ours = log_theirs.neg_().add_(log_ours), log_ours.exp_()
    by_token = (ours * ratio).sum(-1, keepdim=True)
    return by_token.sum(), ratio.sub_(by_token).mul_(ours)


TERM = term_of(reverse_kl)
