"""What a way of sampling may look at, and what draws have in common.

A draw depends on the recipe, the step and the sub-space's name only: not on what was drawn before, on the process or on
which other SuperLMs are trained beside. So an interrupted training goes on with the draws it would have had. Ways of
sampling draw architectures; each then gets one of its vocabularies, as its students read other tokens of the same text,
and bits.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from autodistil.space.space import StudentSet, chosen
from autodistil.space.student import StudentConfig


@dataclass(frozen=True)
class Draw:
    """One step of one SuperLM."""

    students: StudentSet
    num_random: int
    """Random students, beside the two ends of a sandwich."""
    progress: float
    """Share of the training that is done, in [0, 1)."""
    generator: np.random.Generator

    def choose(self, students: Sequence[StudentConfig], count: int, p: np.ndarray | None = None) -> list[StudentConfig]:
        """So many different ones at random, all of them where there are fewer; `p`: how likely each is."""
        return chosen(students, self.generator, count, p)


Sampling = Callable[[Draw], list[StudentConfig]]
"""The students of one step; of a sandwich, the largest first and the smallest last."""
