"""Self-attention relations and their KL divergence in closed form (MiniLMv2, arXiv 2012.15828, equations 2 to 5).

The vectors A (queries, keys or values) of all heads are joined and split again into `A_r` relation heads of width
d = width / A_r. The relation of a head is R = softmax(A A^T / sqrt(d)), and the loss is KL(R_teacher || R_student),
averaged over relation heads and real tokens and summed over queries, keys and values.

The gradient needs no autograd. With Z = S S^T / sqrt(d), P = softmax(Z), T the teacher's relation and w the weight of
a row, dL/dZ = w (P - T) and, as Z is symmetric in S, dL/dS = (G + G^T) S / sqrt(d) with G = dL/dZ. Both are formed
head by head in the forward, so no seq x seq matrix outlives its chunk.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

_CHUNK_ENTRIES = 1 << 20
"""Entries of the relation matrices formed at a time: small enough to stay in a CPU's cache, large enough for a GPU."""


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
    """The loss and dL/dstudent, one chunk of sequences and heads at a time."""
    batch, heads, seq, _ = student.shape
    weights = row_weights(student, mask).expand(batch, heads, seq)
    gradient = torch.empty_like(student) if need_gradient else None
    loss = student.new_zeros(())
    chunk = max(1, _CHUNK_ENTRIES // (seq * seq))
    for row in range(batch):
        row_mask = None if mask is None else mask[row]
        for start in range(0, heads, chunk):
            part = (row, slice(start, start + chunk))
            value, grad = _chunk(student[part], teacher[part], row_mask, weights[part], need_gradient)
            loss += value
            if gradient is not None and grad is not None:
                gradient[part] = grad
    return loss, gradient


def _chunk(
    student: Tensor, teacher: Tensor, mask: Tensor | None, weights: Tensor, need_gradient: bool
) -> tuple[Tensor, Tensor | None]:
    """As `_kl_and_gradient` for (heads, seq, d) of one sequence."""
    log_student, log_teacher = relation_scores(student), relation_scores(teacher)
    if mask is not None:
        lowest = torch.finfo(log_student.dtype).min
        log_student.masked_fill_(~mask, lowest)
        log_teacher.masked_fill_(~mask, lowest)
    log_student, log_teacher = log_student.log_softmax(-1), log_teacher.log_softmax(-1)
    relation = log_teacher.exp()
    loss = (log_teacher.sub_(log_student).mul_(relation).sum(-1) * weights).sum()
    if not need_gradient:
        return loss, None
    scores_grad = log_student.exp_().sub_(relation).mul_(weights[..., None])
    symmetric = scores_grad + scores_grad.transpose(-1, -2)
    return loss, (symmetric @ student) / math.sqrt(student.shape[-1])
