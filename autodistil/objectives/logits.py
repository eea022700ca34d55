"""Losses of next-token predictions without a matrix of logits (fused with the head: Liger Kernel, arXiv 2410.10989).

Logits are Z = X W^T with last hidden states X (tokens, hidden) and the head W (vocabulary, hidden). The losses have a
closed gradient by the logits, D, such as softmax(Z) - softmax(Y) for the KL divergence from a teacher's logits Y, or
softmax(Z) less one at the next token for the cross-entropy. So dX = D W and dW = D^T X are formed in the forward, some
tokens at a time: memory is that of a few tokens' logits, whatever the length of the texts.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from autodistil.models.attention import ModelStates
from autodistil.objectives.term import Mask, Term, TermOptions, with_gradients

_CHUNK_ENTRIES = {"cpu": 1 << 22, "cuda": 1 << 27}
"""Logits formed at a time, by device."""

Divergence = Callable[[Tensor, slice], tuple[Tensor, Tensor]]
"""Logits of some tokens (tokens, vocabulary), and which -> their summed loss, and its gradient by the logits."""

Comparison = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]
"""Log-probabilities of the student and of the teacher, (tokens, vocabulary) each, which it may overwrite -> their
summed divergence, and its gradient by the student's logits."""


def loss_of_logits(hidden: Tensor, head: Tensor, divergence: Divergence) -> Tensor:
    """The mean over tokens of a divergence of logits; differentiable in both.

    Args:
        hidden: last hidden states, (tokens, hidden).
        head: (vocabulary, hidden).
        divergence: see `Divergence`.
    """
    return with_gradients(partial(_loss_and_gradients, divergence), hidden, head)


def divergence_of_logits(
    compare: Comparison, hidden: Tensor, head: Tensor, teacher_hidden: Tensor, teacher_head: Tensor
) -> Tensor:
    """A divergence of two models' next tokens, mean over tokens; differentiable in the student's two.

    Args:
        compare: see `Comparison`.
        hidden: the student's last hidden states, (tokens, hidden).
        head: its head, (vocabulary, hidden).
        teacher_hidden: (tokens, teacher's hidden).
        teacher_head: (vocabulary, teacher's hidden).
    """
    theirs, their_head = teacher_hidden.float(), teacher_head.float()

    def divergence(logits: Tensor, tokens: slice) -> tuple[Tensor, Tensor]:
        return compare(logits.log_softmax(-1), (theirs[tokens] @ their_head.T).log_softmax(-1))

    return loss_of_logits(hidden, head, divergence)


def term_of(compare: Comparison) -> Term:
    """The term of an objective that is this divergence behind real tokens; of decoders."""

    def loss(student: ModelStates, teacher: ModelStates, mask: Mask, options: TermOptions) -> Tensor:
        return divergence_of_logits(compare, *real_outputs(student, mask), *real_outputs(teacher, mask))

    return Term(loss, needs="output", decoders_only=True)


def real_outputs(states: ModelStates, mask: Tensor | None) -> tuple[Tensor, Tensor]:
    """Last hidden states of the tokens of a mask (batch, seq), all where it is None: (tokens, hidden); and the head."""
    assert states.output is not None, "the forward was run without its output"
    assert states.head is not None, "a model without a language-model head"
    return states.output.flatten(0, 1) if mask is None else states.output[mask], states.head


def _loss_and_gradients(
    divergence: Divergence, needed: bool, hidden: Tensor, head: Tensor
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
