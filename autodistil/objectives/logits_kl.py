"""KL(teacher || student) of the distributions over the next token (Hinton et al., arXiv 1503.02531), of decoders.

The mean over real tokens, at temperature 1. Logits are never all there at once: see `logits.py`.
"""

from __future__ import annotations

import torch
from torch import Tensor

from autodistil.models.attention import ModelStates
from autodistil.objectives.logits import loss_of_logits, real_outputs
from autodistil.objectives.term import Mask, Term, TermOptions


def logits_kl(hidden: Tensor, head: Tensor, teacher_hidden: Tensor, teacher_head: Tensor) -> Tensor:
    """The divergence, mean over tokens; differentiable in the student's two.

    Args:
        hidden: the student's last hidden states, (tokens, hidden).
        head: its head, (vocabulary, hidden).
        teacher_hidden: (tokens, teacher's hidden).
        teacher_head: (vocabulary, teacher's hidden).
    """
    theirs, their_head = teacher_hidden.float(), teacher_head.float()

    def divergence(logits: Tensor, tokens: slice) -> tuple[Tensor, Tensor]:
        log_ours = logits.log_softmax(-1)
        log_target = (theirs[tokens] @ their_head.T).log_softmax(-1)
        target = log_target.exp()
        return torch.dot(target.view(-1), log_target.sub_(log_ours).view(-1)), log_ours.exp_().sub_(target)

    return loss_of_logits(hidden, head, divergence)


def loss(student: ModelStates, teacher: ModelStates, mask: Mask, options: TermOptions) -> Tensor:
    """The divergence behind real tokens."""
    return logits_kl(*real_outputs(student, mask), *real_outputs(teacher, mask))


TERM = Term(loss, needs="output", decoders_only=True)
