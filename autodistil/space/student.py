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
from dataclasses import dataclass, replace
from functools import total_ordering

from autodistil.errors import SpaceError


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
class Candidate:
    """A student in its sub-space. Neighbouring sub-spaces may share an architecture: two candidates, two SuperLMs."""

    sub_space: str
    config: StudentConfig

    @property
    def id(self) -> str:
        """Unique in its search space, such as `tiny-L3-H192-A6-F576`."""
        return f"{self.sub_space}-{self.config.label}"
