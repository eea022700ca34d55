"""An axis of a search space: how people write its values, and what a value makes of a student.

A value, a list, or `{low, high, step}` may be written; everything else is refused. Messages say where, what was given,
what is allowed and what to do, on one bounded line whatever the input.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import TYPE_CHECKING, Any, TypeGuard

from autodistil.errors import SpaceError, suggest
from autodistil.utils import short

if TYPE_CHECKING:
    from autodistil.space.shape import EncoderShape
    from autodistil.space.student import StudentConfig

WHOLE = "whole"
"""The word for the teacher's own value on an axis, whatever that is."""
MAX_COMBINATIONS = 1_000_000
"""Largest grid of a search space, all sub-spaces together."""

Sizes = Mapping[str, Any]
"""A student in the making: sizes (fields of `StudentConfig`) that the axes before have set."""


@dataclass(frozen=True)
class Axis:
    """One axis. Several may set one size of a student; the first in `AXES` with a letter speaks for the size."""

    name: str
    """Key in YAML files, and of values in `SubSpace.axes`."""
    bounds: tuple[float, int]
    """Smallest and largest value. Within them no cost overflows 64-bit integers (lengths up to 100,000)."""
    letter: str = ""
    """Letter of the size in ids such as `L3-H192-A6-F576`; none: another axis speaks for it."""
    words: str = ""
    """What a model card calls the size."""
    heading: str = ""
    """What the report calls it; columns of tables leave out a last word `size`."""
    size: str = ""
    """The field of `StudentConfig` that it sets: one of its own name unless given."""
    apply: Callable[[Any, Sizes], Sizes] | None = None
    """(value, sizes) -> sizes with those that the value sets; the value is the size itself unless given."""
    of_teacher: Callable[[StudentConfig, EncoderShape], int] | None = None
    """The size of a student that has none of its own (None), from its dimensions and what all students share."""
    below_hidden: bool = False
    """Values stay below the hidden size; combinations without that are left out."""
    number: type[float] = int
    """Whole numbers, or `float` for any."""
    choices: tuple[int, ...] = ()
    """The values that there are; none: all within the bounds."""
    required: bool = False
    """Every sub-space has it."""
    or_whole: bool = False
    """The word `whole` may stand for the teacher's own value: None, behind all numbers."""
    shapes_weights: bool = True
    """Students that differ in it have different weights; where not, training draws students without it."""
    by_layer: bool = False
    """Layers may differ in it, and have none: 0."""
    format: str = ""
    """How people read the size, as in `format(size, ",")`."""

    def __post_init__(self) -> None:
        """Fill in the size."""
        object.__setattr__(self, "size", self.size or self.name)

    def applied(self, value: float | None, sizes: Sizes) -> Sizes:
        """The sizes of a student at `value`."""
        return {**sizes, self.size: value} if self.apply is None else self.apply(value, sizes)

    def value_of(self, size: int | None, values: Sequence[Any], sizes: Sizes) -> tuple[Any, Sizes]:
        """The first of the axis's values at which a student gets this size, and the sizes with it.

        Raises:
            LookupError: there is none.
        """
        for value in values:
            after = self.applied(value, sizes)
            if after.get(self.size) == size:
                return value, after
        raise LookupError(f"{self.name}: no value gives {size}")

    def of(self, student: StudentConfig, shape: EncoderShape) -> int:
        """The size of a student; the teacher's where it has none of its own."""
        own: int | None = getattr(student, self.size)
        if own is not None:
            return own
        assert self.of_teacher is not None, f"{self.size} of {student}"
        return self.of_teacher(student, shape)

    def with_none(self) -> Axis:
        """The axis of layers that may have none of it."""
        return replace(self, bounds=(0, self.bounds[1])) if self.by_layer else self

    def read(self, raw: object, where: str) -> tuple[float | None, ...]:
        """The values that `raw` writes, ascending and each once.

        Raises:
            SpaceError: it is malformed, or a value is out of bounds.
        """
        if isinstance(raw, Mapping):
            return self._stepped(raw, where)
        values = raw if isinstance(raw, (list, tuple)) else [raw]
        if not values:
            raise SpaceError(f"{where}: got an empty list; allowed: one value or more; add one")
        numbers = [value for value in values if not (self.or_whole and value == WHOLE)]
        whole = (None,) if len(numbers) < len(values) else ()
        return (*sorted({self._number(value, where) for value in numbers}), *whole)

    def _stepped(self, raw: Mapping[Any, object], where: str) -> tuple[float, ...]:
        """Values from low to high, both included."""
        keys = read_mapping(raw, where, required=("low", "high", "step"))
        low, high = (self._number(keys[key], f"{where}.{key}") for key in ("low", "high"))
        step = self._step(keys["step"], where)
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
        return tuple(self.number(first + i * stride) for i in range(count + 1))

    def _step(self, raw: object, where: str) -> float:
        smallest, kind = (1, "a whole number") if self.number is int else (0.001, "a number")
        if not self._is_number(raw) or not smallest <= raw <= self.bounds[1]:
            raise SpaceError(f"{where}.step: got {short(raw)}; allowed: {kind} of at least {smallest}; correct it")
        return raw

    def _number(self, raw: object, where: str) -> float:
        """`raw` as a value within the bounds."""
        low, high = self.bounds
        if not self._is_number(raw) or not low <= raw <= high or (self.choices and raw not in self.choices):
            kind = "whole numbers" if self.number is int else "numbers"
            allowed = ", ".join(map(str, self.choices)) or f"{kind} from {low} to {high}"
            raise SpaceError(f"{where}: got {short(raw)}; allowed: {allowed}; correct it")
        return self.number(raw)

    def _is_number(self, raw: object) -> TypeGuard[float]:
        return isinstance(raw, (int, self.number)) and not isinstance(raw, bool)


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
