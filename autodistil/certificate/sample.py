"""Which students are trained alone to check a SuperLM: few, spread over size, chosen by design and the seed."""

from __future__ import annotations

import zlib

import numpy as np

from autodistil.spaces import StudentConfig
from autodistil.student_sets import StudentSet, by_size

DEFAULT_SAMPLE = 5
"""Students a sub-space: with 5, the same order in both has a p-value of 1/60; with 4, no order is below 0.05."""
MIN_SAMPLE = 2


def sample_students(
    sub_space: StudentSet, size: int, seed: int, pick: StudentConfig | None = None
) -> tuple[StudentConfig, ...]:
    """A stratified sample of the architectures: the smallest, the largest, one from each of equal strata in between.

    Args:
        sub_space: the students to choose from.
        size: students to choose; all where there are no more.
        seed: decides who is drawn from a stratum.
        pick: taken instead of the one drawn from its stratum.

    Returns:
        The students, smallest first.
    """
    assert size >= MIN_SAMPLE
    ordered = by_size(sub_space.architectures)
    if len(ordered) <= size:
        return tuple(ordered)
    generator = np.random.default_rng([seed, zlib.crc32(sub_space.name.encode())])
    strata = np.array_split(np.arange(1, len(ordered) - 1), size - 2) if size > MIN_SAMPLE else []
    inner = [[ordered[i] for i in stratum] for stratum in strata]
    drawn = [stratum[int(generator.integers(len(stratum)))] for stratum in inner]
    chosen = [pick if pick in stratum else one for stratum, one in zip(inner, drawn, strict=True)]
    return (ordered[0], *(student for student in chosen if student is not None), ordered[-1])
