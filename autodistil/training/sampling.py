"""Which students of a sub-space a training step draws.

A draw depends on the seed, the step and the sub-space's name only: not on what was drawn before, on the process or on
which other SuperLMs are trained beside. So an interrupted training goes on with the draws it would have had. Pruned
vocabularies are not drawn: their students share every row with the whole one.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType

import numpy as np

from autodistil.spaces import StudentConfig
from autodistil.student_sets import StudentSet

Sampling = Callable[[StudentSet, int, np.random.Generator], list[StudentConfig]]
"""(sub-space, number of random students, generator) -> students of one step, largest first."""


def sandwich(sub_space: StudentSet, num_random: int, generator: np.random.Generator) -> list[StudentConfig]:
    """The largest, the smallest and random students (sandwich rule; Yu & Huang 2019, AutoDistil section 3.3)."""
    ends = list(dict.fromkeys((sub_space.largest, sub_space.smallest)))
    others = [student for student in sub_space.architectures if student not in ends]
    return [ends[0], *_choose(others, num_random, generator), *ends[1:]]


def uniform(sub_space: StudentSet, num_random: int, generator: np.random.Generator) -> list[StudentConfig]:
    """Random students only (single-path sampling), as many as the sandwich would draw."""
    return _choose(sub_space.architectures, num_random + 2, generator)


SAMPLINGS: Mapping[str, Sampling] = MappingProxyType({"sandwich": sandwich, "uniform": uniform})


def draw_students(sub_space: StudentSet, sampling: str, num_random: int, seed: int, step: int) -> list[StudentConfig]:
    """The students of step `step`."""
    generator = np.random.default_rng([seed, step, zlib.crc32(sub_space.name.encode())])
    return SAMPLINGS[sampling](sub_space, num_random, generator)


def _choose(students: Sequence[StudentConfig], count: int, generator: np.random.Generator) -> list[StudentConfig]:
    if not students:
        return []
    chosen = generator.choice(len(students), size=min(count, len(students)), replace=False)
    return [students[int(i)] for i in chosen]
