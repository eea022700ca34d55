"""What all figures share: text, axes and the look. Figures are plain dictionaries, as plotly reads them as JSON."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import pandas as pd

Spec = dict[str, Any]
"""A plotly figure, or a part of one."""

FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', Arial, sans-serif"

_LOG_FROM = 5.0
"""Ratio of the largest to the smallest value from which an axis is logarithmic."""
_LITERALLY = str.maketrans({"&": "&amp;", "<": "&lt;", ">": "&gt;", "$": "&#36;", "{": "&#123;"})
"""Markup, TeX between dollars, and `%{template}` fields, which plotly would read."""


def as_text(name: object, longest: int = 42) -> str:
    """A name as plotly shows it literally, on one line, shortened in the middle."""
    text = " ".join(str(name).split())
    if len(text) > longest:
        text = f"{text[: longest - 15]}…{text[-14:]}"
    return text.translate(_LITERALLY)


_THOUSAND = 3
"""Exponent from which numbers have a prefix."""


@dataclass(frozen=True)
class Scale:
    """A linear or logarithmic axis."""

    low: float
    high: float
    log: bool

    @classmethod
    def over(
        cls, values: Iterable[float], pad_low: float = 0.04, pad_high: float = 0.04, may_be_log: bool = True
    ) -> Scale:
        """The axis that shows `values`; the pads are shares of its length."""
        known = [value for value in values if math.isfinite(value)] or [1.0]
        low, high = min(known), max(known)
        log = may_be_log and low > 0 and high / low >= _LOG_FROM
        start, end = (math.log10(low), math.log10(high)) if log else (low, high)
        length = end - start or 0.2 * abs(end) or 1.0
        return cls(start - pad_low * length, end + pad_high * length, log)

    def at(self, value: float) -> float:
        """Position of a value in the axis's own numbers: exponents on a logarithmic axis."""
        return math.log10(value) if self.log else float(value)

    def share(self, value: float) -> float:
        """Position of a value from 0 (low end) to 1 (high end)."""
        return (self.at(value) - self.low) / (self.high - self.low)

    def _ticks(self) -> int:
        """Most ticks: on a logarithmic axis so few that plotly labels 1, 2 and 5 of a decade, not all nine."""
        decades = self.high - self.low
        return max(3, int(decades / 0.31)) if self.log and decades >= 1 else 7

    def axis(self, title: str, **options: Any) -> Spec:
        """As plotly wants it."""
        return {
            "type": "log" if self.log else "linear",
            "range": [self.low, self.high],
            "title": {"text": title, "standoff": 10, "font": {"size": 13}},
            "gridcolor": "var(--line)",
            "linecolor": "var(--faint)",
            "tickcolor": "var(--faint)",
            "ticks": "outside",
            "ticklen": 4,
            "zeroline": False,
            "exponentformat": "SI",
            "nticks": self._ticks(),
            # plotly writes 0.02 and 0.5 between decades as a small 2 and 5, where it has no prefix for them.
            **({"tickformat": "~g"} if self.log and self.high < _THOUSAND else {}),
            **options,
        }


def base_layout(**options: Any) -> Spec:
    """The look of a figure, with what is its own."""
    return {
        "paper_bgcolor": "rgba(0,0,0,0)",
        "plot_bgcolor": "rgba(0,0,0,0)",
        "font": {"family": FONT, "size": 13, "color": "var(--dim)"},
        "hovermode": "closest",
        "hoverlabel": {
            "align": "left",
            "bgcolor": "var(--paper)",
            "bordercolor": "var(--faint)",
            "font": {"family": FONT, "size": 13, "color": "var(--ink)"},
        },
        "modebar": {"bgcolor": "rgba(0,0,0,0)", "color": "var(--faint)", "activecolor": "var(--ink)"},
        **options,
    }


def rounded(values: pd.Series) -> list[float]:
    """Six significant digits: what a screen can show, in half of the bytes."""
    return [float(f"{value:.6g}") for value in values]
