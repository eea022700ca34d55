"""Students as values: sizes alone, compared, ordered and named by them; a candidate is one in its sub-space.

Layers are alike, or have sizes of their own: then each layer of the teacher has its number of heads and of FFN units in
the student, none where the student lacks that block, or all of the layer. An id says every size, so it can be read.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import MISSING, dataclass, fields, replace
from functools import total_ordering
from operator import attrgetter
from typing import Any, NamedTuple

from autodistil.errors import SpaceError
from autodistil.space.axes import AXES, axis_of
from autodistil.space.axes.window import WINDOWS
from autodistil.utils import short


class LayerSizes(NamedTuple):
    """What a student has of one layer."""

    num_heads: int
    """0: no attention."""
    intermediate_size: int
    """0: no FFN."""


@total_ordering
@dataclass(frozen=True)
class StudentConfig:
    """One encoder architecture; also the dimensions of a teacher or of a SuperLM.

    Ordered by the dimensions, then by the sizes of the word embeddings, then by those of the layers.

    Raises:
        SpaceError: A dimension is below one, or the layers have others.
    """

    num_layers: int
    hidden_size: int
    num_heads: int
    """Of every layer; where layers have sizes of their own, of the one with most."""
    head_size: int
    intermediate_size: int
    """As `num_heads`."""
    vocab_size: int | None = None
    """Tokens that it knows; None: the teacher's whole vocabulary."""
    embedding_size: int | None = None
    """Width of factorised embeddings, below the hidden size; None: not factorised."""
    embedding_bits: int | None = None
    """Bits of a weight in the tables of embeddings; None: they are floats."""
    layer_bits: int | None = None
    """Bits of a weight in linear maps; None: they are floats."""
    window: int | None = None
    """Tokens that local layers attend to; None: layers attend as the teacher's do."""
    global_every: int | None = None
    """Each so many-th layer of a decoder with a window is global; None: none is."""
    layers: tuple[LayerSizes, ...] = ()
    """Of each layer of the teacher, (0, 0) of one that the student lacks; empty where all of its layers are alike."""

    def __post_init__(self) -> None:
        """Refuse dimensions below one, and layers that have others."""
        if min(self.sort_key[: len(SIZES)]) < 1:
            raise SpaceError(f"got {self}; allowed: dimensions of at least 1; check the numbers")
        if self.layers and _dimensions(self.layers) != (self.num_layers, self.num_heads, self.intermediate_size):
            raise SpaceError(f"got {self}; allowed: as many layers, and the most heads and FFN units of one")

    @classmethod
    def of_layers(cls, layers: Sequence[LayerSizes], **sizes: int | None) -> StudentConfig:
        """A student whose layers have sizes of their own.

        Args:
            layers: of each layer of the teacher.
            sizes: the hidden size, that of heads, and those of the word embeddings.

        Raises:
            SpaceError: no layer has attention, or none an FFN.
        """
        count, heads, inner = _dimensions(layers)
        known: dict[str, Any] = {"num_layers": count, "num_heads": heads, "intermediate_size": inner, **sizes}
        return cls(**known, layers=tuple(layers))

    def __lt__(self, other: StudentConfig) -> bool:
        return self.sort_key < other.sort_key

    @property
    def sort_key(self) -> tuple[float, ...]:
        """The sizes in the order of ids, infinite where None, and behind them those of the layers."""
        sizes = [math.inf if size is None else size for size in _sizes(self)]
        return (*sizes, *(size for layer in self.layers for size in layer))

    @property
    def architecture(self) -> StudentConfig:
        """The student without the sizes that shape no weights: with the whole vocabulary, of floats, no window."""
        return self._without(WITHOUT_WEIGHTS)

    @property
    def network(self) -> StudentConfig:
        """What its forward computes of given weights: the architecture, with its window."""
        return self._without([size for size in WITHOUT_WEIGHTS if size not in WINDOWS])

    def _without(self, sizes: Iterable[str]) -> StudentConfig:
        none: dict[str, Any] = {size: None for size in sizes if getattr(self, size) is not None}
        return replace(self, **none) if none else self

    @property
    def own_layers(self) -> tuple[LayerSizes, ...]:
        """Of each layer that the student has, in their order."""
        if not self.layers:
            return (LayerSizes(self.num_heads, self.intermediate_size),) * self.num_layers
        return tuple(layer for layer in self.layers if any(layer))

    def at(self, layer: int) -> StudentConfig:
        """The student as one of the layers that it has sees it: with all layers like that one, if it has both blocks.

        Of a block that the layer lacks it has the size that is largest.
        """
        sizes = {name: size for name, size in self.own_layers[layer]._asdict().items() if size}
        return replace(self, layers=(), **sizes) if self.layers else self

    @property
    def tapped(self) -> StudentConfig:
        """The student as its last attention sees it."""
        return self.at(max(i for i, layer in enumerate(self.own_layers) if layer.num_heads))

    @property
    def kept_layers(self) -> tuple[int, ...] | None:
        """The teacher's layers that it has, where it says so itself; None: a layer map does."""
        return tuple(i for i, layer in enumerate(self.layers) if any(layer)) if self.layers else None

    @property
    def uneven(self) -> bool:
        """Whether its layers differ from each other."""
        return len(set(self.own_layers)) > 1

    @property
    def attention_width(self) -> int:
        """Width of queries, keys and values: heads x head size."""
        return self.num_heads * self.head_size

    @property
    def free_attention(self) -> bool:
        """Whether attention is wider or narrower than the hidden size, which no plain Hugging Face encoder has."""
        return self.attention_width != self.hidden_size

    @property
    def plain(self) -> bool:
        """Whether a plain Hugging Face class holds it."""
        return not (self.free_attention or self.uneven)

    @property
    def quantised(self) -> bool:
        """Whether it has weights of few bits."""
        return not (self.embedding_bits is None and self.layer_bits is None)

    @property
    def weight_bits(self) -> dict[str, int | None]:
        """Bits of a weight, as the config of an export has them."""
        return {"embeddings": self.embedding_bits, "layers": self.layer_bits}

    @property
    def rotary_pairs(self) -> int:
        """Pairs of a head's dimensions that rotary positions turn."""
        return self.head_size // 2

    @property
    def encoder_weights(self) -> int:
        """Matrix entries of all layers (no biases, norms or embeddings); orders students by size."""
        _, _, heads, inner = self.totals
        return self.hidden_size * (4 * heads * self.head_size + 2 * inner)

    @property
    def totals(self) -> tuple[int, int, int, int]:
        """Layers with attention and with an FFN, and heads and FFN units of all layers together."""
        if not self.layers:
            return (self.num_layers,) * 2 + (self.num_layers * self.num_heads, self.num_layers * self.intermediate_size)
        heads, inner = zip(*self.layers, strict=True)
        return sum(map(bool, heads)), sum(map(bool, inner)), sum(heads), sum(inner)

    @property
    def label(self) -> str:
        """Letters of axes and sizes, such as `L3-H192-A6-F576`.

        `L3-H192-A6x64-F576` where the attention width differs from the hidden size, `...-E64` where embeddings are
        factorised, `...-V8000` where the vocabulary is pruned, `...-EB4-LB8` where weights have few bits,
        `...-W128` where local layers have a window of their own;
        `L2-H192-A1_0_6x32-F96_0_768` where layers have sizes of their own, of a teacher of three.
        """
        by_layer = ["_".join(map(str, sizes)) for sizes in zip(*self.layers, strict=True)]
        named = {**dict(zip(SIZES, _sizes(self), strict=True)), **dict(zip(LayerSizes._fields, by_layer, strict=False))}
        left_out = None if self.free_attention or self.layers else "head_size"
        shown = {name: size for name, size in named.items() if size is not None and name != left_out}
        return "".join([f"{_MARKS[name]}{size}" for name, size in shown.items()])[1:]

    @classmethod
    def of_label(cls, label: str) -> StudentConfig:
        """The student of this label.

        Raises:
            SpaceError: it is no label.
        """
        found = _LABEL.fullmatch(label) if len(label) < 10_000 else None
        if found is None:
            raise SpaceError(f"got the sizes {short(label)}; allowed: such as L3-H192-A6-F576; correct them")
        sizes = {name: [*map(int, text.split("_"))] for name, text in found.groupdict().items() if text is not None}
        alike: dict[str, Any] = {name: size for name, (size, *others) in sizes.items() if not others}
        if len(alike) == len(sizes):
            return cls(**{"head_size": alike["hidden_size"] // max(1, alike["num_heads"]), **alike})
        layers = [LayerSizes(*layer) for layer in zip(*(sizes[name] for name in LayerSizes._fields), strict=False)]
        student = cls.of_layers(layers, **{name: size for name, size in alike.items() if name != "num_layers"})
        if student.label != label:
            raise SpaceError(f"got the sizes {short(label)}; allowed: {student.label}, as its layers say; correct them")
        return student


def _dimensions(layers: Sequence[LayerSizes]) -> tuple[int, int, int]:
    """How many there are, and the most heads and FFN units of one."""
    heads, inner = (max(sizes) for sizes in zip(*layers, strict=True))
    return sum(any(layer) for layer in layers), heads, inner


_FIELDS = [field for field in fields(StudentConfig) if field.name != "layers"]

DIMENSIONS = tuple(field.name for field in _FIELDS if field.default is MISSING)
"""Names of the dimensions of an encoder, in their order."""

OPTIONAL_AXES = tuple(sorted(field.name for field in _FIELDS if field.default is None))
"""Sizes that a space may have axes of beside them, and students only where it has; in the order of their names."""

SIZES = (*DIMENSIONS, *OPTIONAL_AXES)
"""All sizes of a student, in the order of ids and tables."""

_sizes = attrgetter(*SIZES)
_MARKS = {size: ("" if size == "head_size" else "-") + axis_of(size).letter for size in SIZES}
_LABEL = re.compile(
    "".join(
        f"({mark}(?P<{size}>[0-9]+{'(_[0-9]+)*' if size in LayerSizes._fields else ''}))"
        + ("?" if size in ("head_size", *OPTIONAL_AXES) else "")
        for size, mark in _MARKS.items()
    ).replace("-", "", 1)
)
WITHOUT_WEIGHTS = tuple(dict.fromkeys(axis.size for axis in AXES.values() if not axis.shapes_weights))
"""Sizes in which students with the same weights differ: how many of them, how exact, and how far attention sees."""


def layers_text(layers: Sequence[LayerSizes]) -> str:
    """Heads and FFN units of each layer of the teacher, such as `1/96 0/0 6/768`, as tables hold them."""
    return " ".join(f"{heads}/{units}" for heads, units in layers)


def read_layers(text: str) -> tuple[LayerSizes, ...]:
    """What `layers_text` wrote.

    Raises:
        ValueError: it did not.
    """
    return tuple(LayerSizes(*map(int, layer.split("/", 1))) for layer in text.split())


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

    @classmethod
    def of_id(cls, student_id: str) -> Candidate:
        """The candidate of this id.

        Raises:
            SpaceError: it is none.
        """
        sub_space, _, label = student_id.partition("-")
        return cls(sub_space, StudentConfig.of_label(label))
