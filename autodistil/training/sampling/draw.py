"""Which students of a sub-space a training step draws.

A draw depends on the recipe, the step and the sub-space's name only: not on what was drawn before, on the process or on
which other SuperLMs are trained beside. So an interrupted training goes on with the draws it would have had. Pruned
vocabularies are not drawn: their students share every row with the whole one.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np

from autodistil.space.space import StudentSet, by_size
from autodistil.space.student import StudentConfig
from autodistil.training.recipe import Recipe


@dataclass(frozen=True)
class Draw:
    """What a way of sampling may look at."""

    students: StudentSet
    num_random: int
    """Random students, beside the two ends of a sandwich."""
    progress: float
    """Share of the training that is done, in [0, 1)."""
    generator: np.random.Generator


Sampling = Callable[[Draw], list[StudentConfig]]
"""The students of one step; of a sandwich, the largest first and the smallest last."""


def sandwich(draw: Draw) -> list[StudentConfig]:
    """The largest, the smallest and random students (sandwich rule; Yu & Huang 2019, AutoDistil section 3.3)."""
    return _sandwich_of(draw.students.architectures, draw.students.largest, draw.students.smallest, draw)


def uniform(draw: Draw) -> list[StudentConfig]:
    """Random students only (single-path sampling), as many as the sandwich would draw."""
    return _choose(draw.students.architectures, draw.num_random + 2, draw.generator)


def inverse_cost(draw: Draw) -> list[StudentConfig]:
    """As many random students, each as likely as its forward is cheap: a student's share of the compute is even."""
    costs = np.array([student.encoder_weights for student in draw.students.architectures], dtype=float)
    return _choose(draw.students.architectures, draw.num_random + 2, draw.generator, (1 / costs) / (1 / costs).sum())


def progressive(draw: Draw) -> list[StudentConfig]:
    """Sandwich over a set that grows from the largest student to all of them by half-time.

    Progressive shrinking (once-for-all, arXiv 1908.09791), by size instead of axis by axis.
    """
    ordered = by_size(draw.students.architectures)[::-1]
    admitted = ordered[: max(1, round(min(1.0, 2 * draw.progress) * len(ordered)))]
    return _sandwich_of(admitted, admitted[0], admitted[-1], draw)


SAMPLINGS: Mapping[str, Sampling] = MappingProxyType(
    {"sandwich": sandwich, "uniform": uniform, "inverse-cost": inverse_cost, "progressive": progressive}
)


def draw_students(students: StudentSet, recipe: Recipe, step: int) -> list[StudentConfig]:
    """The students of step `step`."""
    generator = np.random.default_rng([recipe.seed, step, zlib.crc32(students.name.encode())])
    draw = Draw(students, recipe.random_students, step / recipe.steps, generator)
    return SAMPLINGS[recipe.sampling](draw)


def _sandwich_of(
    students: Sequence[StudentConfig], largest: StudentConfig, smallest: StudentConfig, draw: Draw
) -> list[StudentConfig]:
    ends = list(dict.fromkeys((largest, smallest)))
    others = [student for student in students if student not in ends]
    return [ends[0], *_choose(others, draw.num_random, draw.generator), *ends[1:]]


def _choose(
    students: Sequence[StudentConfig], count: int, generator: np.random.Generator, p: np.ndarray | None = None
) -> list[StudentConfig]:
    if not students:
        return []
    chosen = generator.choice(len(students), size=min(count, len(students)), replace=False, p=p)
    return [students[int(i)] for i in chosen]
