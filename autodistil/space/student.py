"""Students as values: sizes alone, compared, ordered and named by them; a candidate is one in its sub-space."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields, replace
from functools import total_ordering
from operator import attrgetter
from typing import Any

from autodistil.errors import SpaceError
from autodistil.space.axes import AXES, axis_of


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
        """The sizes in the order of ids, infinite where None."""
        return tuple([math.inf if size is None else size for size in _sizes(self)])

    @property
    def architecture(self) -> StudentConfig:
        """The student without the sizes that shape no weights: with the whole vocabulary."""
        none: dict[str, Any] = {size: None for size in _WITHOUT_WEIGHTS if getattr(self, size) is not None}
        return replace(self, **none) if none else self

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
        """Letters of axes and sizes, such as `L3-H192-A6-F576`.

        `L3-H192-A6x64-F576` where the attention width differs from the hidden size, `...-E64` where embeddings are
        factorised, `...-V8000` where the vocabulary is pruned.
        """
        sizes = zip(_MARKS, _sizes(self), strict=True)
        left_out = None if self.free_attention else "x"
        return "".join([f"{mark}{size}" for mark, size in sizes if size is not None and mark != left_out])[1:]


DIMENSIONS = tuple(field.name for field in fields(StudentConfig) if field.default is not None)
"""Names of the dimensions of an encoder, in their order."""

OPTIONAL_AXES = tuple(sorted(field.name for field in fields(StudentConfig) if field.default is None))
"""Sizes that a space may have axes of beside them, and students only where it has; in the order of their names."""

SIZES = (*DIMENSIONS, *OPTIONAL_AXES)
"""All sizes of a student, in the order of ids and tables."""

_sizes = attrgetter(*SIZES)
_MARKS = [("" if size == "head_size" else "-") + axis_of(size).letter for size in SIZES]
_WITHOUT_WEIGHTS = tuple({axis.size for axis in AXES.values() if not axis.shapes_weights})


def size_key(student: StudentConfig) -> tuple[int, StudentConfig]:
    """Orders students by encoder weights; equal sizes are told apart by their dimensions, so that ends are one."""
    return student.encoder_weights, student


@dataclass(frozen=True)
class Candidate:
    """A student in its sub-space. Neighbouring sub-spaces may share an architecture: two candidates, two SuperLMs."""

    sub_space: str
    config: StudentConfig

    @property
    def id(self) -> str:
        """Unique in its search space, such as `tiny-L3-H192-A6-F576`."""
        return f"{self.sub_space}-{self.config.label}"
