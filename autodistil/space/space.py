"""Search spaces: grids of student architectures, one grid (sub-space) per SuperLM.

AutoDistil (Xu et al., NeurIPS 2022, arXiv 2201.12507) partitions the Transformer search space into K sub-spaces of
homogeneous students: all layers of a student alike, students of like size in one sub-space. A grid has the axes number
of layers, hidden size, MLP ratio, and number of heads or head size or both. A plain Hugging Face encoder has heads x
head size = hidden size: combinations without that are left out and counted, unless the sub-space asks for them with
`free_attention` (the paper does); such students are of an architecture of ours (architectures/).
Two further axes make the word embeddings smaller: `vocab_size` prunes them (vocabulary.py), and `embedding_size`
factorises them (factorised.py). Students that differ in the vocabulary alone share all weights, so training draws
architectures: students without that axis.

What a SuperLM needs to know of its students, and the union of several sub-spaces as one such set.

A sub-space is a grid, and a union of grids is none. Comparing K SuperLMs with a single one, as AutoDistil does, takes
a SuperLM of the union; so whatever trains or draws students asks for a `StudentSet`, not for a grid.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import product
from typing import Any, Protocol, cast

from autodistil.errors import SpaceError, suggest
from autodistil.space.axes.axis import AXIS_BOUNDS, check_grid_size
from autodistil.space.student import DIMENSIONS, OPTIONAL_AXES, Candidate, StudentConfig, _size
from autodistil.utils import listed, short

_SHAPE_RULE = "num_heads x head_size must equal hidden_size (the shape rule of Hugging Face encoders)"


@dataclass(frozen=True)
class SubSpace:
    """The students of one SuperLM: a grid over the axes, less what the shape rule keeps out.

    Raises:
        SpaceError: No student is left, the grid is huge, or a hidden size divides by none of the head sizes.
    """

    name: str
    num_layers: tuple[int, ...]
    hidden_size: tuple[int, ...]
    num_heads: tuple[int, ...] | None
    """None: hidden size / head size."""
    head_size: tuple[int, ...] | None
    """None: hidden size / number of heads."""
    mlp_ratio: tuple[float, ...]
    """Intermediate size / hidden size; the intermediate size is rounded to a whole number."""
    vocab_size: tuple[int | None, ...] | None = None
    """Vocabulary sizes, None in it for the teacher's whole vocabulary; None instead of it: that alone."""
    embedding_size: tuple[int, ...] | None = None
    """Sizes of factorised embeddings; those that are not below a hidden size are left out there."""
    free_attention: bool = False
    """Heads x head size may differ from the hidden size."""

    def __post_init__(self) -> None:
        """Refuse a grid without students."""
        if self.num_heads is None and self.head_size is None:
            raise SpaceError(f"sub-space {self.name!r}: got neither num_heads nor head_size; give one of them or both")
        check_grid_size(f"sub-space {self.name!r}", self.num_combinations)
        if self.num_heads is None:
            self._check_hidden_sizes()
        if not (self._shapes and self.num_layers and self.mlp_ratio):  # without listing what may be a million students
            raise SpaceError(
                f"sub-space {self.name!r}: got no student out of {self.num_combinations} combinations; "
                f"{_SHAPE_RULE}; change these axes"
            )
        widest = max(hidden for hidden, _, _ in self._shapes)
        if self.embedding_size is not None and min(self.embedding_size) >= widest:
            raise SpaceError(
                f"sub-space {self.name!r}: embedding_size: got {listed(self.embedding_size)}; "
                f"allowed: below the hidden size (here up to {widest}); lower it, or leave it out"
            )

    def _check_hidden_sizes(self) -> None:
        # Only without num_heads: a grid over num_heads, such as the paper's, is meant to be thinned out by the rule.
        stray = sorted(set(self.hidden_size) - {hidden for hidden, _, _ in self._shapes})
        if stray:
            raise SpaceError(
                f"sub-space {self.name!r}: hidden_size: got {listed(stray)}; "
                f"allowed: multiples of head_size {listed(self.head_size or ())}; change hidden_size or head_size"
            )

    @classmethod
    def of_student(cls, name: str, student: StudentConfig) -> SubSpace:
        """The sub-space that holds one student."""
        layers, hidden, heads, head_size, intermediate = (getattr(student, dim) for dim in DIMENSIONS)
        optional = {axis: (size,) for axis in OPTIONAL_AXES if (size := getattr(student, axis)) is not None}
        attention = (heads,), (head_size,), (intermediate / hidden,)
        return cls(name, (layers,), (hidden,), *attention, **optional, free_attention=student.free_attention)

    @property
    def num_combinations(self) -> int:
        """Points of the grid before the shape rule."""
        return math.prod(len(values) for values in self.axes.values())

    def _attention_grid(self) -> Iterator[tuple[int, int, int]]:
        """Yield (hidden size, heads, head size), a side that is not given rounded down."""
        for hidden in self.hidden_size:
            if self.num_heads is None:
                yield from ((hidden, hidden // size, size) for size in self.head_size or ())
            elif self.head_size is None:
                yield from ((hidden, heads, hidden // heads) for heads in self.num_heads)
            else:
                yield from ((hidden, heads, size) for heads, size in product(self.num_heads, self.head_size))

    @cached_property
    def _shapes(self) -> tuple[tuple[int, int, int], ...]:
        """The part of the attention grid that obeys the shape rule; all of it where attention is free."""
        return tuple(
            shape for shape in self._attention_grid() if self.free_attention or shape[1] * shape[2] == shape[0]
        )

    def _intermediate_sizes(self, hidden: int) -> set[int]:
        return {max(1, round(ratio * hidden)) for ratio in self.mlp_ratio}

    @cached_property
    def students(self) -> tuple[StudentConfig, ...]:
        """Every student once, sorted by its dimensions."""
        if self.vocab_size is None:
            return self.architectures
        return tuple(replace(student, vocab_size=size) for student in self.architectures for size in self.vocab_size)

    @cached_property
    def architectures(self) -> tuple[StudentConfig, ...]:
        """Every student's architecture once, sorted by its dimensions: what training draws from."""
        architectures = {
            StudentConfig(layers, *shape, intermediate, embedding_size=embedding)
            for shape in self._shapes
            for layers in self.num_layers
            for intermediate in self._intermediate_sizes(shape[0])
            for embedding in self.embedding_size or (None,)
            if embedding is None or embedding < shape[0]
        }
        return tuple(sorted(architectures, key=lambda student: student.sort_key))

    @cached_property
    def excluded(self) -> int:
        """Distinct combinations of the grid that the shape rule keeps out, or an embedding as wide as the encoder."""
        others = len(set(self.num_layers)) * math.prod(len(getattr(self, axis) or (None,)) for axis in OPTIONAL_AXES)
        grid = (others * len(self._intermediate_sizes(hidden)) for hidden, _, _ in set(self._attention_grid()))
        return sum(grid) - len(self.students)

    @property
    def axes(self) -> dict[str, tuple[Any, ...]]:
        """The axes that span the grid, each with its values in ascending order."""
        return {axis: values for axis in AXIS_BOUNDS if (values := getattr(self, axis)) is not None}

    def student(
        self,
        num_layers: int,
        hidden_size: int,
        mlp_ratio: float,
        num_heads: int | None = None,
        head_size: int | None = None,
        vocab_size: int | None = None,
        embedding_size: int | None = None,
    ) -> StudentConfig | None:
        """The student at a point of the grid (one value for each of `axes`); None where there is none (`excluded`)."""
        heads = num_heads or hidden_size // cast(int, head_size)
        size = head_size or hidden_size // heads
        if (heads * size != hidden_size and not self.free_attention) or (embedding_size or 0) >= hidden_size:
            return None
        intermediate = max(1, round(mlp_ratio * hidden_size))
        return StudentConfig(num_layers, hidden_size, heads, size, intermediate, vocab_size, embedding_size)

    @cached_property
    def largest(self) -> StudentConfig:
        """The architecture with the most encoder weights."""
        return max(self.architectures, key=_size)

    @cached_property
    def smallest(self) -> StudentConfig:
        """The architecture with the fewest encoder weights."""
        return min(self.architectures, key=_size)

    @cached_property
    def envelope(self) -> StudentConfig:
        """Elementwise maxima over the students: the SuperLM's own shape, which need not obey the shape rule."""
        return StudentConfig(*(max(getattr(student, dim) for student in self.architectures) for dim in DIMENSIONS))


@dataclass(frozen=True)
class SearchSpace:
    """The sub-spaces to search, in the order of their file.

    Raises:
        SpaceError: There is no sub-space, or two have one name.
    """

    name: str
    description: str
    sub_spaces: tuple[SubSpace, ...]

    def __post_init__(self) -> None:
        """Refuse an empty space, names used twice and huge grids."""
        if not self.sub_spaces:
            raise SpaceError(f"search space {self.name!r}: got no sub-spaces; allowed: one or more; add one")
        twice = [name for name, count in Counter(sub.name for sub in self.sub_spaces).items() if count > 1]
        if twice:
            raise SpaceError(f"search space {self.name!r}: got sub-space {twice[0]!r} twice; rename one of them")
        check_grid_size(f"search space {self.name!r}", sum(sub.num_combinations for sub in self.sub_spaces))

    @cached_property
    def candidates(self) -> tuple[Candidate, ...]:
        """All students of all sub-spaces."""
        return tuple(Candidate(sub.name, config) for sub in self.sub_spaces for config in sub.students)

    @property
    def attention_widths(self) -> tuple[int, ...]:
        """Distinct attention widths of the students, ascending: what relation heads have to divide."""
        return tuple(sorted({candidate.config.attention_width for candidate in self.candidates}))

    @property
    def frees_attention(self) -> bool:
        """Whether some student's attention is wider or narrower than its hidden size."""
        return any(student.free_attention for sub in self.sub_spaces for student in sub.architectures)

    @property
    def prunes_vocabulary(self) -> bool:
        """Whether vocabulary size is an axis of some sub-space."""
        return any(sub.vocab_size for sub in self.sub_spaces)

    @property
    def factorises_embeddings(self) -> bool:
        """Whether embedding size is an axis of some sub-space."""
        return any(sub.embedding_size for sub in self.sub_spaces)

    @property
    def largest(self) -> StudentConfig:
        """The largest architecture of all sub-spaces."""
        return max((sub.largest for sub in self.sub_spaces), key=_size)

    def sub_space(self, name: str) -> SubSpace:
        """The sub-space called `name`.

        Raises:
            SpaceError: There is none.
        """
        by_name = {sub.name: sub for sub in self.sub_spaces}
        if name not in by_name:
            raise SpaceError(
                f"search space {self.name!r}: got no sub-space {short(name)}{suggest(name, by_name)}; "
                f"allowed: {', '.join(by_name)}; use one of them"
            )
        return by_name[name]


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
