"""Sub-spaces whose students' layers have sizes of their own: too many to list.

Each layer of the teacher has its number of heads and of FFN units in a student, none among them: a student says itself
which layers, and which blocks of them, it keeps. A student is decided by its *genes*: the axes that hold for all
layers, and one gene a layer of each axis that does not. What is listed (`students`) are those whose layers are all
alike, from the smallest to the largest sizes: the ends of the sub-space, and a ladder between them. A search leaves it.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from itertools import product
from typing import Any

import numpy as np

from autodistil.errors import SpaceError
from autodistil.space.axes import AXES
from autodistil.space.axes.axis import Sizes
from autodistil.space.space import SubSpace, sizes_at
from autodistil.space.student import OPTIONAL_AXES, LayerSizes, StudentConfig

PER_LAYER = tuple(axis.name for axis in AXES.values() if axis.by_layer)
"""Axes on which layers may differ."""
_TRIES = 100
"""Random draws without a student that the sub-space has, after which it is said to have none."""


@dataclass(frozen=True)
class PerLayerSubSpace(SubSpace):
    """The students of one SuperLM whose layers have sizes of their own. Attention may be of any width.

    Raises:
        SpaceError: as in `SubSpace`; there is one layer, an axis is none of a layer, or heads have no size.
    """

    free_attention: bool = True
    per_layer: tuple[str, ...] = PER_LAYER
    """Axes whose values each layer has for itself, 0 for none; the largest number of layers is the teacher's."""

    def __post_init__(self) -> None:
        """Refuse what makes no layers."""
        super().__post_init__()
        where = f"sub-space {self.name!r}"
        if stray := [axis for axis in self.per_layer if axis not in self.axes or axis not in PER_LAYER]:
            raise SpaceError(
                f"{where}: per_layer: got {stray[0]!r}; allowed: {', '.join(PER_LAYER)}, as far as they are axes of it"
            )
        if "head_size" not in self.axes:
            raise SpaceError(f"{where}: got no head_size; needed where layers differ: add it")
        if self.depth < 2:
            raise SpaceError(f"{where}: num_layers: got 1; allowed: up to the teacher's layers, of which it has more")
        empty = [axis for axis in ("num_heads", "mlp_ratio") if not any(self.axes.get(axis, (1,)))]
        if empty:
            raise SpaceError(f"{where}: {empty[0]}: got 0; allowed: a value above 0 among them; add one")

    @property
    def depth(self) -> int:
        """Layers of the teacher."""
        return int(max(self.axes["num_layers"]))

    @cached_property
    def genes(self) -> Mapping[str, tuple[Any, ...]]:
        """What decides a student: the axes that layers share, then each layer's own, with their values."""
        shared = {axis: values for axis, values in self.axes.items() if axis not in ("num_layers", *self.per_layer)}
        own = product(range(self.depth), (axis for axis in self.axes if axis in self.per_layer))
        return {**shared, **{_gene(axis, layer): self.axes[axis] for layer, axis in own}}

    @property
    def is_listed(self) -> bool:
        """Never: see the module."""
        return False

    @property
    def excluded(self) -> int:
        """Nobody counts them."""
        return 0

    def student(self, **point: float | None) -> StudentConfig | None:
        """The student with these genes; None where it has too few or too many layers, no attention or no FFN."""
        made = [self._layer_at(point, layer) for layer in range(self.depth)]
        layers = tuple(LayerSizes(sizes["num_heads"], sizes["intermediate_size"]) for sizes in made)
        shared = {name: made[0].get(name) for name in ("hidden_size", "head_size", *OPTIONAL_AXES)}
        kept = sum(any(layer) for layer in layers)
        whole = kept in self.axes["num_layers"] and all(map(any, zip(*layers, strict=True)))
        return StudentConfig.of_layers(layers, **shared) if whole and self._obeys(made[0]) else None

    def point_of(self, student: StudentConfig) -> dict[str, Any]:
        """The genes of a student of the sub-space; of equal ones the lowest.

        Raises:
            LookupError: an axis has no such value.
        """
        point: dict[str, Any] = {}
        for number, layer in enumerate(student.layers):
            sizes: Sizes = {}
            for name in self.axes:
                if name != "num_layers":
                    axis = AXES[name]
                    wanted = getattr(layer if axis.size in LayerSizes._fields else student, axis.size)
                    value, sizes = axis.value_of(wanted, self.axes[name], sizes)
                    point[_gene(name, number) if name in self.per_layer else name] = value
        return {gene: point[gene] for gene in self.genes}

    def _layer_at(self, point: Mapping[str, float | None], layer: int) -> Sizes:
        """The sizes of a student as one of its layers sees them."""
        genes = ((name, _gene(name, layer) if name in self.per_layer else name) for name in self.axes)
        return _sizes_at(tuple((name, point.get(gene)) for name, gene in genes if name != "num_layers"))

    @cached_property
    def students(self) -> tuple[StudentConfig, ...]:
        """Those with all layers, which are alike, sorted by their dimensions."""
        return self._ladder(self.axes)

    @cached_property
    def architectures(self) -> tuple[StudentConfig, ...]:
        """The architectures of these."""
        return self._ladder({axis: values for axis, values in self.axes.items() if AXES[axis].shapes_weights})

    def of_architecture(self, architecture: StudentConfig) -> list[StudentConfig]:
        """The students of an architecture."""
        free = {axis: values for axis, values in self.axes.items() if not AXES[axis].shapes_weights}
        points = (dict(zip(free, values, strict=True)) for values in product(*free.values()))
        return [replace(architecture, **sizes_at(point)) for point in points]

    def _ladder(self, axes: Mapping[str, tuple[Any, ...]]) -> tuple[StudentConfig, ...]:
        """At each value of the axes that layers share, from all layers at their smallest to all at their largest."""
        rising = {axis: [value for value in axes[axis] if value] for axis in axes if axis in self.per_layer}
        steps = max(len(values) for values in rising.values())
        shared = {axis: values for axis, values in axes.items() if axis not in ("num_layers", *rising)}
        found: dict[StudentConfig | None, None] = {}
        for values, step in product(product(*shared.values()), range(steps)):
            rung = {axis: own[_spread(step, steps, len(own))] for axis, own in rising.items()}
            alike = {_gene(axis, layer): value for axis, value in rung.items() for layer in range(self.depth)}
            found[self.student(**dict(zip(shared, values, strict=True)), **alike)] = None
        return tuple(sorted(student for student in found if student is not None))

    def drawn(
        self, generator: np.random.Generator, count: int, but: Collection[StudentConfig] = ()
    ) -> list[StudentConfig]:
        """So many different students at random: small and large ones alike, whose layers scatter around their size.

        Each draws a share of the range, and each of its genes the rank of a value around that (binomially): ranks that
        were drawn evenly would add up to a middling size in all students.

        Args:
            generator: decides.
            count: how many.
            but: these never.

        Raises:
            SpaceError: no draw is a student.
        """
        found: dict[StudentConfig, None] = {}
        for _ in range(_TRIES * count):
            share = generator.random()
            ranks = {
                gene: generator.binomial(len(values) - 1, share)
                if gene not in self.axes
                else generator.integers(len(values))
                for gene, values in self.genes.items()
            }
            student = self.student(**{gene: self.genes[gene][rank] for gene, rank in ranks.items()})
            if student is not None and student.architecture not in but:
                found[student.architecture] = None
            if len(found) == count:
                break
        if not found:
            raise SpaceError(f"sub-space {self.name!r}: got no student in {_TRIES} draws; change its axes")
        return list(found)


@lru_cache(maxsize=100_000)
def _sizes_at(point: tuple[tuple[str, float | None], ...]) -> Sizes:
    return sizes_at(dict(point))


def _gene(axis: str, layer: int) -> str:
    return f"{axis} {layer}"


def _spread(step: int, steps: int, count: int) -> int:
    """The rank among `count` values at a step of so many."""
    return round(step * (count - 1) / max(1, steps - 1))
