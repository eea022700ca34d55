"""Search spaces: grids of student architectures, one grid (sub-space) per SuperLM, and their YAML files.

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

import logging
import math
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, total_ordering
from itertools import pairwise, product
from pathlib import Path
from types import MappingProxyType
from typing import Any, cast

import yaml

from autodistil.axes import (
    AXIS_BOUNDS,
    WHOLE,
    check_grid_size,
    listed,
    read_axis,
    read_axis_or_whole,
    read_mapping,
    read_text,
    short,
)
from autodistil.errors import SpaceError, suggest

logger = logging.getLogger(__name__)

_SHAPE_RULE = "num_heads x head_size must equal hidden_size (the shape rule of Hugging Face encoders)"
_SUB_SPACE_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,31}")


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


# ---- YAML and dicts


def shipped_spaces() -> dict[str, Path]:
    """Name -> YAML file of every space that comes with autodistil, sorted by name."""
    # In a wheel the folder lies inside the package, in a checkout beside it.
    folders = (Path(__file__).parent / "search_spaces", Path(__file__).parents[1] / "search_spaces")
    folder = next((folder for folder in folders if folder.is_dir()), folders[0])
    return {path.stem: path for path in sorted(folder.glob("*.yaml"))}


def load_space(name_or_path: str) -> SearchSpace:
    """Read a search space by its shipped name or from a YAML file.

    Raises:
        SpaceError: There is no such space or file, or it is not a valid space.
    """
    shipped = shipped_spaces()
    path = shipped.get(name_or_path) or Path(name_or_path)
    try:
        text = path.expanduser().read_text(encoding="utf-8")
    except FileNotFoundError:
        raise SpaceError(
            f"got no search space or file {short(name_or_path)}{suggest(name_or_path, shipped)}; "
            f"allowed: {', '.join(shipped)} or the path of a YAML file; check the name"
        ) from None
    except UnicodeDecodeError as error:
        raise SpaceError(f"{path}: got non-UTF-8 text at byte {error.start}; save the YAML file as UTF-8") from None
    except (OSError, ValueError, RuntimeError) as error:  # a folder, no permission, a NUL in the name, no home
        reason = getattr(error, "strerror", None) or error
        raise SpaceError(f"got {short(name_or_path)}: {reason}; give a readable YAML file or a shipped name") from None
    return space_from_dict(_parse_yaml(text, str(path)), str(path))


class _StrictLoader(yaml.SafeLoader):
    """Refuses a key given twice, of which plain YAML silently keeps the last."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        """Build a dict after looking for repeated keys."""
        keys = Counter(key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode))
        for key, count in keys.items():
            if count > 1:
                raise yaml.constructor.ConstructorError(None, None, f"key {short(key)} given twice", node.start_mark)
        return super().construct_mapping(node, deep)


def _parse_yaml(text: str, source: str) -> object:
    try:
        return yaml.load(text, _StrictLoader)  # a SafeLoader
    except Exception as error:  # besides YAMLError, PyYAML lets out whatever its constructors stumble over
        mark = getattr(error, "problem_mark", None)
        place = f" at line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        problem = getattr(error, "problem", None) or f"{type(error).__name__} {error}"
        problem = " ".join(problem.split())[:200]
        raise SpaceError(f"{source}: got broken YAML{place}: {problem}; correct the file") from None


def space_to_dict(space: SearchSpace) -> dict[str, Any]:
    """Plain dicts, lists and numbers, in the layout of the YAML files; the inverse of `space_from_dict`."""
    sub_spaces = {
        sub.name: {axis: [WHOLE if v is None else v for v in values] for axis, values in sub.axes.items()}
        | ({"free_attention": True} if sub.free_attention else {})
        for sub in space.sub_spaces
    }
    return {"name": space.name, "description": space.description, "sub_spaces": sub_spaces}


def space_from_dict(raw: object, source: str) -> SearchSpace:
    """Build a search space from the content of a YAML file.

    Args:
        raw: `{name, description, sub_spaces: {name: {axis: scalar, list or {low, high, step}}}}`; `name` defaults to
            the stem of `source`, `description` to nothing; a vocabulary size may be the word `whole`.
        source: Where it came from, for messages.

    Raises:
        SpaceError: A key is unknown or missing, an axis is malformed, or a sub-space has no student.
    """
    try:
        top = read_mapping(raw, "the search space", required=("sub_spaces",), optional=("name", "description"))
        subs = read_mapping(top["sub_spaces"], "sub_spaces")
        sub_spaces = tuple(_sub_space(name, axes) for name, axes in subs.items())
        name = read_text(top.get("name", Path(source).stem), "name")
        return SearchSpace(name, read_text(top.get("description", ""), "description"), sub_spaces)
    except SpaceError as error:
        raise SpaceError(f"{source}: {error}") from None


_OR_WHOLE = ("vocab_size",)
"""Axes on which the word `whole` stands for the teacher's own value."""


def _sub_space(name: object, raw: object) -> SubSpace:
    if not isinstance(name, str) or not _SUB_SPACE_NAME.fullmatch(name):
        raise SpaceError(
            f"sub_spaces: got the name {short(name)}; "
            "allowed: a letter, then up to 31 letters, digits or underscores; rename it"
        )
    where = f"sub-space {name!r}"
    required = ("num_layers", "hidden_size", "mlp_ratio")
    optional = ("num_heads", "head_size", *OPTIONAL_AXES, "free_attention")
    axes = read_mapping(raw, where, required=required, optional=optional)
    readers = {axis: read_axis_or_whole if axis in _OR_WHOLE else read_axis for axis in AXIS_BOUNDS}
    values = {
        axis: read(axes[axis], axis, f"{where}: {axis}") if axis in axes else None for axis, read in readers.items()
    }
    free = axes.get("free_attention", False)
    if not isinstance(free, bool):
        raise SpaceError(f"{where}: free_attention: got {short(free)}; allowed: true or false; correct it")
    return SubSpace(name, **cast(dict[str, Any], values), free_attention=free)


# ---- spaces and teachers


def check_fits(space: SearchSpace, teacher: StudentConfig) -> None:
    """Check that every SuperLM can be cut out of the teacher.

    Raises:
        SpaceError: A sub-space has a dimension larger than the teacher's.
    """
    for sub, dim in product(space.sub_spaces, DIMENSIONS):
        limit = getattr(teacher, dim)
        above = sorted({value for student in sub.students if (value := getattr(student, dim)) > limit})
        if above:
            axis = "mlp_ratio (intermediate_size)" if dim == "intermediate_size" else dim
            raise SpaceError(
                f"search space {space.name!r}, sub-space {sub.name!r}: {axis}: got {listed(above)}; "
                f"allowed: at most the teacher's {limit}; lower it, or use the space 'auto' that fits any teacher"
            )


def fit_vocabulary(space: SearchSpace, smallest: int, whole: int) -> SearchSpace:
    """The space with vocabulary sizes as they are for a teacher: its own becomes the whole vocabulary.

    Args:
        space: a search space.
        smallest: the fewest tokens with which the teacher's tokenizer stays lossless.
        whole: rows of the teacher's word embeddings.

    Raises:
        SpaceError: a vocabulary size is outside of these.
    """
    stray = sorted({n for sub in space.sub_spaces for n in sub.vocab_size or () if n and not smallest <= n <= whole})
    if stray:
        raise SpaceError(
            f"search space {space.name!r}: vocab_size: got {listed(stray)}; allowed: {smallest} (special tokens and "
            f"the pieces that keep the tokenizer lossless) to the teacher's {whole}; change it"
        )
    fitted = []
    for sub in space.sub_spaces:
        sizes = sub.vocab_size and tuple(dict.fromkeys(None if size == whole else size for size in sub.vocab_size))
        fitted.append(replace(sub, vocab_size=sizes))
    return replace(space, sub_spaces=tuple(fitted))


_NAMES = MappingProxyType({1: ("base",), 2: ("tiny", "base"), 3: ("tiny", "small", "base")})


def auto_space(teacher: StudentConfig, k: int = 3, queries_per_kv: int = 1) -> SearchSpace:
    """Derive a search space of K sub-spaces from a teacher's dimensions.

    Students keep the head size. Their widths run from a quarter of the teacher's heads to all, their depths from half
    of its layers to all, their MLP ratios from half of its ratio to all of it; the largest student is the teacher (of
    the teacher's width rounded down to whole heads). Neighbouring sub-spaces share one width, so that no cost lies
    between them and the same architecture can be compared in both of their SuperLMs. A teacher with too few heads for
    K ranges of widths gets fewer sub-spaces.

    Args:
        teacher: its dimensions.
        k: sub-spaces.
        queries_per_kv: query heads that share one head of keys and values; students have a multiple of it.

    Raises:
        SpaceError: `k` is below one, or the teacher is narrower than one of its heads.
    """
    if k < 1:
        raise SpaceError(f"number of sub-spaces: got {k}; allowed: 1 or more; use 3, as the paper does")
    size = teacher.head_size * queries_per_kv
    heads = min(teacher.num_heads // queries_per_kv, teacher.hidden_size // size)
    if heads < 1:
        raise SpaceError(
            f"teacher: got hidden size {teacher.hidden_size} with heads of {size}; allowed: at least one "
            "head wide; write a search space in YAML with a smaller head_size"
        )
    groups = _overlapping_groups(range(max(1, heads // 4), heads + 1), k)
    if len(groups) < k:
        logger.info("a teacher with %d heads gets %d sub-spaces instead of %d", heads, len(groups), k)
    names = _NAMES.get(len(groups)) or tuple(f"size{i}" for i in range(1, len(groups) + 1))
    sub_spaces = tuple(_auto_sub_space(name, group, teacher, size) for name, group in zip(names, groups, strict=True))
    return SearchSpace("auto", f"Derived from a teacher of {teacher.label}.", sub_spaces)


def _auto_sub_space(name: str, heads: Sequence[int], teacher: StudentConfig, size: int) -> SubSpace:
    """The students of some numbers of heads, or of groups of heads, each `size` wide."""
    ratio = teacher.intermediate_size / teacher.hidden_size
    return SubSpace(
        name,
        num_layers=_spread(math.ceil(teacher.num_layers / 2), teacher.num_layers, 4),
        hidden_size=tuple(count * size for count in _spread(heads[0], heads[-1], 4)),
        num_heads=None,
        head_size=(teacher.head_size,),
        mlp_ratio=(*(round(ratio * eighths / 8, 4) for eighths in (4, 5, 6, 7)), ratio),
    )


def _overlapping_groups(values: Sequence[int], k: int) -> list[Sequence[int]]:
    """Cut `values` into up to `k` runs of at least two, each starting at the value that the one before ends at."""
    k = max(1, min(k, len(values) - 1))
    bounds = [i * (len(values) - 1) // k for i in range(k + 1)]
    return [values[low : high + 1] for low, high in pairwise(bounds)]


def _spread(low: int, high: int, count: int) -> tuple[int, ...]:
    """Up to `count` distinct whole numbers, evenly spaced from `low` to `high`, both included."""
    return tuple(sorted({low + round(i * (high - low) / (count - 1)) for i in range(count)}))
