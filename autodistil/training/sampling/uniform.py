"""Random students only (single path one-shot, arXiv 1904.00420), but as many a step as the sandwich draws."""

from __future__ import annotations

from autodistil.space.student import StudentConfig
from autodistil.training.sampling.draw import Draw


def sample(draw: Draw) -> list[StudentConfig]:
    """Each as likely as the others."""
    return draw.students.drawn(draw.generator, draw.num_random + 2)
