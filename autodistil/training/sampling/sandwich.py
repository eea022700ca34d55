"""The largest, the smallest and random students: the sandwich rule (Yu & Huang, arXiv 1903.05134).

AutoDistil (arXiv 2201.12507, section 3.3) trains its SuperLMs so, with two random students a step.
"""

from __future__ import annotations

from collections.abc import Sequence

from autodistil.space.student import StudentConfig
from autodistil.training.sampling.draw import Draw


def sample(draw: Draw) -> list[StudentConfig]:
    """The sandwich of the whole sub-space."""
    return sandwich_of(draw.students.architectures, draw.students.largest, draw.students.smallest, draw)


def sandwich_of(
    students: Sequence[StudentConfig], largest: StudentConfig, smallest: StudentConfig, draw: Draw
) -> list[StudentConfig]:
    """The two ends around random ones of the others."""
    ends = list(dict.fromkeys((largest, smallest)))
    others = [student for student in students if student not in ends]
    return [ends[0], *draw.choose(others, draw.num_random), *ends[1:]]
