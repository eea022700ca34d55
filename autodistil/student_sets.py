"""What a SuperLM needs to know of its students, and the union of several sub-spaces as one such set.

A sub-space is a grid, and a union of grids is none. Comparing K SuperLMs with a single one, as AutoDistil does, takes
a SuperLM of the union; so whatever trains or draws students asks for a `StudentSet`, not for a grid.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

from autodistil.spaces import DIMENSIONS, StudentConfig, SubSpace


class StudentSet(Protocol):
    """The students that share one SuperLM; a `SubSpace` is one."""

    @property
    def name(self) -> str:
        """Names the SuperLM and seeds its draws."""

    @property
    def students(self) -> tuple[StudentConfig, ...]:
        """Every student once, sorted by its dimensions."""

    @property
    def architectures(self) -> tuple[StudentConfig, ...]:
        """Every student's architecture once, sorted: what training draws from."""

    @property
    def embedding_size(self) -> tuple[int, ...] | None:
        """Sizes of factorised embeddings; None where students have none."""

    @property
    def largest(self) -> StudentConfig:
        """The student with the most encoder weights."""

    @property
    def smallest(self) -> StudentConfig:
        """The student with the fewest encoder weights."""

    @property
    def envelope(self) -> StudentConfig:
        """Elementwise maxima over the students."""


def by_size(students: Iterable[StudentConfig]) -> list[StudentConfig]:
    """Students by their encoder weights, equal ones by their dimensions; as sub-spaces order their ends."""
    return sorted(students, key=lambda student: (student.encoder_weights, student))


@dataclass(frozen=True)
class JoinedSubSpaces:
    """The union of several sub-spaces; an architecture that two of them share is one student."""

    name: str
    sub_spaces: tuple[SubSpace, ...]

    @cached_property
    def students(self) -> tuple[StudentConfig, ...]:
        """Every student once, sorted by its dimensions."""
        return tuple(sorted({student for sub in self.sub_spaces for student in sub.students}))

    @cached_property
    def architectures(self) -> tuple[StudentConfig, ...]:
        """Every student's architecture once, sorted by its dimensions."""
        return tuple(sorted({student for sub in self.sub_spaces for student in sub.architectures}))

    @property
    def embedding_size(self) -> tuple[int, ...] | None:
        """Sizes of factorised embeddings; None where students have none."""
        sizes = {size for sub in self.sub_spaces for size in sub.embedding_size or ()}
        return tuple(sorted(sizes)) or None

    @cached_property
    def largest(self) -> StudentConfig:
        """The largest student of all."""
        return by_size(sub.largest for sub in self.sub_spaces)[-1]

    @cached_property
    def smallest(self) -> StudentConfig:
        """The smallest student of all."""
        return by_size(sub.smallest for sub in self.sub_spaces)[0]

    @cached_property
    def envelope(self) -> StudentConfig:
        """Elementwise maxima over the students."""
        return StudentConfig(*(max(getattr(sub.envelope, dim) for sub in self.sub_spaces) for dim in DIMENSIONS))
