"""What is marked in the front: best and knee, budgets and the teacher, with labels that hide nothing."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from autodistil.report.data import ReportData
from autodistil.report.rows import UNPLACED, measure, student, students
from autodistil.report.style import Scale, Spec, as_text
from autodistil.report.units import cost_of

_FAR = 4.0
"""A limit this many times beyond everything else is pointed at instead of drawn to scale."""
ROW_PX = 19
"""Height of a line of labels above the plot; each limit has one of its own, so that none overlap."""

# ---- best and knee

_PLOT_PX = (1000, 400)
"""Size of the plot that labels are placed for."""
_SPOTS = ((-24, 38), (24, 38), (-30, -34), (30, -34), (-24, 70), (24, 70), (-44, -64), (44, -64))
"""Where a label may go, in pixels right of and below its point; below left first, where a front leaves room."""


def marked_picks(data: ReportData, column: str, x: Scale, y: Scale) -> tuple[list[Spec], list[Spec]]:
    """Best and knee: a trace of rings, and labels where they hide no student and no other label."""
    picks = {"best": data.best, "knee": data.knee}
    if data.best == data.knee:
        picks = {"best and knee": data.best}
    found = {label: row for label, name in picks.items() if (row := student(data, name)) is not None}
    taken, value = _pixels(data, column, x, y), measure(data).column
    labels = []
    for label, row in found.items():
        point = np.array([x.share(row[column]) * _PLOT_PX[0], (1 - y.share(row[value])) * _PLOT_PX[1]])
        spot = _free_spot(point, label, taken)
        taken = np.vstack([taken, *_box_points(point, label, spot)])
        labels.append(_pick(label, x.at(row[column]), y.at(row[value]), spot))
    return [_rings(list(found.values()), column, value)] if found else [], labels


def _pixels(data: ReportData, column: str, x: Scale, y: Scale) -> np.ndarray:
    """Where the students are drawn (students, 2), from the upper left."""
    table, value = students(data), measure(data).column
    rows = table.loc[~table["state"].isin(UNPLACED), [column, value]].astype(float).to_numpy()
    places = [(x.share(cost) * _PLOT_PX[0], (1 - y.share(height)) * _PLOT_PX[1]) for cost, height in rows]
    return np.array(places).reshape(-1, 2)


def _box(point: np.ndarray, label: str, spot: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Upper left and lower right corner of a label; it grows away from its point."""
    width = 8 * len(label) + 6
    left = point[0] + spot[0] - (width if spot[0] < 0 else 0)
    corner = np.array([left, point[1] + spot[1] - 11])
    return corner, corner + np.array([width, 22])


def _box_points(point: np.ndarray, label: str, spot: tuple[int, int]) -> list[np.ndarray]:
    low, high = _box(point, label, spot)
    return [low + (high - low) * (share, 0.5) for share in (0, 0.25, 0.5, 0.75, 1)]


def _free_spot(point: np.ndarray, label: str, taken: np.ndarray) -> tuple[int, int]:
    """The first spot with the fewest points under it, inside of the plot."""

    def cost(spot: tuple[int, int]) -> int:
        low, high = _box(point, label, spot)
        outside = bool((low < 0).any() or (high > _PLOT_PX).any())
        return int(((taken > low - 9) & (taken < high + 9)).all(axis=1).sum()) + 10_000 * outside

    return min(_SPOTS, key=cost)


def _rings(rows: Sequence[pd.Series], column: str, value: str) -> Spec:
    return {
        "type": "scatter",
        "mode": "markers",
        "x": [float(row[column]) for row in rows],
        "y": [float(row[value]) for row in rows],
        "marker": {"symbol": "circle-open", "size": 19, "color": "var(--ink)", "line": {"width": 1.8}},
        "hoverinfo": "skip",
        "showlegend": False,
    }


def _pick(label: str, x: float, y: float, spot: tuple[int, int]) -> Spec:
    return {
        "x": x,
        "y": y,
        "text": f"<b>{label}</b>",
        "ax": spot[0],
        "ay": spot[1],
        "xanchor": "right" if spot[0] < 0 else "left",
        "showarrow": True,
        "arrowhead": 0,
        "arrowwidth": 1.2,
        "arrowcolor": "var(--ink)",
        "standoff": 10,
        "font": {"size": 14, "color": "var(--ink)"},
        "bgcolor": "var(--paper)",
        "borderpad": 1,
    }


# ---- budgets and the teacher


@dataclass(frozen=True)
class Limit:
    """A vertical line."""

    text: str
    value: float
    colour: str
    dash: str
    beyond: int = 0
    """1 where it is too far right to draw to scale, -1 where it is too far left."""


def limits_on(data: ReportData, column: str) -> list[Limit]:
    """Budgets on this cost and the teacher's cost, cheapest first."""
    limits = [
        Limit(f"budget {as_text(b.text)}", b.limit, "var(--limit)", "dash") for b in data.budgets if b.cost == column
    ]
    teacher = data.teacher_costs.get(column, math.nan)
    if teacher > 0:
        limits.append(Limit(f"teacher {cost_of(column).text(teacher)}", teacher, "var(--dim)", "dot"))
    costs = data.candidates[column].astype(float)
    low, high = (min(costs) / _FAR, max(costs) * _FAR) if len(costs) else (0.0, math.inf)
    placed = [
        Limit(line.text, line.value, line.colour, line.dash, int(line.value > high) - int(line.value < low))
        for line in limits
    ]
    return sorted(placed, key=lambda line: line.value)


def marked_limits(limits: Sequence[Limit], x: Scale) -> tuple[list[Spec], list[Spec]]:
    """Lines, and labels like flags above the plot, on a row each so that none overlap."""
    shapes, labels = [], []
    for i, limit in enumerate(limits):
        raised = ROW_PX * (len(limits) - 1 - i)
        share = x.share(limit.value) if not limit.beyond else float(limit.beyond > 0)
        labels.append(_flag(limit, share, raised))
        if not limit.beyond:
            shapes += _pole(limit, raised + ROW_PX - 4)
    return shapes, labels


def _pole(limit: Limit, height_px: int) -> list[Spec]:
    """A line through the plot, and on up to the label."""
    line = {"color": limit.colour, "dash": limit.dash, "width": 1.5}
    common = {"type": "line", "x0": limit.value, "x1": limit.value, "yref": "paper", "line": line}
    return [
        {**common, "y0": 0, "y1": 1},
        {**common, "layer": "below", "ysizemode": "pixel", "yanchor": 1, "y0": 0, "y1": height_px},
    ]


def _flag(limit: Limit, share: float, raised_px: int) -> Spec:
    leftwards = share > min(0.65, 1 - 8 * len(limit.text) / _PLOT_PX[0])
    arrows = {-1: f"← {limit.text}", 1: f"{limit.text} →"}
    return {
        "xref": "paper",
        "x": share,
        "xanchor": "right" if leftwards else "left",
        "xshift": (-5 if leftwards else 5) * (not limit.beyond),
        "yref": "paper",
        "y": 1,
        "yshift": raised_px,
        "yanchor": "bottom",
        "text": arrows.get(limit.beyond, limit.text),
        "showarrow": False,
        "borderpad": 0,
        "bgcolor": "var(--paper)",
        "font": {"size": 13, "color": limit.colour},
    }
