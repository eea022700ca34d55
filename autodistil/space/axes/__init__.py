"""The axes of a search space: one file each, and here the dict that names them, in the order of a grid.

Adding one is a file with an `Axis` and its line below. Where it sets a size that no other sets, that is a field of
`StudentConfig` (None where students do without), and a term of `costs/closed_form`, too. Ids, YAML, tables, terminal,
page and card follow.
"""

from collections.abc import Mapping
from typing import Any

from autodistil.space.axes.axis import Axis, read_mapping
from autodistil.space.axes.bits import EMBEDDING_BITS, LAYER_BITS
from autodistil.space.axes.depth import NUM_LAYERS
from autodistil.space.axes.embedding import EMBEDDING_SIZE
from autodistil.space.axes.ffn import MLP_RATIO
from autodistil.space.axes.heads import HEAD_SIZE, NUM_HEADS
from autodistil.space.axes.vocabulary import VOCAB_SIZE
from autodistil.space.axes.width import HIDDEN_SIZE
from autodistil.space.axes.window import GLOBAL_EVERY, WINDOW

AXES: dict[str, Axis] = {
    axis.name: axis
    for axis in (
        NUM_LAYERS,
        HIDDEN_SIZE,
        NUM_HEADS,
        HEAD_SIZE,
        MLP_RATIO,
        VOCAB_SIZE,
        EMBEDDING_SIZE,
        EMBEDDING_BITS,
        LAYER_BITS,
        WINDOW,
        GLOBAL_EVERY,
    )
}
"""Name -> axis. Sizes that later axes start from come before them."""


def read_axes(raw: object, where: str, *also: str) -> Mapping[Any, Any]:
    """`raw` as a mapping by axes, all required ones among them, and what `also` may stand beside them.

    Raises:
        SpaceError: a key is unknown or missing.
    """
    required = [axis.name for axis in AXES.values() if axis.required]
    return read_mapping(raw, where, required, [*(axis for axis in AXES if axis not in required), *also])


def axis_of(size: str) -> Axis:
    """The axis that speaks for a size, a field of `StudentConfig`."""
    return next(axis for axis in AXES.values() if axis.size == size and axis.letter)
