"""Sandwich over a set that grows from the largest student to all of them by half-time.

Progressive shrinking (once-for-all, arXiv 1908.09791). Departure: by size instead of axis by axis.
"""

from __future__ import annotations

from autodistil.space.space import by_size
from autodistil.space.student import StudentConfig
from autodistil.training.sampling.draw import Draw


def sample(draw: Draw) -> list[StudentConfig]:
    """The sandwich of those that are admitted by now."""
    ordered = by_size(draw.students.architectures)[::-1]
    admitted = ordered[: max(1, round(min(1.0, 2 * draw.progress) * len(ordered)))]
    ends = list(dict.fromkeys((admitted[0], admitted[-1])))
    return [ends[0], *draw.choose([student for student in admitted if student not in ends], draw.num_random), *ends[1:]]
