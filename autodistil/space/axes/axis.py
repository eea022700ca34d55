"""An axis of a search space as people write it: a value, a list, or `{low, high, step}`; everything else is refused.

Messages say where, what was given, what is allowed and what to do, on one bounded line whatever the input.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from fractions import Fraction
from types import MappingProxyType
from typing import Any, cast

from autodistil.errors import SpaceError, suggest
from autodistil.utils import short

WHOLE = "whole"
"""The word for the teacher's own value on an axis, whatever that is."""
MAX_COMBINATIONS = 1_000_000
"""Largest grid of a search space, all sub-spaces together."""

AXIS_BOUNDS: Mapping[str, tuple[float, int]] = MappingProxyType(
    {
        "num_layers": (1, 512),
        "hidden_size": (1, 32_768),
        "num_heads": (1, 1_024),
        "head_size": (1, 1_024),
        "mlp_ratio": (0.01, 32),
        "vocab_size": (1, 10_000_000),
        "embedding_size": (1, 32_768),
    }
)
"""Axis -> smallest and largest value. Within them no cost overflows 64-bit integers (lengths up to 100,000)."""


def read_mapping(
    raw: object, where: str, required: Sequence[str] = (), optional: Sequence[str] = ()
) -> Mapping[Any, object]:
    """`raw` as a mapping with all of the required keys and no unknown ones; any keys where none are named."""
    allowed = (*required, *optional)
    if not isinstance(raw, Mapping) or not raw:
        keys = ", ".join(allowed) or "names of sub-spaces"
        raise SpaceError(f"{where}: got {short(raw)}; allowed: a mapping with the keys {keys}; fill it in")
    for key in raw:
        if allowed and key not in allowed:
            hint = suggest(str(key), allowed) if isinstance(key, str) else ""
            raise SpaceError(
                f"{where}: got the unknown key {short(key)}{hint}; allowed: {', '.join(allowed)}; rename or remove it"
            )
    missing = [key for key in required if key not in raw]
    if missing:
        raise SpaceError(f"{where}: got no {missing[0]}; needed: {', '.join(required)}; add it")
    return raw


def read_axis(raw: object, axis: str, where: str) -> tuple[float, ...]:
    """The values of an axis, ascending and each once."""
    if isinstance(raw, Mapping):
        return _stepped(raw, axis, where)
    values = raw if isinstance(raw, (list, tuple)) else [raw]
    if not values:
        raise SpaceError(f"{where}: got an empty list; allowed: one value or more; add one")
    return tuple(sorted({_number(value, axis, where) for value in values}))


def read_axis_or_whole(raw: object, axis: str, where: str) -> tuple[int | None, ...]:
    """As `read_axis` of whole numbers; the word `whole` may stand among them, and becomes None at the end."""
    values = list(raw) if isinstance(raw, (list, tuple)) else [raw]
    sizes = [value for value in values if value != WHOLE]
    if len(sizes) == len(values):
        return cast(tuple[int, ...], read_axis(raw, axis, where))
    return (*(cast(tuple[int, ...], read_axis(sizes, axis, where)) if sizes else ()), None)


def _stepped(raw: Mapping[Any, object], axis: str, where: str) -> tuple[float, ...]:
    """Values from low to high, both included."""
    keys = read_mapping(raw, where, required=("low", "high", "step"))
    low, high = (_number(keys[key], axis, f"{where}.{key}") for key in ("low", "high"))
    step = _step(keys["step"], axis, where)
    if low > high:
        raise SpaceError(f"{where}: got low {low} above high {high}; allowed: low <= high; swap them")
    # Through str, since 2.0 + 3 * 0.1 in binary is not 2.3.
    first, last, stride = (Fraction(str(value)) for value in (low, high, step))
    count, rest = divmod(last - first, stride)
    check_grid_size(where, count + 1)
    if rest:
        reached = float(last - rest)
        raise SpaceError(
            f"{where}: got high {high}, which steps of {step} from {low} do not reach; "
            f"allowed: low plus a multiple of step; set high to {reached:g}, or change step"
        )
    kind = float if axis == "mlp_ratio" else int
    return tuple(kind(first + i * stride) for i in range(count + 1))


def _step(raw: object, axis: str, where: str) -> float:
    kinds, smallest = ((int, float), 0.001) if axis == "mlp_ratio" else ((int,), 1)
    if isinstance(raw, bool) or not isinstance(raw, kinds) or not smallest <= raw <= AXIS_BOUNDS[axis][1]:
        number = "a number" if axis == "mlp_ratio" else "a whole number"
        raise SpaceError(f"{where}.step: got {short(raw)}; allowed: {number} of at least {smallest}; correct it")
    return cast(float, raw)


def _number(raw: object, axis: str, where: str) -> float:
    """`raw` as a value of `axis`: a float for mlp_ratio, else an int."""
    low, high = AXIS_BOUNDS[axis]
    kinds, kind = ((int, float), "numbers") if axis == "mlp_ratio" else ((int,), "whole numbers")
    if isinstance(raw, bool) or not isinstance(raw, kinds) or not low <= raw <= high:
        raise SpaceError(f"{where}: got {short(raw)}; allowed: {kind} from {low} to {high}; correct it")
    return float(raw) if axis == "mlp_ratio" else int(raw)


def read_text(raw: object, where: str) -> str:
    """`raw` if it is text: YAML reads an unquoted `no` or `1.0` as something else."""
    if not isinstance(raw, str):
        raise SpaceError(f"{where}: got {short(raw)}; allowed: text; put it in quotes")
    return raw


def check_grid_size(where: str, combinations: int) -> None:
    """Refuse a grid too large to list."""
    if combinations > MAX_COMBINATIONS:
        raise SpaceError(
            f"{where}: got {combinations:,} combinations; allowed: at most {MAX_COMBINATIONS:,}; use fewer values"
        )
