"""Costs in words: `1.44 GFLOPs`, `22.7 M parameters`, `90.9 MB`, `8.21 ms`. FLOPs are multiply-adds, MB 1e6 bytes."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType

_PREFIXES = ((1e15, "P"), (1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "K"))


@dataclass(frozen=True)
class Cost:
    """A cost of a student."""

    column: str
    name: str
    unit: str
    """What stands behind a number, `{}` being the SI prefix."""

    @property
    def words(self) -> str:
        """The name within a sentence."""
        return self.name if self.name.startswith("FLOPs") else self.name[0].lower() + self.name[1:]

    def text(self, value: float, digits: int = 3) -> str:
        """The value with so many significant digits, and its unit."""
        number, prefix = scaled(value) if "{}" in self.unit else (value, "")
        return f"{significant(number, digits)} {self.unit.format(prefix)}".replace("  ", " ")


COSTS: Mapping[str, Cost] = MappingProxyType(
    {
        "flops": Cost("flops", "FLOPs", "{}FLOPs"),
        "params": Cost("params", "Parameters", "{} parameters"),
        "size_mb": Cost("size_mb", "Size", "MB"),
        "kv_bytes": Cost("kv_bytes", "Cache of keys and values a token", "{}B"),
        "cache_bytes": Cost("cache_bytes", "Cache of keys and values", "{}B"),
        "ms": Cost("ms", "Latency", "ms"),
        "ram_mb": Cost("ram_mb", "Peak memory", "MB"),
        "file_mb": Cost("file_mb", "File size", "MB"),
    }
)
"""Costs by the `cost` of a budget; the last three are of a device, and their columns such as `ms@laptop`. Those of
`AT_LENGTH` at another length than the run's have columns such as `flops@256`."""
SHOWN = ("flops", "params", "size_mb")
"""Costs that every student is shown with."""
AT_LENGTH = ("flops", "cache_bytes")
"""Costs that depend on the length of a text."""


def beside_shown(columns: Iterable[str]) -> list[str]:
    """The columns of costs that are not of `SHOWN`, each once, in their order."""
    return [column for column in dict.fromkeys(columns) if column not in SHOWN]


def is_of_device(column: str) -> bool:
    """Whether the costs in a column of the candidates are of a device."""
    kind, at, _ = column.partition("@")
    return bool(at) and kind not in AT_LENGTH


def cost_of(column: str) -> Cost:
    """The cost in a column of the candidates; of a device or at another length too."""
    kind, at, where = column.partition("@")
    cost = COSTS[kind]
    if not at:
        return cost
    there = f"at {where} tokens" if kind in AT_LENGTH else f"on {where.replace(',', ', ')}"
    return replace(cost, column=column, name=f"{cost.name} {there}")


def scaled(value: float) -> tuple[float, str]:
    """The value over its SI prefix, and the prefix; rounding never yields 1000 of the smaller one."""
    fitting = (entry for entry in _PREFIXES if abs(value) >= 0.9995 * entry[0])
    power, prefix = next(fitting, (1.0, ""))
    return value / power, prefix


def significant(value: float, digits: int = 3) -> str:
    """So many significant digits without an exponent: fewer below 1, and more where there are more before the point."""
    behind = digits - 1
    while behind and abs(value) >= 10 ** (digits - behind) - 0.5 * 10**-behind:
        behind -= 1
    return f"{value:,.{behind}f}"


def share(value: float, whole: float | None) -> str | None:
    """`27 %` of a whole; None where there is no whole to compare with."""
    if whole is None or not whole > 0 or not math.isfinite(value):
        return None
    percent = 100 * value / whole
    digits = 2 if percent < 0.995 else 1 if percent < 9.95 else 0
    return f"{percent:,.{digits}f} %"
