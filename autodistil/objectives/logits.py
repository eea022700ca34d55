"""Losses of next-token predictions without a matrix of logits (fused with the head: Liger Kernel, arXiv 2410.10989).

Logits are Z = X W^T with last hidden states X (tokens, hidden) and the head W (vocabulary, hidden). Both losses have a
closed gradient by the logits, D: softmax(Z) - softmax(Y) for the KL divergence from a teacher's logits Y, softmax(Z)
less one at the next token for the cross-entropy. So dX = D W and dW = D^T X are formed in the forward, some tokens at a
time: memory is that of a few tokens' logits, whatever the length of the texts.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

_CHUNK_ENTRIES = {"cpu": 1 << 22, "cuda": 1 << 27}
"""Logits formed at a time, by device."""

Divergence = Callable[[Tensor, slice], tuple[Tensor, Tensor]]
"""Logits of some tokens (tokens, vocabulary), and which -> their summed loss, and its gradient by the logits."""


def logits_kl(hidden: Tensor, head: Tensor, teacher_hidden: Tensor, teacher_head: Tensor) -> Tensor:
    """KL(teacher || student) of next-token distributions, mean over tokens; differentiable in the student's two.

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

    return _FromLogits.apply(hidden, head, divergence)


def next_token_nats(hidden: Tensor, head: Tensor, tokens: Tensor) -> Tensor:
    """Cross-entropy of the tokens that come next, in nats, mean over tokens; its exponential is the perplexity.

    Args:
        hidden: last hidden states, (tokens, hidden).
        head: (vocabulary, hidden).
        tokens: the id behind each, (tokens,).
    """

    def divergence(logits: Tensor, part: slice) -> tuple[Tensor, Tensor]:
        log_ours, at = logits.log_softmax(-1), tokens[part, None]
        loss = -log_ours.gather(1, at).sum()
        return loss, log_ours.exp_().scatter_add_(1, at, -torch.ones_like(at, dtype=log_ours.dtype))

    return _FromLogits.apply(hidden, head, divergence)


class _FromLogits(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, hidden: Tensor, head: Tensor, divergence: Divergence) -> Tensor:
        with torch.autocast(hidden.device.type, enabled=False):
            needed = hidden.requires_grad or head.requires_grad
            loss, *gradients = _loss_and_gradients(hidden.float(), head.float(), divergence, needed)
        if needed:
            ctx.save_for_backward(gradients[0].to(hidden.dtype), gradients[1].to(head.dtype))
        return loss

    @staticmethod
    def backward(ctx: Any, grad_loss: Tensor) -> tuple[Tensor, Tensor, None]:
        by_hidden, by_head = ctx.saved_tensors
        return by_hidden * grad_loss, by_head * grad_loss, None


def _loss_and_gradients(
    hidden: Tensor, head: Tensor, divergence: Divergence, needed: bool
) -> tuple[Tensor, Tensor, Tensor]:
    """The mean loss over tokens and, where needed, its gradients by the hidden states and by the head."""
    entries = _CHUNK_ENTRIES.get(hidden.device.type, min(_CHUNK_ENTRIES.values()))
    count, rows = len(hidden), max(1, entries // len(head))
    by_hidden, by_head = (torch.zeros_like(part) if needed else part[:0] for part in (hidden, head))
    loss = hidden.new_zeros(())
    for start in range(0, count, rows):
        part = slice(start, start + rows)
        one, gradient = divergence(hidden[part] @ head.T, part)
        loss += one
        if needed:
            torch.mm(gradient, head, out=by_hidden[part])
            by_head.addmm_(gradient.T, hidden[part])
    scale = 1 / max(1, count)
    return loss * scale, by_hidden.mul_(scale), by_head.mul_(scale)
