"""The relation loss of `relation_kl.py` as Triton kernels: one pass forward, one pass backward, no seq x seq matrix.

Forward: for a block of rows, the log-sum-exp of both sides and sum(exp(y - m) (y - z)) are kept up to date while blocks
of columns go by (online softmax; Milakov & Gimelshein, arXiv 1805.02867; FlashAttention, arXiv 2205.14135). Backward:
dL/dS = (G + G^T) S / sqrt(d) needs G_ij and G_ji, and as Z and Y are symmetric both come from the same tile, once with
the row's and once with the column's normaliser. Exponents are to the base 2, as the hardware has them.

Triton is an optional dependency. Under `TRITON_INTERPRET=1` the kernels run on a CPU, to be tested.
"""

from __future__ import annotations

import math
from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

_ROWS, _COLUMNS = 64, 64
"""Tile of a relation matrix."""


@triton.jit
def _load(pointer, at, real, stride, width, block: tl.constexpr):
    """Rows `at` of states, zero where not `real` and beyond `width`: (rows, block)."""
    dims = tl.arange(0, block)
    return tl.load(
        pointer + at[:, None] * stride + dims[None, :], mask=real[:, None] & (dims[None, :] < width), other=0.0
    )


@triton.jit
def _scores(ours, theirs, scale, precision: tl.constexpr):
    """Scaled scores of two blocks of one model's states, to the base 2: (rows, columns)."""
    return tl.dot(ours, tl.trans(theirs), input_precision=precision) * scale


@triton.jit
def _forward_kernel(
    student, teacher, mask, divergence, student_lse, teacher_lse,
    s_text, s_head, s_token, t_text, t_head, t_token, m_text,
    heads, seq, s_width, t_width, s_scale, t_scale,
    S_BLOCK: tl.constexpr, T_BLOCK: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr,
    S_PRECISION: tl.constexpr, T_PRECISION: tl.constexpr,
):  # fmt: skip
    """Divergence (in bits) and log-sum-exps of a block of rows of one relation."""
    relation = tl.program_id(0).to(tl.int64)
    text, head = relation // heads, relation % heads
    student += text * s_text + head * s_head
    teacher += text * t_text + head * t_head
    mask += text * m_text
    rows = tl.program_id(1) * ROWS + tl.arange(0, ROWS)
    inside = rows < seq
    s_rows = _load(student, rows, inside, s_token, s_width, S_BLOCK)
    t_rows = _load(teacher, rows, inside, t_token, t_width, T_BLOCK)
    s_max = tl.full((ROWS,), float("-inf"), tl.float32)
    t_max = tl.full((ROWS,), float("-inf"), tl.float32)
    s_sum = tl.zeros((ROWS,), tl.float32)
    t_sum = tl.zeros((ROWS,), tl.float32)
    cross = tl.zeros((ROWS,), tl.float32)
    for start in range(0, seq, COLUMNS):
        columns = start + tl.arange(0, COLUMNS)
        real = tl.load(mask + columns, mask=columns < seq, other=0) != 0
        z = _scores(s_rows, _load(student, columns, real, s_token, s_width, S_BLOCK), s_scale, S_PRECISION)
        y = _scores(t_rows, _load(teacher, columns, real, t_token, t_width, T_BLOCK), t_scale, T_PRECISION)
        gap = y - z
        z = tl.where(real[None, :], z, float("-inf"))
        y = tl.where(real[None, :], y, float("-inf"))
        s_top = tl.maximum(s_max, tl.max(z, 1))
        t_top = tl.maximum(t_max, tl.max(y, 1))
        # Where no real token was seen yet the maximum is -inf, and -inf - -inf no number.
        s_base = tl.where(s_top == float("-inf"), 0.0, s_top)
        t_base = tl.where(t_top == float("-inf"), 0.0, t_top)
        target = tl.exp2(y - t_base[:, None])
        rescale = tl.exp2(t_max - t_base)
        cross = cross * rescale + tl.sum(target * gap, 1)
        t_sum = t_sum * rescale + tl.sum(target, 1)
        s_sum = s_sum * tl.exp2(s_max - s_base) + tl.sum(tl.exp2(z - s_base[:, None]), 1)
        s_max, t_max = s_top, t_top
    weighed = inside & (tl.load(mask + rows, mask=inside, other=0) != 0)
    s_lse = s_max + tl.log2(s_sum)
    t_lse = t_max + tl.log2(t_sum)
    tl.store(divergence + relation * seq + rows, tl.where(weighed, cross / t_sum - t_lse + s_lse, 0.0), mask=inside)
    tl.store(student_lse + relation * seq + rows, s_lse, mask=inside)
    tl.store(teacher_lse + relation * seq + rows, t_lse, mask=inside)


@triton.jit
def _backward_kernel(
    student, teacher, mask, gradient, student_lse, teacher_lse,
    s_text, s_head, s_token, t_text, t_head, t_token, m_text,
    heads, seq, s_width, t_width, s_scale, t_scale,
    S_BLOCK: tl.constexpr, T_BLOCK: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr,
    S_PRECISION: tl.constexpr, T_PRECISION: tl.constexpr,
):  # fmt: skip
    """(D + D^T) S for a block of rows of one relation, D = P - T."""
    relation = tl.program_id(0).to(tl.int64)
    text, head = relation // heads, relation % heads
    student += text * s_text + head * s_head
    teacher += text * t_text + head * t_head
    mask += text * m_text
    rows = tl.program_id(1) * ROWS + tl.arange(0, ROWS)
    inside = rows < seq
    row_real = tl.load(mask + rows, mask=inside, other=0) != 0
    s_rows = _load(student, rows, inside, s_token, s_width, S_BLOCK)
    t_rows = _load(teacher, rows, inside, t_token, t_width, T_BLOCK)
    s_row_lse = tl.load(student_lse + relation * seq + rows, mask=inside, other=0.0)
    t_row_lse = tl.load(teacher_lse + relation * seq + rows, mask=inside, other=0.0)
    result = tl.zeros((ROWS, S_BLOCK), tl.float32)
    for start in range(0, seq, COLUMNS):
        columns = start + tl.arange(0, COLUMNS)
        real = tl.load(mask + columns, mask=columns < seq, other=0) != 0
        s_columns = _load(student, columns, real, s_token, s_width, S_BLOCK)
        z = _scores(s_rows, s_columns, s_scale, S_PRECISION)
        y = _scores(t_rows, _load(teacher, columns, real, t_token, t_width, T_BLOCK), t_scale, T_PRECISION)
        s_lse = tl.load(student_lse + relation * seq + columns, mask=columns < seq, other=0.0)
        t_lse = tl.load(teacher_lse + relation * seq + columns, mask=columns < seq, other=0.0)
        both = tl.exp2(z - s_row_lse[:, None]) - tl.exp2(y - t_row_lse[:, None])
        both += tl.exp2(z - s_lse[None, :]) - tl.exp2(y - t_lse[None, :])
        both = tl.where(row_real[:, None] & real[None, :], both, 0.0)
        result += tl.dot(both.to(s_columns.dtype), s_columns, input_precision=S_PRECISION)
    dims = tl.arange(0, S_BLOCK)
    place = gradient + (relation * seq + rows[:, None]) * s_width + dims[None, :]
    tl.store(place, result, mask=inside[:, None] & (dims[None, :] < s_width))


def relation_kl_triton(student: Tensor, teacher: Tensor, mask: Tensor | None = None) -> Tensor:
    """The loss `relation_kl.relation_kl` on a CUDA device (or any under Triton's interpreter)."""
    return _TritonRelationKL.apply(student, teacher, mask)


class _TritonRelationKL(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, student: Tensor, teacher: Tensor, mask: Tensor | None) -> Tensor:
        batch, heads, seq, _ = student.shape
        student, teacher = _dense_rows(student), _dense_rows(teacher)
        real = student.new_ones((batch, seq), dtype=torch.int8) if mask is None else mask.to(torch.int8).contiguous()
        divergence, *lse = (student.new_empty((batch, heads, seq), dtype=torch.float32) for _ in range(3))
        _launch(_forward_kernel, student, teacher, real, divergence, *lse)
        count = heads * real.sum()
        ctx.save_for_backward(student, teacher, real, count, *lse)
        return divergence.sum() * (math.log(2) / count)

    @staticmethod
    def backward(ctx: Any, grad_loss: Tensor) -> tuple[Tensor, None, None]:
        student, teacher, real, count, *lse = ctx.saved_tensors
        gradient = torch.empty(student.shape, dtype=torch.float32, device=student.device)
        _launch(_backward_kernel, student, teacher, real, gradient, *lse)
        gradient *= grad_loss / (count * math.sqrt(student.shape[-1]))
        return gradient.to(student.dtype), None, None


def _launch(kernel: Any, student: Tensor, teacher: Tensor, real: Tensor, result: Tensor, *lse: Tensor) -> None:
    batch, heads, seq, width = student.shape
    kernel[(batch * heads, triton.cdiv(seq, _ROWS))](
        *(student, teacher, real, result, *lse),
        *(*student.stride()[:3], *teacher.stride()[:3], real.stride(0)),
        *(heads, seq, width, teacher.shape[-1], _scale(width), _scale(teacher.shape[-1])),
        **{"S_BLOCK": _block(width), "T_BLOCK": _block(teacher.shape[-1]), "ROWS": _ROWS, "COLUMNS": _COLUMNS},
        **{"S_PRECISION": _precision(student), "T_PRECISION": _precision(teacher)},
    )


def _scale(width: int) -> float:
    """1 / sqrt(d), and from nats to bits."""
    return math.log2(math.e) / math.sqrt(width)


def _block(width: int) -> int:
    """Smallest block of a matrix product that holds the width."""
    return max(16, triton.next_power_of_2(width))


def _precision(states: Tensor) -> str:
    """The precision of a product: that which PyTorch's own products of this type are told to have."""
    allowed = states.dtype == torch.float32 and torch.backends.cuda.matmul.allow_tf32
    return "tf32" if allowed else "ieee"


def _dense_rows(states: Tensor) -> Tensor:
    """States whose last dimension is dense, as the kernels take them; relation heads are views and stay such."""
    return states if states.stride(-1) == 1 else states.contiguous()
