"""Spreads as a picture: a dot at the median, a line from the worst to the best round; drawn where a Chrome is found."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from autodistil.report.picture import drawn
from autodistil.utils import atomic_path
from bench_common.record import Row
from bench_common.timing import Spread

logger = logging.getLogger(__name__)


def write_picture(path: Path, rows: Sequence[Row], column: str, title: str, goal: float | None = None) -> Path | None:
    """Draw one column of the rows; None where there is no Chrome or nothing to draw.

    Args:
        path: a PNG file.
        rows: as in the record; those without a spread in `column` are left out.
        column: what is drawn.
        title: says what the numbers are.
        goal: a line to compare with; a row's own `goal` draws a mark of its own.
    """
    shown = [row for row in rows if isinstance(row.get(column), Spread)]
    if not shown:
        return None
    try:
        picture = drawn(figure(shown, column, title, goal))
        with atomic_path(path) as temporary:
            temporary.write_bytes(picture)
    except Exception as error:  # a benchmark without a picture is still a benchmark
        logger.warning("no picture: %s", error)
        return None
    return path


def figure(rows: Sequence[Row], column: str, title: str, goal: float | None) -> dict[str, Any]:
    """A plotly figure, one line a row."""
    spreads = [row[column] for row in rows]
    names = [str(next(iter(row.values()))) for row in rows]
    bars: dict[str, Any] = {"type": "data", "symmetric": False, "array": [s.high - s.median for s in spreads]}
    bars["arrayminus"] = [s.median - s.low for s in spreads]
    dots: dict[str, Any] = {"type": "scatter", "mode": "markers"}
    measured = dots | {"name": "median, and worst to best round", "y": names}
    measured |= {"x": [s.median for s in spreads], "error_x": bars, "marker": {"size": 10, "color": "#c2410c"}}
    goals = [(row["goal"], name) for row, name in zip(rows, names, strict=True) if row.get("goal")]
    aims = dots | {"name": "goal", "x": [x for x, _ in goals], "y": [y for _, y in goals]}
    aims["marker"] = {"symbol": "line-ns-open", "size": 18, "color": "#1d4ed8"}
    line = {"type": "line", "xref": "x", "yref": "paper", "x0": goal, "x1": goal, "y0": 0, "y1": 1}
    layout: dict[str, Any] = {
        "title": {"text": title},
        "xaxis": {"rangemode": "tozero"},
        "yaxis": {"autorange": "reversed"},
    }
    layout |= {"margin": {"l": 10, "r": 20, "t": 50, "b": 40}, "paper_bgcolor": "white", "plot_bgcolor": "white"}
    layout["shapes"] = [] if goal is None else [line | {"line": {"dash": "dot", "color": "#1d4ed8"}}]
    return {"data": [measured, *([aims] if goals else [])], "layout": layout}
