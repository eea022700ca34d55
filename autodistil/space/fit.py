"""Search spaces and a teacher: what fits into it, and the space that is derived from it."""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise, product

from autodistil.errors import SpaceError
from autodistil.space.axes import AXES
from autodistil.space.per_layer import PerLayerSubSpace
from autodistil.space.space import SearchSpace, SubSpace
from autodistil.space.student import DIMENSIONS, StudentConfig
from autodistil.utils import listed

logger = logging.getLogger(__name__)


def check_fits(space: SearchSpace, teacher: StudentConfig) -> None:
    """Check that every SuperLM can be cut out of the teacher.

    Raises:
        SpaceError: A sub-space has a dimension larger than the teacher's, or layers of their own of another depth.
    """
    for sub, dim in product(space.sub_spaces, DIMENSIONS):
        limit = getattr(teacher, dim)
        above = sorted({value for student in sub.students if (value := getattr(student, dim)) > limit})
        if above:
            axis = dim if dim in AXES else f"mlp_ratio ({dim})"
            raise SpaceError(
                f"search space {space.name!r}, sub-space {sub.name!r}: {axis}: got {listed(above)}; "
                f"allowed: at most the teacher's {limit}; lower it, or use the space 'auto' that fits any teacher"
            )
    for sub in space.sub_spaces:
        if isinstance(sub, PerLayerSubSpace) and sub.depth != teacher.num_layers:
            allowed = f"up to the teacher's {teacher.num_layers}, each of which has sizes of its own"
            raise space.refusal("num_layers", f"up to {sub.depth} in sub-space {sub.name!r}", allowed)


def fit_vocabulary(space: SearchSpace, smallest: int, whole: int) -> SearchSpace:
    """The space with vocabulary sizes as they are for a teacher: its own becomes the whole vocabulary.

    Args:
        space: a search space.
        smallest: the fewest tokens with which the teacher's tokenizer stays lossless.
        whole: rows of the teacher's word embeddings.

    Raises:
        SpaceError: a vocabulary size is outside of these.
    """
    sizes = {size for sub in space.sub_spaces for size in sub.axes.get("vocab_size", ()) if size is not None}
    stray = sorted(size for size in sizes if not smallest <= size <= whole)
    if stray:
        lossless = f"{smallest} (special tokens and the pieces that keep the tokenizer lossless)"
        raise space.refusal("vocab_size", listed(stray), f"{lossless} to the teacher's {whole}", "change it")
    own = (dict.fromkeys(None if n == whole else n for n in sub.axes.get("vocab_size", ())) for sub in space.sub_spaces)
    fitted = (sub.with_axes(vocab_size=n or None) for sub, n in zip(space.sub_spaces, own, strict=True))
    return replace(space, sub_spaces=tuple(fitted))


DERIVED = ("auto", "auto-layers")
"""Names of spaces that `auto_space` derives; the second has layers of their own."""
_NAMES = {1: ("base",), 2: ("tiny", "base"), 3: ("tiny", "small", "base")}


def auto_space(teacher: StudentConfig, k: int = 3, queries_per_kv: int = 1, per_layer: bool = False) -> SearchSpace:
    """Derive a search space of K sub-spaces from a teacher's dimensions.

    Students keep the head size. Their widths run from a quarter of the teacher's heads to all, their depths from a
    third of its layers to all, as few wide layers are fast (LOG.md), their MLP ratios from half of its ratio to all of
    it; the largest student is the teacher (of the teacher's width rounded down to whole heads). Neighbouring sub-spaces
    share one width, so that no cost lies between them and the same architecture can be compared in both of their
    SuperLMs. A teacher with too few heads for K ranges of widths gets fewer sub-spaces.

    Args:
        teacher: its dimensions.
        k: sub-spaces.
        queries_per_kv: query heads that share one head of keys and values; students have a multiple of it.
        per_layer: each layer of the teacher has its number of heads and of FFN units in a student, none among them;
            students keep a third of the layers at least. Widths go from half of the teacher's on, in one sub-space.

    Raises:
        SpaceError: `k` is below one, the teacher is narrower than one of its heads, or has one layer of its own.
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
    if per_layer:
        sub = _per_layer_sub_space(range(max(1, heads // 2), heads + 1), teacher, size)
        return SearchSpace(DERIVED[1], f"Derived layer by layer from a teacher of {teacher.label}.", (sub,))
    groups = _overlapping_groups(range(max(1, heads // 4), heads + 1), k)
    if len(groups) < k:
        logger.info("a teacher with %d heads gets %d sub-spaces instead of %d", heads, len(groups), k)
    names = _NAMES.get(len(groups)) or tuple(f"size{i}" for i in range(1, len(groups) + 1))
    sub_spaces = tuple(_auto_sub_space(name, group, teacher, size) for name, group in zip(names, groups, strict=True))
    return SearchSpace(DERIVED[0], f"Derived from a teacher of {teacher.label}.", sub_spaces)


def _auto_sub_space(name: str, heads: Sequence[int], teacher: StudentConfig, size: int) -> SubSpace:
    """The students of some numbers of heads, or of groups of heads, each `size` wide."""
    ratio = teacher.intermediate_size / teacher.hidden_size
    return SubSpace(
        name,
        {
            "num_layers": _spread(math.ceil(teacher.num_layers / 3), teacher.num_layers, 5),
            "hidden_size": tuple(count * size for count in _spread(heads[0], heads[-1], 4)),
            "head_size": (teacher.head_size,),
            "mlp_ratio": (*(round(ratio * eighths / 8, 4) or ratio for eighths in (4, 5, 6, 7)), ratio),
        },
    )


def _per_layer_sub_space(widths: Sequence[int], teacher: StudentConfig, size: int) -> PerLayerSubSpace:
    """The students of some widths, in heads or groups of heads of `size` together, whose layers are their own."""
    groups, ratio = size // teacher.head_size, teacher.intermediate_size / teacher.hidden_size
    heads = _spread(1, teacher.num_heads // groups, 12)
    return PerLayerSubSpace(
        "base",
        {
            "num_layers": tuple(range(math.ceil(teacher.num_layers / 3), teacher.num_layers + 1)),
            "hidden_size": tuple(count * size for count in _spread(widths[0], widths[-1], 7)),
            "head_size": (teacher.head_size,),
            "num_heads": (0, *(groups * count for count in heads)),
            "mlp_ratio": (0.0, *(round(ratio * sixteenths / 16, 4) or ratio for sixteenths in range(1, 16)), ratio),
        },
    )


def _overlapping_groups(values: Sequence[int], k: int) -> list[Sequence[int]]:
    """Cut `values` into up to `k` runs of at least two, each starting at the value that the one before ends at."""
    k = max(1, min(k, len(values) - 1))
    bounds = [i * (len(values) - 1) // k for i in range(k + 1)]
    return [values[low : high + 1] for low, high in pairwise(bounds)]


def _spread(low: int, high: int, count: int) -> tuple[int, ...]:
    """Up to `count` distinct whole numbers, evenly spaced from `low` to `high`, both included."""
    return tuple(sorted({low + round(i * (high - low) / (count - 1)) for i in range(count)}))
