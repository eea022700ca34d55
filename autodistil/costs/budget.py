"""Budgets as people type them: `5GFLOPs`, `300MFLOPs@256`, `12Mparams`, `25MB`, `12KBkv`.

A budget is a positive number, a prefix K, M, G or T (powers of 1,000), a unit, and for FLOPs a sequence length after @.
Case and spaces do not matter. FLOPs are multiply-adds of one sequence, in the convention of fvcore and of the paper.
Bytes `kv` are of the cache of keys and values of a decoder, a token (`closed_form.kv_bytes`).
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from autodistil.axes import short
from autodistil.errors import BudgetError, suggest

MAX_SEQ_LEN = 100_000
"""Longest sequence of a budget, in tokens."""

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
