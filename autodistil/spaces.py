"""Search spaces: grids of student architectures, one grid (sub-space) per SuperLM.

AutoDistil (Xu et al., NeurIPS 2022, arXiv 2201.12507) partitions the Transformer search space into K sub-spaces of
homogeneous students: all layers of a student alike, students of like size in one sub-space. A grid has the axes number
of layers, hidden size, MLP ratio, and number of heads or head size or both. A plain Hugging Face encoder has heads x
head size = hidden size: combinations without that are left out and counted, unless the sub-space asks for them with
`free_attention` (the paper does); such students are of an architecture of ours (architectures/).
Two further axes make the word embeddings smaller: `vocab_size` prunes them (vocabulary.py), and `embedding_size`
factorises them (factorised.py). Students that differ in the vocabulary alone share all weights, so training draws
architectures: students without that axis.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property, total_ordering
from itertools import product
from typing import Any, cast

from autodistil.axes import AXIS_BOUNDS, check_grid_size, listed, short
from autodistil.errors import SpaceError, suggest

_SHAPE_RULE = "num_heads x head_size must equal hidden_size (the shape rule of Hugging Face encoders)"


@total_ordering
@dataclass(frozen=True)
class StudentConfig:
    """One homogeneous encoder architecture; also the dimensions of a teacher or of a SuperLM.

    Ordered by the dimensions, then by the sizes of the word embeddings.

    Raises:
        SpaceError: A dimension is below one.
    """

    num_layers: int
    hidden_size: int
    num_heads: int
    head_size: int
    intermediate_size: int
    vocab_size: int | None = None
    """Tokens that it knows; None: the teacher's whole vocabulary."""
    embedding_size: int | None = None
    """Width of factorised embeddings, below the hidden size; None: not factorised."""

    def __post_init__(self) -> None:
        """Refuse dimensions below one."""
        if min(self.sort_key) < 1:
            raise SpaceError(f"got {self}; allowed: dimensions of at least 1; check the numbers")

    def __lt__(self, other: StudentConfig) -> bool:
        return self.sort_key < other.sort_key

    @property
    def sort_key(self) -> tuple[float, ...]:
        """The dimensions, then the embedding size and the vocabulary size, infinite where None."""
        optional = (math.inf if size is None else size for size in (self.embedding_size, self.vocab_size))
        return (*(getattr(self, dim) for dim in DIMENSIONS), *optional)

    @property
    def architecture(self) -> StudentConfig:
        """The student with the whole vocabulary."""
        return self if self.vocab_size is None else replace(self, vocab_size=None)

    @property
    def attention_width(self) -> int:
        """Width of queries, keys and values: heads x head size."""
        return self.num_heads * self.head_size

    @property
    def free_attention(self) -> bool:
        """Whether attention is wider or narrower than the hidden size, which no plain Hugging Face encoder has."""
        return self.attention_width != self.hidden_size

    @property
    def rotary_pairs(self) -> int:
        """Pairs of a head's dimensions that rotary positions turn."""
        return self.head_size // 2

    @property
    def encoder_weights(self) -> int:
        """Matrix entries of all layers (no biases, norms or embeddings); orders students by size."""
        attention, mlp = 4 * self.hidden_size * self.attention_width, 2 * self.hidden_size * self.intermediate_size
        return self.num_layers * (attention + mlp)

    @property
    def label(self) -> str:
        """Such as `L3-H192-A6-F576`.

        `L3-H192-A6x64-F576` where the attention width differs from the hidden size, `...-E64` where embeddings are
        factorised, `...-V8000` where the vocabulary is pruned.
        """
        head_size = f"x{self.head_size}" if self.free_attention else ""
        shape = f"L{self.num_layers}-H{self.hidden_size}-A{self.num_heads}{head_size}-F{self.intermediate_size}"
        sizes = (("E", self.embedding_size), ("V", self.vocab_size))
        return shape + "".join(f"-{letter}{size}" for letter, size in sizes if size is not None)


DIMENSIONS = ("num_layers", "hidden_size", "num_heads", "head_size", "intermediate_size")
"""Names of the dimensions of an encoder, in their order."""
OPTIONAL_AXES = ("embedding_size", "vocab_size")
"""Axes that a space may have beside them, and students only where it has."""


def _size(config: StudentConfig) -> tuple[int, StudentConfig]:
    """Sort key by size; equal sizes are told apart by their dimensions, so that extremes are deterministic."""
    return config.encoder_weights, config


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
class Candidate:
    """A student in its sub-space. Neighbouring sub-spaces may share an architecture: two candidates, two SuperLMs."""

    sub_space: str
    config: StudentConfig

    @property
    def id(self) -> str:
        """Unique in its search space, such as `tiny-L3-H192-A6-F576`."""
        return f"{self.sub_space}-{self.config.label}"


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
