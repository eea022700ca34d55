"""Budgets as people type them: `5GFLOPs`, `300MFLOPs@256`, `12Mparams`, `25MB`, `12KBkv`.

A budget is a positive number, a prefix K, M, G or T (powers of 1,000), a unit, and for FLOPs a sequence length after @.
Case and spaces do not matter. FLOPs are multiply-adds of one sequence, in the convention of fvcore and of the paper.
Bytes `kv` are of the cache of keys and values of a decoder, a token (`closed_form.kv_bytes`).

Budgets that hold on a device: `8ms@cpu,threads=1,runtime=onnx,seq=128`, `200MBram`, `25MBfile`.

A number, a unit, and after @ a device with settings. The device is `cpu` or `cuda`, measured here; the name of a
latency table that is given along; or the path of one. Units: `ms` and `s` for one forward of the whole batch, `MBram`
for the peak memory, `MBfile` for the file that the runtime loads (1 MB = 1,000,000 bytes). Settings left out are the
table's, else ONNX Runtime on one thread, batch 1 and the run's length.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from autodistil.errors import BudgetError, ProfileError, suggest
from autodistil.formats.setting import (
    DEVICES,
    MAX_BATCH,
    MAX_SEQ_LEN,
    MAX_THREADS,
    RuntimeSetting,
    check_runtime,
    check_whole,
)
from autodistil.utils import short

_PREFIXES = MappingProxyType({"": 1.0, "k": 1e3, "m": 1e6, "g": 1e9, "t": 1e12})

_UNITS: Mapping[str, tuple[str, float]] = MappingProxyType(
    {
        **dict.fromkeys(("flops", "flop", "macs", "mac"), ("flops", 1.0)),
        **dict.fromkeys(("params", "param", "parameters", "parameter"), ("params", 1.0)),
        "b": ("size_mb", 1e6),
        "bkv": ("kv_bytes", 1.0),
    }
)
"""Unit in lower case -> (cost, units in one base unit of that cost)."""

# A number, then letters, then the length; what the letters mean is decided in code, for better messages.
_GRAMMAR = re.compile(
    r"\s*((?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:e[+-]?[0-9]+)?)\s*([a-z]\s*[a-z]*)\s*(?:@\s*([0-9]{1,9})\s*)?"
)

_MAX_CHARACTERS = 64  # budgets are repeated in reports; and no pattern runs long on so little
_ALLOWED = "a positive number with a unit, such as 5GFLOPs, 300MFLOPs@256, 12Mparams, 25MB, 12KBkv or 8ms@cpu"

Value = TypeVar("Value", float, NDArray[np.float64])


@dataclass(frozen=True)
class Budget:
    """An upper limit of one cost of a student."""

    cost: str
    """`flops`, `params`, `size_mb` or `kv_bytes`; `ms`, `ram_mb` or `file_mb` of a device (`profiling.budgets`)."""
    limit: float
    """In base units: multiply-adds, parameters, MB of 1,000,000 bytes, bytes, or milliseconds."""
    seq_len: int | None
    """Sequence length in tokens at which FLOPs are counted; None: that of the run, or a cost without length."""
    text: str
    """As typed."""

    @property
    def column(self) -> str:
        """Column of the cost table, which is at the table's length; `budget_cost` minds a budget's own length."""
        return self.cost

    def excess(self, value: Value) -> Value:
        """`value / limit - 1`: feasible when <= 0. Units of `value` are those of `limit`."""
        return value / self.limit - 1


def parse_budget(text: str) -> Budget:
    """Read a budget.

    Raises:
        BudgetError: It is no positive finite number with a known unit, or a length stands where none belongs.
    """
    match = _GRAMMAR.fullmatch(text.lower()) if isinstance(text, str) and len(text) <= _MAX_CHARACTERS else None
    if match is None:
        raise BudgetError(f"budget: got {short(text)}; allowed: {_ALLOWED}; correct it")
    number, letters, length = match.groups()
    cost, scale = _unit("".join(letters.split()), text)
    limit = float(number) * scale
    if not 0 < limit < math.inf:
        raise BudgetError(f"budget: got {short(text)}; allowed: numbers above zero and finite; correct the number")
    return Budget(cost, limit, _seq_len(length, cost, text), " ".join(text.split()))


def _unit(letters: str, text: str) -> tuple[str, float]:
    """Cost, and the base units of it that one `letters` is worth."""
    prefix = letters[0] if letters not in _UNITS and letters[0] in _PREFIXES else ""
    unit = letters[len(prefix) :]
    if unit not in _UNITS or letters == "b":  # 7B may mean parameters, so bytes need a prefix
        hint = suggest(letters, ("gflops", "mflops", "mparams", "mb", "gb", "kbkv"))
        raise BudgetError(
            f"budget: got {short(text)} with unit {short(letters)}{hint}; allowed: {_ALLOWED}; correct it"
        )
    cost, per_base = _UNITS[unit]
    return cost, _PREFIXES[prefix] / per_base


def _seq_len(length: str | None, cost: str, text: str) -> int | None:
    if length is None:
        return None
    if cost != "flops":
        raise BudgetError(f"budget: got a length in {short(text)}; allowed: @ after FLOPs only; remove @{length}")
    if not 1 <= int(length) <= MAX_SEQ_LEN:
        raise BudgetError(
            f"budget: got the length {length} in {short(text)}; allowed: 1 to {MAX_SEQ_LEN:,} tokens; correct it"
        )
    return int(length)


Parsed = TypeVar("Value")

_DEVICE_UNITS: Mapping[str, tuple[str, float]] = MappingProxyType(
    {
        "ms": ("ms", 1.0),
        "s": ("ms", 1e3),
        **{f"{prefix}bram": ("ram_mb", scale) for prefix, scale in (("k", 1e-3), ("m", 1.0), ("g", 1e3))},
        **{f"{prefix}bfile": ("file_mb", scale) for prefix, scale in (("k", 1e-3), ("m", 1.0), ("g", 1e3))},
    }
)
"""Unit in lower case -> (cost, base units in it)."""

_DEVICE_GRAMMAR = re.compile(
    r"\s*([+-]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:e[+-]?[0-9]+)?)\s*([a-z]+)\s*(?:@(.*))?", re.I
)

_MAX_DEVICE_CHARACTERS = 300  # paths may be long, messages must not
_DEVICE_ALLOWED = "such as 8ms@cpu,threads=1,runtime=onnx,seq=128, 8ms@laptop, 200MBram or 25MBfile"


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
    match = _DEVICE_GRAMMAR.fullmatch(text) if isinstance(text, str) and len(text) <= _MAX_DEVICE_CHARACTERS else None
    return match is not None and match.group(2).lower() in _DEVICE_UNITS


def parse_device_budget(text: str) -> DeviceBudget:
    """Read a budget of a device.

    Raises:
        BudgetError: it is none, its number is not above zero and finite, or a setting is unknown or out of bounds.
    """
    match = _DEVICE_GRAMMAR.fullmatch(text) if len(text) <= _MAX_DEVICE_CHARACTERS else None
    if match is None or match.group(2).lower() not in _DEVICE_UNITS:
        raise BudgetError(
            f"budget: got {short(text)}; allowed: a positive number with a unit, {_DEVICE_ALLOWED}; correct it"
        )
    number, unit, where = match.groups()
    cost, scale = _DEVICE_UNITS[unit.lower()]
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
        raise BudgetError(
            f"budget: got {short(text)} without a device; allowed: {_DEVICE_ALLOWED}; add @ and the device"
        )
    device, *rest = (part.strip() for part in ("cpu" if where is None else where).split(","))
    if not device:
        raise BudgetError(
            f"budget: got {short(text)} without a device after @; allowed: {_DEVICE_ALLOWED}; add the device"
        )
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


def _of_budget(read: Callable[[], Parsed], text: str) -> Parsed:
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
