"""Budgets as people type them: `5GFLOPs`, `300MFLOPs@256`, `12Mparams`, `25MB`, `12KBkv`, `8ms@cpu,threads=1`.

    budget  = number unit [@ length | @ device {, setting = value}]
    unit    = [K | M | G | T] (FLOPs | MACs | params | B | Bkv | Bcache)  |  ms | s  |  (K | M | G) (Bram | Bfile)
    setting = runtime | threads | batch | seq

Prefixes are powers of 1,000; case and spaces do not matter. FLOPs are multiply-adds of one sequence, in the convention
of fvcore and of the paper, at the run's length unless one stands after @. Bytes `kv` are of the cache of keys and
values of a decoder, a token (`closed_form.kv_bytes`); bytes `cache` are of that of a whole sequence, which a window
bounds, at a length as FLOPs are.

Times are of one forward of the whole batch, `Bram` is its peak memory, `Bfile` the file that the runtime loads. The
device is `cpu` or `cuda`, measured here; the name of a latency table that is given along; or the path of one. Settings
left out are the table's, else ONNX Runtime on one thread, batch 1 and the run's length.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from autodistil.costs.units import AT_LENGTH
from autodistil.errors import BudgetError, ProfileError, suggest
from autodistil.formats.setting import DEVICES, MAX_BATCH, MAX_SEQ_LEN, MAX_THREADS, RuntimeSetting, check_runtime
from autodistil.utils import short

_PREFIXES = {"": 1.0, "k": 1e3, "m": 1e6, "g": 1e9, "t": 1e12}


Unit = tuple[str, float]
"""A cost, and how much of it in base units one of the unit is."""


def _spellings(cost: str, units: Sequence[str], prefixes: Sequence[str], per_base: float) -> dict[str, Unit]:
    """The units of a cost with each of the prefixes, in lower case."""
    return {prefix + unit: (cost, _PREFIXES[prefix] / per_base) for unit in units for prefix in prefixes}


_UNITS: Mapping[str, Unit] = {
    **_spellings("flops", ("flops", "flop", "macs", "mac"), ("", *"kmgt"), 1),
    **_spellings("params", ("params", "param", "parameters", "parameter"), ("", *"kmgt"), 1),
    **_spellings("size_mb", ("b",), "kmgt", 1e6),  # 7B may mean parameters, so bytes need a prefix
    **_spellings("kv_bytes", ("bkv",), ("", *"kmgt"), 1),
    **_spellings("cache_bytes", ("bcache",), ("", *"kmgt"), 1),
    "ms": ("ms", 1.0),
    "s": ("ms", 1e3),
    **_spellings("ram_mb", ("bram",), "kmg", 1e6),
    **_spellings("file_mb", ("bfile",), "kmg", 1e6),
}

_DEVICE_COSTS = ("ms", "ram_mb", "file_mb")

# What the letters mean, and what stands after @, is decided in code, for better messages.
_GRAMMAR = re.compile(
    r"\s*([+-]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:e[+-]?[0-9]+)?)\s*([a-z]+\s*[a-z]*)\s*(?:@\s*(.*?)\s*)?",
    re.IGNORECASE | re.ASCII,
)

_MAX_CHARACTERS = 300  # paths may be long, messages must not; and no pattern runs long on so little
_ALLOWED = "a positive number with a unit, such as 5GFLOPs, 300MFLOPs@256, 12Mparams, 25MB, 12KBkv or 8ms@cpu"
_DEVICE_ALLOWED = "such as 8ms@cpu,threads=1,runtime=onnx,seq=128, 8ms@laptop, 200MBram or 25MBfile"

_MOST = {"threads": MAX_THREADS, "batch": MAX_BATCH, "seq": MAX_SEQ_LEN}
_SETTINGS = ("runtime", *_MOST)

Value = TypeVar("Value", float, NDArray[np.float64])


def _refusal(got: str, allowed: str, advice: str = "correct it") -> BudgetError:
    return BudgetError(f"budget: got {got}; allowed: {allowed}; {advice}")


@dataclass(frozen=True)
class Budget:
    """An upper limit of one cost of a student."""

    cost: str
    """`flops`, `params`, `size_mb`, `kv_bytes` or `cache_bytes`; of a device `ms`, `ram_mb` or `file_mb`."""
    limit: float
    """The limit in base units: multiply-adds, parameters, MB of 1,000,000 bytes, bytes, or milliseconds."""
    seq_len: int | None
    """Tokens of a sequence at which it holds; None: the run's, or a cost without length."""
    text: str
    """As typed."""

    @property
    def column(self) -> str:
        """Column of the candidates, such as `flops`, or `flops@256` at a length of its own."""
        return self.cost if self.seq_len is None else f"{self.cost}@{self.seq_len}"

    def excess(self, value: Value) -> Value:
        """`value / limit - 1`: feasible when <= 0. Units of `value` are those of `limit`."""
        return value / self.limit - 1


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
        length = self.seq_len or seq_len
        return RuntimeSetting(self.device, self.runtime or "onnx", self.threads or 1, self.batch, length)


def read_budget(text: str) -> Budget:
    """Read a budget.

    Raises:
        BudgetError: it is no positive finite number with a known unit, or what stands after @ does not belong there.
    """
    match = _GRAMMAR.fullmatch(text) if isinstance(text, str) and len(text) <= _MAX_CHARACTERS else None
    if match is None:
        raise _refusal(short(text), _ALLOWED)
    number, letters, where = match.groups()
    unit = "".join(letters.lower().split())
    if unit not in _UNITS:
        hint = suggest(unit, ("gflops", "mflops", "mparams", "mb", "gb", "kbkv"))
        raise _refusal(f"{short(text)} with unit {short(unit)}{hint}", _ALLOWED)
    cost, scale = _UNITS[unit]
    limit, typed = float(number) * scale, " ".join(text.split())
    if not 0 < limit < math.inf:
        raise _refusal(short(text), "numbers above zero and finite", "correct the number")
    if cost in _DEVICE_COSTS:
        return _device_budget(cost, limit, typed, where)
    if where is not None and cost not in AT_LENGTH:
        raise _refusal(f"a length in {short(text)}", "@ after FLOPs and Bcache only", f"remove {short('@' + where)}")
    return Budget(cost, limit, None if where is None else _whole("length", where, MAX_SEQ_LEN, typed), typed)


def _device_budget(cost: str, limit: float, text: str, where: str | None) -> DeviceBudget:
    if where is None and cost == "ms":  # memory and files differ little between devices, times do
        raise _refusal(f"{short(text)} without a device", _DEVICE_ALLOWED, "add @ and the device")
    device, *rest = (part.strip() for part in ("cpu" if where is None else where).split(","))
    if not device:
        raise _refusal(f"{short(text)} without a device after @", _DEVICE_ALLOWED, "add the device")
    settings = dict(_setting(part, text) for part in rest)
    whole = {name: _whole(name, settings[name], most, text) for name, most in _MOST.items() if name in settings}
    try:
        runtime = check_runtime(settings["runtime"]) if "runtime" in settings else None
    except ProfileError as error:
        raise BudgetError(f"budget {short(text)}: {error}") from None
    return DeviceBudget(
        cost, limit, whole.get("seq"), text, device, runtime, whole.get("threads"), whole.get("batch", 1)
    )


def _setting(part: str, text: str) -> tuple[str, str]:
    name, equals, value = (piece.strip() for piece in part.partition("="))
    if name not in _SETTINGS or not equals:
        hint = suggest(name, _SETTINGS)
        raise _refusal(f"the setting {short(part)}{hint} in {short(text)}", f"{'=..., '.join(_SETTINGS)}=...")
    return name, value


def _whole(name: str, value: str, most: int, text: str) -> int:
    number = int(value) if value.isascii() and value.isdecimal() and len(value) < 10 else 0
    if not 1 <= number <= most:
        raise _refusal(f"{name}={short(value)} in {short(text)}", f"whole numbers from 1 to {most:,}")
    return number
