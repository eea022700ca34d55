"""Search spaces: grids of student architectures, one grid (sub-space) per SuperLM.

AutoDistil (Xu et al., NeurIPS 2022, arXiv 2201.12507) partitions the Transformer search space into K sub-spaces of
homogeneous students: all layers of a student alike, students of like size in one sub-space. A grid is spanned by axes
(axes/): number of layers, hidden size, MLP ratio, and number of heads or head size or both; `vocab_size` prunes the
word embeddings, and `embedding_size` factorises them. A plain Hugging Face encoder has heads x head size = hidden size:
combinations without that are left out and counted, unless the sub-space asks for them with `free_attention` (the paper
does); such students are of an architecture of ours (models/architectures/).

A sub-space is a grid, and a union of grids is none. Comparing K SuperLMs with a single one, as AutoDistil does, takes a
SuperLM of the union; so whatever trains or draws students asks for a `StudentSet`, not for a grid. Students that differ
in the vocabulary or in the bits of weights alone share all weights, so training draws architectures, and then a student
of each.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from operator import attrgetter
from typing import Any

import numpy as np

from autodistil.errors import SpaceError, suggest
from autodistil.space.axes import AXES, read_axes
from autodistil.space.axes.axis import Sizes, check_grid_size
from autodistil.space.student import DIMENSIONS, Candidate, StudentConfig, size_key
from autodistil.utils import listed, short

_ATTENTION = ("hidden_size", "num_heads", "head_size")
"""Axes that the shape rule looks at."""
_SHAPE_RULE = "num_heads x head_size must equal hidden_size (the shape rule of Hugging Face encoders)"


def by_size(students: Iterable[StudentConfig]) -> list[StudentConfig]:
    """Students by their encoder weights, equal ones by their dimensions; as sub-spaces order their ends."""
    return sorted(students, key=size_key)


class StudentSet(ABC):
    """The students that share one SuperLM: a `SubSpace`, or several joined."""

    name: str
    """Names the SuperLM and seeds its draws."""

    @property
    @abstractmethod
    def students(self) -> tuple[StudentConfig, ...]:
        """Every student once, sorted by its dimensions."""

    @property
    @abstractmethod
    def architectures(self) -> tuple[StudentConfig, ...]:
        """Every student's architecture once, sorted by its dimensions: what training draws from."""

    @abstractmethod
    def has_axis_of(self, size: str) -> bool:
        """Whether some axis sets a size such as `embedding_size`, which students need not have."""

    def drawn(
        self, generator: np.random.Generator, count: int, but: Collection[StudentConfig] = ()
    ) -> list[StudentConfig]:
        """So many different architectures at random, each as likely as the others; all where there are fewer.

        Args:
            generator: decides.
            count: how many.
            but: these never.
        """
        others = [student for student in self.architectures if student not in but]
        return chosen(others, generator, count)

    def of_architecture(self, architecture: StudentConfig) -> Sequence[StudentConfig]:
        """The students of an architecture, which differ in sizes that shape no weights alone."""
        return self._by_architecture[architecture]

    @cached_property
    def _by_architecture(self) -> Mapping[StudentConfig, list[StudentConfig]]:
        groups: dict[StudentConfig, list[StudentConfig]] = {}
        for student in self.students:
            groups.setdefault(student.architecture, []).append(student)
        return groups

    @cached_property
    def largest(self) -> StudentConfig:
        """The architecture with the most encoder weights."""
        return max(self.architectures, key=size_key)

    @cached_property
    def smallest(self) -> StudentConfig:
        """The architecture with the fewest encoder weights."""
        return min(self.architectures, key=size_key)

    @cached_property
    def envelope(self) -> StudentConfig:
        """Elementwise maxima over the students: the SuperLM's own shape, which need not obey the shape rule."""
        return StudentConfig(*(max(getattr(student, dim) for student in self.architectures) for dim in DIMENSIONS))

    def envelope_at(self, layer: int) -> StudentConfig:
        """The SuperLM's own shape in one of its layers."""
        return self.envelope


def chosen(
    students: Sequence[StudentConfig], generator: np.random.Generator, count: int, p: np.ndarray | None = None
) -> list[StudentConfig]:
    """So many different ones at random, all of them where there are fewer; `p`: how likely each is."""
    if not students:
        return []
    numbers = generator.choice(len(students), size=min(count, len(students)), replace=False, p=p)
    return [students[int(i)] for i in numbers]


@dataclass(frozen=True)
class OneStudent(StudentSet):
    """A student that has a SuperLM of its own."""

    name: str
    student: StudentConfig

    @property
    def students(self) -> tuple[StudentConfig, ...]:
        """The student."""
        return (self.student,)

    @property
    def architectures(self) -> tuple[StudentConfig, ...]:
        """Its architecture."""
        return (self.student.architecture,)

    def has_axis_of(self, size: str) -> bool:
        """Whether it has such a size."""
        return getattr(self.student, size) is not None

    def envelope_at(self, layer: int) -> StudentConfig:
        """The student as one of its layers sees it."""
        return self.student.at(layer)


@dataclass(frozen=True)
class SubSpace(StudentSet):
    """The students of one SuperLM: a grid over the axes, less what the shape rule keeps out.

    Raises:
        SpaceError: No student is left, the grid is huge, or a hidden size divides by none of the head sizes.
    """

    name: str
    axes: Mapping[str, tuple[Any, ...]] = field(hash=False)
    """The axes that span the grid, in the order of `AXES`, each with its values in ascending order; None among them:
    the teacher's own."""
    free_attention: bool = False
    """Heads x head size may differ from the hidden size."""

    def __post_init__(self) -> None:
        """Refuse a grid without students."""
        where = f"sub-space {self.name!r}"
        given = read_axes({axis: values for axis, values in self.axes.items() if values is not None}, where)
        object.__setattr__(self, "axes", {axis: tuple(given[axis]) for axis in AXES if axis in given})
        if not self.axes.keys() & {"num_heads", "head_size"}:
            raise SpaceError(f"{where}: got neither num_heads nor head_size; give one of them or both")
        if self.is_listed:
            check_grid_size(where, self.num_combinations)
        # Without listing what may be a million students: other axes leave none out, or are looked at below.
        attention = {axis: self.axes[axis] for axis in _ATTENTION if axis in self.axes}
        widths = {sizes["hidden_size"] for sizes in _grid(attention) if self._obeys(sizes)}
        stray = sorted(set(self.axes["hidden_size"]) - widths)
        if stray and "num_heads" not in self.axes:  # a grid over num_heads, as the paper's, is meant to be thinned out
            raise SpaceError(
                f"{where}: hidden_size: got {listed(stray)}; "
                f"allowed: multiples of head_size {listed(self.axes['head_size'])}; change hidden_size or head_size"
            )
        if not (widths and all(self.axes.values())):
            raise SpaceError(
                f"{where}: got no student out of {self.num_combinations} combinations; {_SHAPE_RULE}; change these axes"
            )
        for axis, values in self.axes.items():
            if AXES[axis].below_hidden and min(values) >= max(widths):
                raise SpaceError(
                    f"{where}: {axis}: got {listed(values)}; "
                    f"allowed: below the hidden size (here up to {max(widths)}); lower it, or leave it out"
                )

    @classmethod
    def of_student(cls, name: str, student: StudentConfig) -> SubSpace:
        """The grid whose only point is a student, of layers that are alike."""
        sizes = {axis: (size,) for axis in AXES if (size := getattr(student, axis, None)) is not None}
        ratio = student.intermediate_size / student.hidden_size
        return cls(name, {**sizes, "mlp_ratio": (ratio,)}, student.free_attention)

    def with_axes(self, **axes: Any) -> SubSpace:
        """The sub-space with other values on some axes; None takes one out."""
        return replace(self, axes={**self.axes, **axes})

    @property
    def genes(self) -> Mapping[str, tuple[Any, ...]]:
        """What decides a student: the axes, with their values."""
        return self.axes

    @property
    def num_combinations(self) -> int:
        """Points of the grid before the shape rule."""
        return math.prod(len(values) for values in self.genes.values())

    @property
    def size_text(self) -> str:
        """How many students there are."""
        return f"{len(self.students):,}" if self.is_listed else f"about {self.num_combinations:.0e}"

    @property
    def is_listed(self) -> bool:
        """Whether `students` are all there are."""
        return True

    def has_axis_of(self, size: str) -> bool:
        """Whether some axis sets a size such as `embedding_size`, which students need not have."""
        return any(AXES[axis].size == size for axis in self.axes)

    def _obeys(self, sizes: Sizes) -> bool:
        """The shape rule, unless attention is free; and embeddings are narrower than the hidden size."""
        hidden = sizes["hidden_size"]
        return (self.free_attention or sizes["num_heads"] * sizes["head_size"] == hidden) and all(
            sizes.get(axis.size, 0) < hidden for axis in AXES.values() if axis.below_hidden
        )

    def _made(self, axes: Mapping[str, Sequence[Any]]) -> tuple[StudentConfig, ...]:
        students = {StudentConfig(**sizes) for sizes in _grid(axes) if self._obeys(sizes)}
        return tuple(sorted(students, key=attrgetter("sort_key")))

    @cached_property
    def students(self) -> tuple[StudentConfig, ...]:
        """Every student once, sorted by its dimensions."""
        return self._made(self.axes)

    @cached_property
    def architectures(self) -> tuple[StudentConfig, ...]:
        """Every student's architecture once, sorted by its dimensions: what training draws from."""
        weights = {axis: values for axis, values in self.axes.items() if AXES[axis].shapes_weights}
        return self.students if len(weights) == len(self.axes) else self._made(weights)

    @cached_property
    def excluded(self) -> int:
        """Distinct combinations of the grid that the shape rule keeps out, or an embedding as wide as the encoder."""
        return len({tuple(sizes.values()) for sizes in _grid(self.axes)}) - len(self.students)

    def student(self, **point: float | None) -> StudentConfig | None:
        """The student at a point of the grid (one value for each of `genes`); None where there is none (`excluded`)."""
        sizes = sizes_at(point)
        return StudentConfig(**sizes) if self._obeys(sizes) else None

    def point_of(self, student: StudentConfig) -> dict[str, Any]:
        """The point of the grid at which a student of the sub-space is, the lowest where there are several.

        Raises:
            LookupError: an axis has no such value.
        """
        sizes: Sizes = {}
        point = {}
        for name, values in self.axes.items():
            point[name], sizes = AXES[name].value_of(getattr(student, AXES[name].size), values, sizes)
        return point


def sizes_at(point: Mapping[str, float | None]) -> Sizes:
    """The sizes of a student at a value of each axis, whatever the rules; None: it has none of its own."""
    (sizes,) = _grid({name: (point[name],) for name in AXES if name in point})
    return sizes


def _grid(axes: Mapping[str, Sequence[Any]]) -> Iterator[Sizes]:
    """Yield the sizes at each point of a grid, whatever the rules."""
    if not axes:
        yield {}
        return
    *others, last = axes
    for sizes in _grid({name: axes[name] for name in others}):
        for value in axes[last]:
            yield AXES[last].applied(value, sizes)


@dataclass(frozen=True)
class JoinedSubSpaces(StudentSet):
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

    def has_axis_of(self, size: str) -> bool:
        """Whether some sub-space has an axis of it."""
        return any(sub.has_axis_of(size) for sub in self.sub_spaces)


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
        check_grid_size(
            f"search space {self.name!r}", sum(sub.num_combinations for sub in self.sub_spaces if sub.is_listed)
        )

    @cached_property
    def candidates(self) -> tuple[Candidate, ...]:
        """All students of all sub-spaces that these list."""
        return tuple(Candidate(sub.name, config) for sub in self.sub_spaces for config in sub.students)

    def candidate(self, student_id: str) -> Candidate:
        """The student of this id, listed or not.

        Raises:
            SpaceError: there is none.
        """
        no_student = (
            f"search space {self.name!r}: got no student {short(student_id)}; allowed: those of its sub-spaces' sizes; "
            "check the id"
        )
        try:
            candidate = Candidate.of_id(student_id)
            sub = self.sub_space(candidate.sub_space)
            there = sub.student(**sub.point_of(candidate.config)) == candidate.config
        except (SpaceError, LookupError):
            raise SpaceError(no_student) from None
        if not there:
            raise SpaceError(no_student)
        return candidate

    @property
    def is_listed(self) -> bool:
        """Whether `candidates` are all there are."""
        return all(sub.is_listed for sub in self.sub_spaces)

    @property
    def size_text(self) -> str:
        """How many students there are."""
        if self.is_listed:
            return f"{len(self.candidates):,}"
        return f"about {sum(sub.num_combinations for sub in self.sub_spaces):.0e}"

    @property
    def frees_attention(self) -> bool:
        """Whether some student's attention is wider or narrower than its hidden size."""
        return any(student.free_attention for sub in self.sub_spaces for student in sub.architectures)

    def has_axis_of(self, size: str) -> bool:
        """Whether some sub-space has an axis of a size such as `vocab_size`."""
        return any(sub.has_axis_of(size) for sub in self.sub_spaces)

    @property
    def largest(self) -> StudentConfig:
        """The largest architecture of all sub-spaces."""
        return max((sub.largest for sub in self.sub_spaces), key=size_key)

    def refusal(self, axis: str, got: str, allowed: str, advice: str = "correct it") -> SpaceError:
        """What to raise where an axis does not fit a teacher."""
        return SpaceError(f"search space {self.name!r}: {axis}: got {got}; allowed: {allowed}; {advice}")

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
