"""Layer maps: which teacher layers a shallower student starts from, and is compared with."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

LayerMap = Callable[[int, int], tuple[int, ...]]
"""(depth of the student, depth of the teacher) -> the teacher's layers, ascending."""


def stride_layers(depth: int, teacher_depth: int) -> tuple[int, ...]:
    """`floor(i * T / L)`, AutoDistil's map: 4 of 12 -> 0, 3, 6, 9. The last teacher layer is used only where L = T."""
    return tuple(i * teacher_depth // depth for i in range(depth))


def spread_layers(depth: int, teacher_depth: int) -> tuple[int, ...]:
    """Evenly spaced with both ends: 4 of 12 -> 0, 4, 7, 11. Every depth ends in the teacher's last layer."""
    if depth == 1:
        return (teacher_depth - 1,)
    return tuple((2 * i * (teacher_depth - 1) + depth - 1) // (2 * (depth - 1)) for i in range(depth))


def first_layers(depth: int, teacher_depth: int) -> tuple[int, ...]:
    """The first L layers: a truncated teacher."""
    return tuple(range(min(depth, teacher_depth)))


LAYER_MAPS: Mapping[str, LayerMap] = {"spread": spread_layers, "stride": stride_layers, "first": first_layers}
"""Maps that need no data; the run option `layer_map` also knows `influence` (see `ordering.py`)."""


def ending_in(layer_map: LayerMap, layer: int) -> LayerMap:
    """The map of a teacher that ends in `layer`: no student starts from a later one."""
    return lambda depth, _: layer_map(depth, layer + 1)


def depths_of(layers: Sequence[int], teacher_depth: int) -> tuple[float, ...]:
    """How deep layers lie in their teacher, 0 for its first and 1 for its last."""
    return tuple(layer / max(1, teacher_depth - 1) for layer in layers)
