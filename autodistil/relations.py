"""Self-attention relations and their KL divergence in closed form (MiniLMv2, arXiv 2012.15828, equations 2 to 5).

The vectors A (queries, keys or values) of all heads are joined and split again into `A_r` relation heads of width
d = width / A_r. The relation of a head is R = softmax(A A^T / sqrt(d)), and the loss is KL(R_teacher || R_student),
averaged over relation heads and real tokens and summed over queries, keys and values.

Neither needs autograd. With Z = S S^T / sqrt(d), P = softmax(Z), Y and T the teacher's, a row's divergence is
sum(T (Y - Z)) - lse(Y) + lse(Z), and with D = P - T the gradient of its sum is dL/dS = (D + D^T) S / sqrt(d). Both are
formed in the forward, some rows at a time, so that no seq x seq matrix is ever there: memory is linear in the length.
Texts are taken without their padding, those of one length together.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

_CHUNK_ENTRIES = {"cpu": 1 << 18, "cuda": 1 << 24}
"""Entries of a relation matrix formed at a time, by device: what stays in a CPU's cache, what fills a GPU."""


def split_relation_heads(states: Tensor, relation_heads: int) -> Tensor:
    """(batch, heads, seq, head_size) -> (batch, relation_heads, seq, heads * head_size / relation_heads).

    The width must be a multiple of `relation_heads`; no dimension is ever dropped.
    """
    batch, heads, seq, head_size = states.shape
    width = heads * head_size
    assert width % relation_heads == 0, f"{relation_heads} relation heads do not divide width {width}"
    joined = states.transpose(1, 2).reshape(batch, seq, width)
    return joined.view(batch, seq, relation_heads, width // relation_heads).transpose(1, 2)


def relation_scores(states: Tensor) -> Tensor:
    """Scaled scores A A^T / sqrt(d): (..., seq, d) -> (..., seq, seq)."""
    return states @ states.transpose(-1, -2) / math.sqrt(states.shape[-1])


def relation_log_softmax(states: Tensor, mask: Tensor | None) -> Tensor:
    """Log relations (batch, heads, seq, seq) over real keys; `mask` (batch, seq) is True at real tokens."""
    scores = relation_scores(states)
    if mask is not None:
        scores = scores.masked_fill(~mask[:, None, None, :], torch.finfo(scores.dtype).min)
    return scores.log_softmax(-1)


def relation_kl_autograd(student: Tensor, teacher: Tensor, mask: Tensor | None) -> Tensor:
    """The same divergence as `relation_kl` by autograd, to check and to time against.

    Args:
        student: (batch, relation_heads, seq, d_student).
        teacher: (batch, relation_heads, seq, d_teacher).
        mask: (batch, seq), True at real tokens; None where all are.
    """
    log_student = relation_log_softmax(student, mask)
    log_teacher = relation_log_softmax(teacher, mask)
    divergence = (log_teacher.exp() * (log_teacher - log_student)).sum(-1)
    return (divergence * row_weights(student, mask)).sum()


def row_weights(states: Tensor, mask: Tensor | None) -> Tensor:
    """Weight of each row (batch, 1, seq) such that the weighted sum is the mean over heads and real tokens."""
    batch, heads, seq, _ = states.shape
    if mask is None:
        return states.new_full((batch, 1, seq), 1.0 / (heads * batch * seq))
    return mask[:, None, :].to(states.dtype) / (heads * mask.sum())


def relation_kl(student: Tensor, teacher: Tensor, mask: Tensor | None = None) -> Tensor:
    """KL(R_teacher || R_student), mean over relation heads and real tokens; differentiable in `student` only.

    Args:
        student: (batch, relation_heads, seq, d_student).
        teacher: (batch, relation_heads, seq, d_teacher); gets no gradient.
        mask: (batch, seq), True at real tokens; None where all are.
    """
    return _RelationKL.apply(student, teacher, mask)


class _RelationKL(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, student: Tensor, teacher: Tensor, mask: Tensor | None) -> Tensor:
        with torch.autocast(student.device.type, enabled=False):
            loss, gradient = _kl_and_gradient(student.float(), teacher.float(), mask, student.requires_grad)
        if gradient is not None:
            ctx.save_for_backward(gradient.to(student.dtype))
        return loss

    @staticmethod
    def backward(ctx: Any, grad_loss: Tensor) -> tuple[Tensor, None, None]:
        (gradient,) = ctx.saved_tensors
        return gradient * grad_loss, None, None


def _kl_and_gradient(
    student: Tensor, teacher: Tensor, mask: Tensor | None, need_gradient: bool
) -> tuple[Tensor, Tensor | None]:
    """The loss and dL/dstudent."""
    heads, width = student.shape[1], student.shape[-1]
    tokens = student[:, 0, :, 0].numel() if mask is None else mask.sum()
    gradient = torch.zeros_like(student, memory_format=torch.contiguous_format) if need_gradient else None
    loss = student.new_zeros(())
    for texts in _of_one_length(mask):
        ours, theirs = _taken(student, texts), _taken(teacher, texts)
        own = torch.zeros_like(ours) if need_gradient else None
        loss += _sum_over_rows(ours, theirs, own)
        if gradient is not None and own is not None:
            _put_back(gradient, texts, own)
    if gradient is not None:
        gradient *= 1 / (heads * tokens * math.sqrt(width))
    return loss / (heads * tokens), gradient


Texts = tuple[Tensor, Tensor] | None
"""Numbers of texts in the batch (texts, 1) and of their real tokens (texts, tokens); None: all, whole."""


def _of_one_length(mask: Tensor | None) -> Iterator[Texts]:
    """The texts of a batch, those with as many real tokens together."""
    if mask is None:
        yield None
        return
    lengths = mask.sum(1)
    for length in lengths.unique().tolist():
        if length:
            texts = (lengths == length).nonzero()
            yield texts, mask[texts[:, 0]].nonzero()[:, 1].view(-1, length)


def _taken(states: Tensor, texts: Texts) -> Tensor:
    """Real tokens of some texts, (batch, heads, seq, d) -> (texts * heads, tokens, d), contiguous."""
    if texts is not None:
        states = states[texts[0], :, texts[1]].transpose(1, 2)
    return states.reshape(-1, *states.shape[2:]).contiguous()


def _put_back(states: Tensor, texts: Texts, values: Tensor) -> None:
    """Write what `_taken` took."""
    if texts is None:
        states.copy_(values.view_as(states))
    else:
        per_text = values.view(len(texts[0]), -1, *values.shape[1:])
        states[texts[0], :, texts[1]] = per_text.transpose(1, 2)


def _sum_over_rows(student: Tensor, teacher: Tensor, gradient: Tensor | None) -> Tensor:
    """Sum of the divergences of all rows of relations (relations, seq, d); its gradient, times sqrt(d), is added."""
    relations, seq, _ = student.shape
    entries = _CHUNK_ENTRIES.get(student.device.type, min(_CHUNK_ENTRIES.values()))
    together, rows = max(1, entries // seq**2), min(seq, max(1, entries // seq))
    loss = student.new_zeros(())
    for first in range(0, relations, together):
        part = slice(first, first + together)
        grad = None if gradient is None else gradient[part]
        for start in range(0, seq, rows):
            loss += _chunk(student[part], teacher[part], slice(start, start + rows), grad)
    return loss


def _chunk(student: Tensor, teacher: Tensor, rows: slice, gradient: Tensor | None) -> Tensor:
    """As `_sum_over_rows` for some rows of some relations."""
    scores, relation, normaliser = _relation_rows(student, rows)
    teacher_scores, target, teacher_normaliser = _relation_rows(teacher, rows)
    cross = torch.dot(teacher_scores.sub_(scores).view(-1), target.view(-1))
    if gradient is not None:
        difference = relation.sub_(target)
        gradient[:, rows].baddbmm_(difference, student)
        gradient.baddbmm_(difference.transpose(1, 2), student[:, rows])
    return cross + (normaliser - teacher_normaliser).sum()


def _relation_rows(states: Tensor, rows: slice) -> tuple[Tensor, Tensor, Tensor]:
    """Scores and relations (relations, rows, seq), and the log-sum-exp of the scores (relations, rows)."""
    scores = (states[:, rows] * (1 / math.sqrt(states.shape[-1]))) @ states.transpose(1, 2)
    relation = scores.softmax(-1)
    # The largest entry of a softmax is 1 / sum(exp(scores - max)): cheaper than another pass of exponentials.
    return scores, relation, scores.amax(-1) - relation.amax(-1).log()
