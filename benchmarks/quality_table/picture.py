"""Quality over FLOPs of every kind of row, as a picture; drawn where a Chrome is found."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pandas as pd

from autodistil.report.picture import drawn
from autodistil.utils import atomic_path
from quality_table.cells import HELDOUT, PROBE_MEAN, RETRIEVAL_MEAN, STS_MEAN, TASK_MEAN
from quality_table.rows import KINDS

logger = logging.getLogger(__name__)

_PANELS = {
    STS_MEAN: "STS-B test, STS12-16 without training (mean Spearman, points)",
    RETRIEVAL_MEAN: "retrieval (mean nDCG@10, points)",
    PROBE_MEAN: "linear probes (mean accuracy, points)",
    TASK_MEAN: "fine-tuned tasks (mean, points)",
    HELDOUT: "held-out loss (relations + similarities)",
}
_OURS = "#c2410c"
_COLOURS = (
    *("#111827", "#1d4ed8", "#15803d", "#7e22ce", "#0e7490", "#a16207", "#be185d"),
    *("#4d7c0f", "#475569", "#b91c1c", "#0369a1", "#86198f", "#065f46", "#92400e"),
)
_SYMBOLS = (
    *("square", "circle", "diamond", "triangle-up", "triangle-down", "cross", "x"),
    *("star", "pentagon", "hexagon", "hourglass", "bowtie", "triangle-left"),
)
"""One of each a kind, in the order of `KINDS`; their numbers have no common divisor, so no pair comes twice."""


def write_picture(table: pd.DataFrame, path: Path) -> Path | None:
    """Draw a collapsed table; None where there is no Chrome, or nothing to draw."""
    panels = [name for name in _PANELS if name in table and table[name].notna().any()][:2]
    if not panels:
        return None
    try:
        picture = drawn(figure(table, panels))
        with atomic_path(path) as temporary:
            temporary.write_bytes(picture)
    except Exception as error:  # a table without a picture is still a table
        logger.warning("no picture: %s", error)
        return None
    return path


def figure(table: pd.DataFrame, panels: list[str]) -> dict[str, Any]:
    """A plotly figure with a panel a quality, side by side."""
    traces = [trace for i, panel in enumerate(panels) for trace in _traces(table, panel, i)]
    layout: dict[str, Any] = {
        "legend": {"orientation": "h", "y": -0.2},
        "paper_bgcolor": "white",
        "plot_bgcolor": "white",
    }
    layout["margin"] = {"l": 60, "r": 20, "t": 30, "b": 60}
    for i, panel in enumerate(panels):
        suffix = "" if i == 0 else str(i + 1)
        domain = [i / len(panels) + 0.06 * (i > 0), (i + 1) / len(panels)]
        axis = {"gridcolor": "#e5e7eb", "linecolor": "#6b7280"}
        ticks = {"type": "log", "tickvals": [10, 20, 40, 60, 100], "title": {"text": "% of the teacher's FLOPs"}}
        layout[f"xaxis{suffix}"] = {**axis, **ticks, "domain": domain, "anchor": f"y{suffix}"}
        layout[f"yaxis{suffix}"] = {**axis, "title": {"text": _PANELS[panel]}, "anchor": f"x{suffix}"}
    return {"data": traces, "layout": layout}


def _traces(table: pd.DataFrame, panel: str, index: int) -> list[dict[str, Any]]:
    suffix = "" if index == 0 else str(index + 1)
    drawn = table[panel].notna() & (table["flops_share"] > 0)  # the axis is logarithmic
    kinds = list(dict.fromkeys(table.loc[drawn, "kind"]))
    return [
        {
            "type": "scatter",
            "mode": "lines+markers",
            "name": kind,
            "legendgroup": kind,
            "showlegend": index == 0,
            "x": (100 * rows["flops_share"]).tolist(),
            "y": rows[panel].tolist(),
            "xaxis": f"x{suffix}",
            "yaxis": f"y{suffix}",
            **_style(kind),
        }
        for kind in kinds
        for rows in [table[(table["kind"] == kind) & table[panel].notna()].sort_values("flops")]
    ]


def _style(kind: str) -> dict[str, Any]:
    """Ours thick and solid, all others thin; a colour and a symbol a kind."""
    number = list(KINDS).index(kind)
    if kind == "pick":
        return {"line": {"color": _OURS, "width": 3}, "marker": {"size": 9, "symbol": "circle"}}
    style = {"color": _COLOURS[number % len(_COLOURS)], "width": 1, "dash": "dot"}
    return {"line": style, "marker": {"size": 7, "symbol": _SYMBOLS[number % len(_SYMBOLS)]}}
