"""Cross-entropy of the text's own next tokens, in nats; its exponential is the perplexity. Of decoders.

The mean over real tokens that have one behind them. It looks at the text and not at the teacher, so it does not vanish
for the teacher itself. Logits are never all there at once: see `logits.py`.
"""

from __future__ import annotations

import torch
from torch import Tensor

from autodistil.models.attention import ModelStates
from autodistil.objectives.logits import loss_of_logits, real_outputs
from autodistil.objectives.term import Mask, Term, TermOptions

NAME = "next-token"


def next_token_nats(hidden: Tensor, head: Tensor, tokens: Tensor) -> Tensor:
    """Cross-entropy of the tokens that come next, in nats, mean over tokens.

    Args:
        hidden: last hidden states, (tokens, hidden).
        head: (vocabulary, hidden).
        tokens: the id behind each, (tokens,).
    """

    def divergence(logits: Tensor, part: slice) -> tuple[Tensor, Tensor]:
        log_ours, at = logits.log_softmax(-1), tokens[part, None]
        loss = -log_ours.gather(1, at).sum()
        return loss, log_ours.exp_().scatter_add_(1, at, -torch.ones_like(at, dtype=log_ours.dtype))

    return loss_of_logits(hidden, head, divergence)


def loss(student: ModelStates, teacher: ModelStates, mask: Mask, options: TermOptions) -> Tensor:
    """The mean over tokens that are followed by one."""
    assert teacher.tokens is not None, "a teacher that is no decoder"
    real = torch.ones_like(teacher.tokens, dtype=torch.bool) if mask is None else mask
    before, after = real.clone(), real.clone()
    before[:, :-1] &= real[:, 1:]
    before[:, -1] = after[:, 0] = False
    return next_token_nats(*real_outputs(student, before), teacher.tokens[after])


TERM = Term(loss, mean_over="predictions", needs="output", decoders_only=True)
