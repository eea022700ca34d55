"""What a person would choose under a budget, without a search.

Hand-made: the teacher's head size, an MLP of four times the width, all layers alike. From the teacher's depth down,
each depth gets the widest width that fits; the first depth that uses at least 85 % of the budget is taken (deep and
thin, but not at the price of leaving the budget unused), and where none does, the one that uses most of it. Of 6 x 384
at length 128:

    60 %: 6 x 288 (57.3 %)    40 %: 6 x 224 (35.4 %)    20 %: 6 x 160 (18.7 %)    10 %: 3 x 160 (9.4 %)

Truncated: the teacher's first layers at full width, as many as fit.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from autodistil.costs.closed_form import flops
from autodistil.space.shape import EncoderShape
from autodistil.space.student import StudentConfig

MLP_RATIO = 4
"""Intermediate size over hidden size, as in BERT."""
ENOUGH = 0.85
"""Share of the budget that a choice should use."""


def forward_flops(student: StudentConfig, shape: EncoderShape, seq_len: int) -> int:
    """Multiply-adds of one text, batch 1."""
    return int(flops([student], shape, seq_len)[0])


def hand_made(teacher: StudentConfig, shape: EncoderShape, seq_len: int, limit: float) -> StudentConfig | None:
    """The student that a person would choose; None where not even the smallest fits.

    Args:
        teacher: its dimensions.
        shape: the other constants of its costs.
        seq_len: tokens that costs are stated at.
        limit: multiply-adds at most.
    """
    widest = list(_widest_of_each_depth(teacher, shape, seq_len, limit))
    deep = next((student for student, cost in widest if cost >= ENOUGH * limit), None)
    return deep or max(widest, key=lambda pair: pair[1], default=(None, 0))[0]


def _widest_of_each_depth(
    teacher: StudentConfig, shape: EncoderShape, seq_len: int, limit: float
) -> Iterator[tuple[StudentConfig, int]]:
    """(student, multiply-adds) from the teacher's depth down, of the depths at which something fits."""
    for depth in range(teacher.num_layers, 0, -1):
        for heads in range(teacher.num_heads, 0, -1):
            width = heads * teacher.head_size
            student = StudentConfig(depth, width, heads, teacher.head_size, MLP_RATIO * width)
            cost = forward_flops(student, shape, seq_len)
            if (
                width <= teacher.hidden_size
                and student.intermediate_size <= teacher.intermediate_size
                and cost <= limit
            ):
                yield student, cost
                break


def truncated(teacher: StudentConfig, shape: EncoderShape, seq_len: int, limit: float) -> StudentConfig | None:
    """The teacher's dimensions with as many layers as fit; None where not even one does."""
    depths = range(teacher.num_layers, 0, -1)
    students = (replace(teacher, num_layers=depth) for depth in depths)
    return next((student for student in students if forward_flops(student, shape, seq_len) <= limit), None)
