"""Budgets that hold on a device: `8ms@cpu,threads=1,runtime=onnx,seq=128`, `200MBram`, `25MBfile`.

A number, a unit, and after @ a device with settings. The device is `cpu` or `cuda`, measured here; the name of a
latency table that is given along; or the path of one. Units: `ms` and `s` for one forward of the whole batch, `MBram`
for the peak memory, `MBfile` for the file that the runtime loads (1 MB = 1,000,000 bytes). Settings left out are the
table's, else ONNX Runtime on one thread, batch 1 and the run's length.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import TypeVar

from autodistil.axes import short
from autodistil.costs import Budget, parse_budget
from autodistil.errors import BudgetError, ProfileError, suggest
from autodistil.profiling.setting import (
    DEVICES,
    MAX_BATCH,
    MAX_SEQ_LEN,
    MAX_THREADS,
    RuntimeSetting,
    check_runtime,
    check_whole,
)

Value = TypeVar("Value")

_UNITS: Mapping[str, tuple[str, float]] = MappingProxyType(
    {
        "ms": ("ms", 1.0),
        "s": ("ms", 1e3),
        **{f"{prefix}bram": ("ram_mb", scale) for prefix, scale in (("k", 1e-3), ("m", 1.0), ("g", 1e3))},
        **{f"{prefix}bfile": ("file_mb", scale) for prefix, scale in (("k", 1e-3), ("m", 1.0), ("g", 1e3))},
    }
)
"""Unit in lower case -> (cost, base units in it)."""
_GRAMMAR = re.compile(r"\s*([+-]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:e[+-]?[0-9]+)?)\s*([a-z]+)\s*(?:@(.*))?", re.I)
_MAX_CHARACTERS = 300  # paths may be long, messages must not
_ALLOWED = "such as 8ms@cpu,threads=1,runtime=onnx,seq=128, 8ms@laptop, 200MBram or 25MBfile"


@dataclass(frozen=True)
class DeviceBudget(Budget):
    """An upper limit of what a student takes on a device; `cost` is `ms`, `ram_mb` or `file_mb`."""

    device: str = "cpu"
    """`cpu`, `cuda`, or the name or path of a table."""
    runtime: str | None = None
    """None: the table's, or ONNX Runtime."""
    threads: int | None = None
    """None: the table's, or one."""
    batch: int = 1

    @property
    def where(self) -> str:
        """Device and settings as typed, `cpu` where there are none."""
        return self.text.partition("@")[2].replace(" ", "") or self.device

    @property
    def column(self) -> str:
        """Column of the candidates, such as `ms@laptop`."""
        return f"{self.cost}@{self.where}"

    @property
    def measured_here(self) -> bool:
        """Whether it names this machine instead of a table."""
        return self.device in DEVICES

    def setting(self, seq_len: int) -> RuntimeSetting:
        """How a student runs on it where nothing else says so.

        Args:
            seq_len: the run's length, unless the budget has one of its own.
        """
        return RuntimeSetting(
            self.device, self.runtime or "onnx", self.threads or 1, self.batch, self.seq_len or seq_len
        )


def is_device_budget(text: str) -> bool:
    """Whether a budget is one of a device, well-formed or not: its unit says so."""
    match = _GRAMMAR.fullmatch(text) if isinstance(text, str) and len(text) <= _MAX_CHARACTERS else None
    return match is not None and match.group(2).lower() in _UNITS


def parse_device_budget(text: str) -> DeviceBudget:
    """Read a budget of a device.

    Raises:
        BudgetError: it is none, its number is not above zero and finite, or a setting is unknown or out of bounds.
    """
    match = _GRAMMAR.fullmatch(text) if len(text) <= _MAX_CHARACTERS else None
    if match is None or match.group(2).lower() not in _UNITS:
        raise BudgetError(f"budget: got {short(text)}; allowed: a positive number with a unit, {_ALLOWED}; correct it")
    number, unit, where = match.groups()
    cost, scale = _UNITS[unit.lower()]
    limit = float(number) * scale
    if not 0 < limit < float("inf"):
        raise BudgetError(f"budget: got {short(text)}; allowed: numbers above zero and finite; correct the number")
    device, settings = _where(where, cost, text)
    return DeviceBudget(
        cost,
        limit,
        _whole(settings, "seq", MAX_SEQ_LEN, text),
        " ".join(text.split()),
        device,
        _runtime(settings.get("runtime"), text),
        _whole(settings, "threads", MAX_THREADS, text),
        _whole(settings, "batch", MAX_BATCH, text) or 1,
    )


def _where(where: str | None, cost: str, text: str) -> tuple[str, dict[str, str]]:
    """The device, and the settings as typed."""
    if where is None and cost == "ms":  # memory and files differ little between devices, times do
        raise BudgetError(f"budget: got {short(text)} without a device; allowed: {_ALLOWED}; add @ and the device")
    device, *rest = (part.strip() for part in ("cpu" if where is None else where).split(","))
    if not device:
        raise BudgetError(f"budget: got {short(text)} without a device after @; allowed: {_ALLOWED}; add the device")
    return device, dict(_setting(part, text) for part in rest)


_SETTINGS = ("runtime", "threads", "batch", "seq")


def _setting(part: str, text: str) -> tuple[str, str]:
    name, equals, value = (piece.strip() for piece in part.partition("="))
    if name not in _SETTINGS or not equals:
        hint = suggest(name, _SETTINGS)
        raise BudgetError(
            f"budget: got the setting {short(part)}{hint} in {short(text)}; allowed: {'=..., '.join(_SETTINGS)}=...; "
            "correct it"
        )
    return name, value


def _whole(settings: Mapping[str, str], name: str, most: int, text: str) -> int | None:
    if name not in settings:
        return None
    value = settings[name]
    number = int(value) if value.isascii() and value.isdecimal() and len(value) < 10 else None
    if number is None:
        raise BudgetError(
            f"budget: got {name}={short(value)} in {short(text)}; allowed: whole numbers from 1 to {most:,}; correct it"
        )
    return _of_budget(lambda: check_whole(name, number, most), text)


def _runtime(name: str | None, text: str) -> str | None:
    return None if name is None else _of_budget(lambda: check_runtime(name), text)


def _of_budget(read: Callable[[], Value], text: str) -> Value:
    """Say which budget a setting is of that cannot be used."""
    try:
        return read()
    except ProfileError as error:
        raise BudgetError(f"budget {short(text)}: {error}") from None


def read_budget(text: str) -> Budget:
    """Read a budget of a device or a closed-form one.

    Raises:
        BudgetError: it is neither.
    """
    return parse_device_budget(text) if is_device_budget(text) else parse_budget(text)
