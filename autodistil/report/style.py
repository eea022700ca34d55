"""The look of pages and figures: colours for light and dark, symbols, text and axes, cells of tables, training curves.

Figures are plain dictionaries, as plotly reads them as JSON, and name colours as CSS variables. The page resolves them
in the browser and again when the scheme changes; the picture resolves them here, in light. Series follow Okabe and Ito,
told apart by the colour-blind, and each sub-space has a symbol of its own as well.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from autodistil.report.rows import ReportData, series_of, training_curves

Spec = dict[str, Any]
"""A plotly figure, or a part of one."""

# ---- colours and symbols

_SERIES = (
    ("#0868ac", "#c8500a", "#00805f", "#a2459c", "#8a6d00", "#2b93c9", "#8c2f4b", "#5b6470"),
    ("#5fb4ee", "#ff9a5a", "#3ecb9d", "#df96d6", "#e0bd45", "#a5d8f6", "#ef8fa9", "#b7c0ca"),
)
"""Colours of sub-spaces, in light and in dark."""

_BASE = {
    "ink": ("#1b1f24", "#e7eaed"),
    "dim": ("#59636e", "#a3adb8"),
    "faint": ("#a4adb6", "#69737d"),
    "line": ("#dfe3e7", "#31373e"),
    "paper": ("#ffffff", "#14171a"),
    "card": ("#f5f6f8", "#1d2125"),
    "limit": ("#b3261e", "#ff8a80"),
}
"""The other colours, in light and in dark."""

SYMBOLS = ("circle", "square", "diamond", "triangle-up", "cross", "star", "triangle-down")

GLYPHS = ("●", "■", "◆", "▲", "✚", "★", "▼")
"""The symbols as characters, for tables."""

SERIES = len(_SERIES[0])
"""Colours of sub-spaces; one more than symbols, so that 56 sub-spaces look different."""


def _scheme(which: int) -> Mapping[str, str]:
    """All colours by their CSS variables; those of sub-spaces translucent too."""
    base = {name: colours[which] for name, colours in _BASE.items()}
    series = {f"series-{i}": colour for i, colour in enumerate(_SERIES[which])}
    soft = {f"{name}-soft": "rgba({},{},{},0.2)".format(*bytes.fromhex(colour[1:])) for name, colour in series.items()}
    return {**base, **series, **soft}


LIGHT, DARK = _scheme(0), _scheme(1)


def series_colour(index: int, soft: bool = False) -> str:
    """The CSS variable of a sub-space's colour."""
    return f"var(--series-{index % SERIES}{'-soft' if soft else ''})"


def series_glyph(index: int) -> str:
    """The symbol of a sub-space as a character."""
    return GLYPHS[index % len(GLYPHS)]


def css_variables(scheme: Mapping[str, str]) -> str:
    """The scheme as CSS declarations."""
    return " ".join(f"--{name}: {colour};" for name, colour in scheme.items())


def resolve(node: Any, scheme: Mapping[str, str], key: str = "") -> Any:
    """A copy of a figure with the CSS variables under keys `…color` replaced; text stays what it is."""
    if isinstance(node, dict):
        return {name: resolve(value, scheme, name) for name, value in node.items()}
    if isinstance(node, list):
        return [resolve(value, scheme) for value in node]
    if key.endswith("color") and (variable := re.fullmatch(r"var\(--([a-z0-9-]+)\)", str(node))):
        return scheme[variable[1]]
    return node


# ---- text and axes

FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', Arial, sans-serif"
_LOG_FROM = 5.0
"""Ratio of the largest to the smallest value from which an axis is logarithmic."""
_THOUSAND = 3
"""Exponent from which numbers have a prefix."""

_LITERALLY = str.maketrans({"&": "&amp;", "<": "&lt;", ">": "&gt;", "$": "&#36;", "{": "&#123;"})
"""Markup, TeX between dollars, and `%{template}` fields, which plotly would read."""


def as_text(name: object, longest: int = 42) -> str:
    """A name as plotly shows it literally, on one line, shortened in the middle."""
    text = " ".join(str(name).split())
    if len(text) > longest:
        text = f"{text[: longest - 15]}…{text[-14:]}"
    return text.translate(_LITERALLY)


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

    def axis(self, title: str, **options: Any) -> Spec:
        """The axis as plotly wants it."""
        decades = self.high - self.low
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
            # on a logarithmic axis so few that plotly labels 1, 2 and 5 of a decade, not all nine
            "nticks": max(3, int(decades / 0.31)) if self.log and decades >= 1 else 7,
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


def small_layout(xaxis: Spec, yaxis: Spec, **options: Any) -> Spec:
    """The look of a figure in a panel."""
    return base_layout(
        margin={"l": 62, "r": 12, "t": 10, "b": 50},
        xaxis=xaxis,
        yaxis=yaxis,
        legend={"orientation": "h", "x": 0, "y": 1, "yanchor": "bottom", "font": {"color": "var(--ink)"}},
        **options,
    )


def identity_line(values: Iterable[float]) -> Spec:
    """A line where both coordinates are equal."""
    ends = [min(values), max(values)]
    line = {"color": "var(--faint)", "width": 1.5, "dash": "dot"}
    hidden = {"hoverinfo": "skip", "showlegend": False}
    return {"type": "scatter", "mode": "lines", "x": ends, "y": ends, "line": line, **hidden}


def series_points(x: Iterable[float], y: Iterable[float], name: object, series: int, size: int, **options: Any) -> Spec:
    """Points of a sub-space, or of another series, in its colour and with its symbol."""
    marker = {"symbol": SYMBOLS[series % len(SYMBOLS)], "size": size, "color": series_colour(series)}
    shown = {"name": as_text(name, 28), "marker": marker}
    return {"type": "scatter", "mode": "markers", "x": rounded(x), "y": rounded(y), **shown, **options}


def rounded(values: Iterable[float]) -> list[float]:
    """Six significant digits: what a screen can show, in half of the bytes."""
    return [float(f"{value:.6g}") for value in values]


# ---- cells of tables

TEXT = "text"
"""Kind of a cell that is aligned left and sorted as text."""
NAME = "text id"
"""Kind of such a cell with the long name of a student, to be kept on one line where there is room."""


class Cell(NamedTuple):
    """A cell of a table, with the head of its column."""

    head: str
    text: object
    value: object = None
    """What its column is sorted by; None where it cannot be sorted."""
    kind: str | None = None
    """CSS classes: `TEXT` or `NAME`; None of a number."""
    series: int | None = None
    """Number of the sub-space whose symbol stands before the text."""
    badges: tuple[str, ...] | None = None
    """Pills behind the name of a student that a click chooses; None of other text."""


def or_dash(value: float | None, form: str = ".4f", none: str = "–") -> str:
    """A number as text, or a dash where there is none."""
    return none if value is None or math.isnan(value) else format(value, form)


# ---- training


def training_figures(data: ReportData) -> dict[str, Spec]:
    """Training loss of each SuperLM, all on one scale: mean of the drawn students, band from largest to smallest."""
    curves = training_curves(data)
    columns = ["loss", "largest_loss", "smallest_loss"]
    losses = np.concatenate([curve[columns].to_numpy().ravel() for curve in curves.values()]) if curves else ()
    y = Scale.over(losses, pad_low=0.05, pad_high=0.05)
    return {name: _training_figure(curve, series_of(data, name), y) for name, curve in curves.items()}


def _training_figure(curve: pd.DataFrame, series: int, y: Scale) -> Spec:
    edge = {"mode": "lines", "line": {"width": 0.5, "color": series_colour(series)}}
    band = {**edge, "fill": "tonexty", "fillcolor": series_colour(series, soft=True)}
    mean = {"mode": "lines", "line": {"width": 2, "color": series_colour(series)}}
    layout = base_layout(
        margin={"l": 58, "r": 12, "t": 10, "b": 46},
        xaxis={**Scale.over(curve["step"]).axis("Step"), "type": "linear", "autorange": True, "nticks": 6},
        yaxis=y.axis("Training loss"),
        showlegend=False,
        hovermode="x unified",
    )
    layout["xaxis"].pop("range")
    traces = [
        _curve(curve, "largest_loss", "largest drawn", edge),
        _curve(curve, "smallest_loss", "smallest drawn", band),
        _curve(curve, "loss", "mean", mean),
    ]
    return {"data": traces, "layout": layout}


def _curve(curve: pd.DataFrame, column: str, name: str, style: Spec) -> Spec:
    drawn = {"type": "scatter", "x": curve["step"].round(1).tolist(), "y": rounded(curve[column]), "name": name}
    return {**drawn, "hovertemplate": "%{y:.4g}", **style}
