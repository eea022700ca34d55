"""The Pareto front of held-out loss, or of the score on a proxy task, over one cost, as a plotly figure.

Marked in it are best and knee, budgets and the teacher, with labels that hide nothing.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from autodistil.costs.units import COSTS, cost_of
from autodistil.report.rows import STATES, UNPLACED, ReportData, further_costs, staircase, students, sub_spaces
from autodistil.report.style import SYMBOLS, Scale, Spec, as_text, base_layout, rounded, series_colour
from autodistil.space.student import DIMENSIONS
from autodistil.student_search.teacher_row import TeacherRow

HOVER_COLUMNS = (
    "id",
    "sub_space",
    *DIMENSIONS,
    "flops",
    "params",
    "params_no_embeddings",
    "size_mb",
    "loss",
    "rank",
    "rank_in_sub_space",
    "score",
)
"""Facts of a student, in this order. A trace's `meta` says which rows (`students`) and columns (`x`, `y`) it draws."""


def hover_columns(data: ReportData) -> tuple[str, ...]:
    """`HOVER_COLUMNS`, and the other costs that figures of this report are over."""
    return (*HOVER_COLUMNS, *further_costs(data), *(device.budget.column for device in data.devices))


_CONFIG = (
    "<b>%{customdata[0]}</b><br>"
    "%{customdata[2]} layers · hidden %{customdata[3]} · %{customdata[4]} heads × %{customdata[5]} · "
    "FFN %{customdata[6]}<br>"
    "%{customdata[7]:.3~s}FLOPs · %{customdata[8]:.3~s} parameters (%{customdata[9]:.3~s} without embeddings) · "
    "%{customdata[10]:.1f} MB<br>"
)

_RANKED = "loss %{customdata[11]:.4f} · rank %{customdata[12]} of all, %{customdata[13]} of %{customdata[1]}"

_HOVER = {
    "front": f"{_CONFIG}{_RANKED} · on the front<extra></extra>",
    "dominated": f"{_CONFIG}{_RANKED}<extra></extra>",
    "no_gain": f"{_CONFIG}loss %{{customdata[11]:.4f}} · no gain against the teacher<extra></extra>",
    "over": f"{_CONFIG}loss %{{customdata[11]:.4f}} · over budget<extra></extra>",
    "loss_only": f"{_CONFIG}{_RANKED} · not scored on the task<extra></extra>",
    "unscored": f"{_CONFIG}not scored<extra></extra>",
}

_CROWD = 1_000
"""Students from which points are drawn small."""

_MODEBAR_PX = 34
"""Room for plotly's buttons above the labels."""


def front_figure(data: ReportData, column: str) -> Spec:
    """Held-out loss or score over a cost (a key of `COSTS`): students, front, budgets, teacher, best and knee."""
    table = students(data)
    limits = limits_on(data, column)
    x = Scale.over([*table[column].astype(float), *(limit.value for limit in limits if not limit.beyond)])
    y = _value_scale(data)
    shapes, flags = marked_limits(limits, x)
    rings, labels = marked_picks(data, column, x, y)
    title = "Held-out loss" if data.score_name is None else f"Task score ({as_text(data.score_name, 24)})"
    axes, message = _value_axes(table, y.axis(title))
    layout = base_layout(
        margin={"l": 68, "r": 20, "t": _MODEBAR_PX + ROW_PX * len(limits), "b": 60},
        xaxis=x.axis(_axis_title(data, column), tickformat="~s", anchor="y2" if "yaxis2" in axes else "y"),
        shapes=shapes,
        annotations=[*flags, *labels, *message],
        legend=_LEGEND,
        **axes,
    )
    teacher = [] if data.score_name is not None else teacher_mark(data.teacher, column, x, y)
    traces = [_front_line(data, column), *_student_traces(data, table, column), *teacher, *rings]
    return {"data": traces, "layout": layout}


def _value_scale(data: ReportData) -> Scale:
    """The axis of what ranks, with more room where good students are: labels go there."""
    table, by = students(data), data.table.ranking
    values = table.loc[~table["state"].isin(UNPLACED), by.column].astype(float)
    if by.sign < 0:
        return Scale.over(values, pad_low=0.06, pad_high=0.14, may_be_log=False)
    return Scale.over(values, pad_low=0.14, pad_high=0.06)


def _value_axes(table: pd.DataFrame, axis: Spec) -> tuple[dict[str, Spec], list[Spec]]:
    """The axis of what ranks, above a strip for students without it; a message where that is all of them."""
    states = set(table["state"])
    if not states - set(UNPLACED):
        middle = {"xref": "paper", "x": 0.5, "yref": "paper", "y": 0.5}
        look = {"showarrow": False, "font": {"size": 16, "color": "var(--dim)"}}
        return {"yaxis": {**_STRIP, "range": [-0.08, 1]}}, [{**middle, "text": "No student was scored.", **look}]
    if states & set(UNPLACED):
        return {"yaxis": {**axis, "domain": [0.055, 1]}, "yaxis2": {**_STRIP, "domain": [0, 0.03]}}, []
    return {"yaxis": axis}, []


_STRIP: Spec = {"range": [-1, 1], "visible": False, "fixedrange": True}

_LEGEND: Spec = {
    "orientation": "h",
    "x": 0,
    "y": -0.2,
    "yanchor": "top",
    "itemsizing": "constant",
    "font": {"size": 13, "color": "var(--ink)"},
}


def _axis_title(data: ReportData, column: str) -> str:
    if column == "flops":
        return f"FLOPs {data.length}"
    cost = cost_of(column)
    return cost.name if column in COSTS else f"{cost.name}, {cost.unit.format('')}"


def _student_traces(data: ReportData, table: pd.DataFrame, column: str) -> list[Spec]:
    """One trace a state and sub-space; the best seen are drawn last, on top."""
    strip = "y" if table["state"].isin(UNPLACED).all() else "y2"
    in_legend: set[str] = set()
    traces = []
    for state in STATES:
        for series, rows in table[table["state"] == state].groupby("series"):
            trace = _points(data, rows, column, state, int(series))
            trace["yaxis"] = strip if state in UNPLACED else "y"
            trace["showlegend"] = trace["legendgroup"] not in in_legend
            in_legend.add(trace["legendgroup"])
            traces.append(trace)
    return sorted(traces, key=lambda trace: STATES.index(trace["meta"]["state"]), reverse=True)


_LABELS = {"no_gain": "no gain", "over": "over budget", "loss_only": "by loss only", "unscored": "not scored"}
"""Names in the legend of the states that are not told apart by sub-space."""


def _points(data: ReportData, rows: pd.DataFrame, column: str, state: str, series: int) -> Spec:
    name, value = sub_spaces(data)[series], data.table.ranking.column
    placed, hover = state not in UNPLACED, _HOVER[state]
    if placed and data.score_name is not None:  # the score beside the loss where students have both
        hover = hover.replace("loss %", "score %{customdata[14]:.4f} · loss %", 1)
    return {
        "type": "scatter",
        "mode": "markers",
        "x": rows[column].tolist(),
        "y": rounded(rows[value]) if placed else [0] * len(rows),
        "name": _LABELS.get(state, as_text(name, 28)),
        "legendgroup": state if state in _LABELS else f"series-{series}",
        "legendrank": {"no_gain": 1000, "over": 1001, "loss_only": 1002, "unscored": 1003}.get(state, 100 + series),
        "marker": _marker(state, series, small=len(data.candidates) >= _CROWD),
        "hovertemplate": hover,
        "meta": {
            "state": state,
            "students": rows.index.tolist(),
            "x": hover_columns(data).index(column),
            "y": HOVER_COLUMNS.index(value) if placed else None,
        },
    }


def _marker(state: str, series: int, small: bool) -> Spec:
    symbol = SYMBOLS[series % len(SYMBOLS)]
    ring = {"width": 1, "color": "var(--paper)"}
    styles: dict[str, Spec] = {
        "front": {"symbol": symbol, "size": 8 if small else 11, "color": series_colour(series), "line": ring},
        "dominated": {"symbol": symbol, "size": 5 if small else 8, "color": series_colour(series), "opacity": 0.42},
        "no_gain": {"symbol": f"{symbol}-open", "size": 5 if small else 7, "color": "var(--dim)"},
        "over": {"symbol": f"{symbol}-open", "size": 5 if small else 7, "color": "var(--faint)"},
        "loss_only": {"symbol": "line-ns-open", "size": 9, "color": "var(--dim)", "opacity": 0.8},
        "unscored": {"symbol": "line-ns-open", "size": 9, "color": "var(--faint)", "opacity": 0.7},
    }
    return styles[state]


def _front_line(data: ReportData, column: str) -> Spec:
    line = staircase(data, column)
    return {
        "type": "scatter",
        "mode": "lines",
        "x": line[column].tolist(),
        "y": rounded(line[data.table.ranking.column]),
        "name": "Pareto front",
        "legendrank": 1,
        "line": {"color": "var(--dim)", "width": 1.5, "shape": "hv"},
        "hoverinfo": "skip",
    }


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
    rows = {label: row for label, name in picks.items() if (row := data.table.get(name)) is not None}
    points = {label: (row.value(column), row.value(data.table.ranking.column)) for label, row in rows.items()}
    table = students(data)
    placed = table.loc[~table["state"].isin(UNPLACED), [column, data.table.ranking.column]].astype(float)
    taken, labels = _pixels(placed.to_numpy(), x, y), []
    for label, (cost, value) in points.items():
        (point,) = _pixels([(cost, value)], x, y)
        spot = _free_spot(point, label, taken)
        low, high = _box(point, label, spot)
        taken = np.vstack([taken, *(low + (high - low) * (share, 0.5) for share in (0, 0.25, 0.5, 0.75, 1))])
        labels.append(_pick(label, x.at(cost), y.at(value), spot))
    return [_rings(list(points.values()))] if points else [], labels


def _pixels(points: Iterable[Sequence[float]], x: Scale, y: Scale) -> np.ndarray:
    """Pixels (points, 2) from the upper left at which points of costs and values are drawn."""
    places = [(x.share(cost) * _PLOT_PX[0], (1 - y.share(value)) * _PLOT_PX[1]) for cost, value in points]
    return np.array(places).reshape(-1, 2)


def _box(point: np.ndarray, label: str, spot: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Upper left and lower right corner of a label; it grows away from its point."""
    width = 8 * len(label) + 6
    left = point[0] + spot[0] - (width if spot[0] < 0 else 0)
    corner = np.array([left, point[1] + spot[1] - 11])
    return corner, corner + np.array([width, 22])


def _free_spot(point: np.ndarray, label: str, taken: np.ndarray) -> tuple[int, int]:
    """The first spot with the fewest points under it, inside of the plot."""

    def cost(spot: tuple[int, int]) -> int:
        low, high = _box(point, label, spot)
        outside = bool((low < 0).any() or (high > _PLOT_PX).any())
        return int(((taken > low - 9) & (taken < high + 9)).all(axis=1).sum()) + 10_000 * outside

    return min(_SPOTS, key=cost)


def _rings(points: Sequence[tuple[float, float]]) -> Spec:
    return {
        "type": "scatter",
        "mode": "markers",
        "x": [float(x) for x, _ in points],
        "y": [float(y) for _, y in points],
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


def teacher_mark(teacher: TeacherRow, column: str, x: Scale, y: Scale) -> list[Spec]:
    """The teacher's point over a cost, on the lower edge where its loss lies below an axis that is the students'.

    None where its cost or loss is not known, or the cost too far off.
    """
    cost, loss, name = teacher.value(column), teacher.loss, as_text(teacher.name, 28)
    if math.isnan(loss) or not 0 <= x.share(cost) <= 1:
        return []
    below = (loss <= 0 and y.log) or not 0 <= y.share(loss) <= 1
    edge = y.low + 0.015 * (y.high - y.low)
    words = f"{teacher.loss_text}{', below this axis' * below}"
    return [
        {
            "type": "scatter",
            "mode": "markers",
            "x": [cost],
            "y": [(10**edge if y.log else edge) if below else loss],
            "name": f"teacher {name}, loss {words}",
            "legendrank": 2,
            "marker": {"symbol": "star", "size": 14, "color": "var(--ink)"},
            "cliponaxis": False,
            "hovertemplate": f"<b>{name}</b> (teacher)<br>{cost_of(column).text(cost)} · loss {words}<extra></extra>",
        }
    ]


FAR = 4.0
"""A limit this many times beyond everything else is pointed at instead of drawn to scale."""

ROW_PX = 19
"""Height of a line of labels above the plot; each limit has one of its own, so that none overlap."""


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
    costs = data.candidates[column].astype(float)
    low, high = (min(costs) / FAR, max(costs) * FAR) if len(costs) else (0.0, math.inf)
    lines = [(f"budget {as_text(b.text)}", b.limit, "var(--limit)", "dash") for b in data.budgets if b.column == column]
    teacher = data.teacher.value(column)
    if teacher > 0:
        lines.append((f"teacher {cost_of(column).text(teacher)}", teacher, "var(--dim)", "dot"))
    placed = [Limit(*line, int(line[1] > high) - int(line[1] < low)) for line in lines]
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
