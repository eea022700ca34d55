"""What all students of a space take on one device: measured where they were, else predicted, with both kept apart.

Students measured by design are stand-ins with untrained weights; a model is fitted to them. Finalists are measured
again as they are exported; they correct the model for those that are not measured yet. A budget counts as met only by
such a measurement (`measured`), never by a prediction.

Costs in words: `1.44 GFLOPs`, `22.7 M parameters`, `90.9 MB`. FLOPs are multiply-adds; MB are 1e6 bytes.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from autodistil.costs.budget import Budget
from autodistil.costs.closed_form import KV_BYTES

UNITS: Mapping[str, str] = MappingProxyType({"ms": "ms", "ram_mb": "MB", "file_mb": "MB"})
"""Of the costs that are measured."""

_PREFIXES = ((1e15, "P"), (1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "K"))


@dataclass(frozen=True)
class Cost:
    """A cost of a student."""

    column: str
    name: str
    unit: str
    """What stands behind a number, `{}` being the SI prefix."""

    def text(self, value: float) -> str:
        """The value with three digits and its unit."""
        number, prefix = scaled(value) if "{}" in self.unit else (value, "")
        return f"{three_digits(number)} {self.unit.format(prefix)}".replace("  ", " ")


COSTS: Mapping[str, Cost] = MappingProxyType(
    {
        "flops": Cost("flops", "FLOPs", "{}FLOPs"),
        "params": Cost("params", "Parameters", "{} parameters"),
        "size_mb": Cost("size_mb", "Size", "MB"),
        "kv_bytes": Cost("kv_bytes", "Cache of keys and values a token", "{}B"),
    }
)

_DEVICE_COSTS: Mapping[str, tuple[str, str]] = MappingProxyType(
    {"ms": ("Latency", "ms"), "ram_mb": ("Peak memory", "MB"), "file_mb": ("File size", "MB")}
)
"""Of a device, whose columns are such as `ms@laptop`."""


def cost_of(column: str) -> Cost:
    """The cost in a column of the candidates; of a device too."""
    kind, at, where = column.partition("@")
    if not at:
        return COSTS[column]
    name, unit = _DEVICE_COSTS[kind]
    return Cost(column, f"{name} on {where.replace(',', ', ')}", unit)


def scaled(value: float) -> tuple[float, str]:
    """The value over its SI prefix, and the prefix; rounding never yields 1000 of the smaller one."""
    for power, prefix in _PREFIXES:
        if abs(value) >= 0.9995 * power:
            return value / power, prefix
    return value, ""


def three_digits(value: float) -> str:
    """Three significant digits without an exponent, whole from 100 on."""
    magnitude = abs(value)
    digits = 0 if magnitude >= 99.95 else 1 if magnitude >= 9.995 else 2
    return f"{value:,.{digits}f}"


def share(value: float, whole: float | None) -> str | None:
    """`27 %` of a whole; None where there is no whole to compare with."""
    if whole is None or not whole > 0 or not math.isfinite(value):
        return None
    percent = 100 * value / whole
    digits = 2 if percent < 0.995 else 1 if percent < 9.95 else 0
    return f"{percent:,.{digits}f} %"


_DECIMAL_UNITS = {"size_mb": "MB", **UNITS}


def describe_cost(budget: Budget, value: float) -> str:
    """A cost in the unit of its budget, such as `412.3 MFLOPs`."""
    if budget.cost in _DECIMAL_UNITS:
        return f"{value:.1f} {_DECIMAL_UNITS[budget.cost]}"
    unit = {"flops": "FLOPs", "params": "params", KV_BYTES: "B of cache a token"}[budget.cost]
    for scale, prefix in ((1e9, "G"), (1e6, "M"), (1e3, "K")):
        if value >= scale:
            return f"{value / scale:.4g} {prefix}{unit}"
    return f"{value:.0f} {unit}"
