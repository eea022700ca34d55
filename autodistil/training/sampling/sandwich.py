"""The largest, the smallest and random students: the sandwich rule (Yu & Huang, arXiv 1903.05134).

AutoDistil (arXiv 2201.12507, section 3.3) trains its SuperLMs so, with two random students a step.
"""

from __future__ import annotations

from autodistil.space.student import StudentConfig
from autodistil.training.sampling.draw import Draw


def sample(draw: Draw) -> list[StudentConfig]:
    """The sandwich of the whole sub-space."""
    ends = list(dict.fromkeys((draw.students.largest, draw.students.smallest)))
    return [ends[0], *draw.students.drawn(draw.generator, draw.num_random, but=ends), *ends[1:]]
