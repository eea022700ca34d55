"""The Pareto front of held-out loss over one cost, as a plotly figure."""

from __future__ import annotations

import pandas as pd

from autodistil.report.data import ReportData
from autodistil.report.marks import ROW_PX, limits_on, marked_limits, marked_picks
from autodistil.report.palette import SYMBOLS, series_colour
from autodistil.report.rows import staircase, students, sub_spaces
from autodistil.report.style import Scale, Spec, as_text, base_layout, rounded
from autodistil.report.units import COSTS

HOVER_COLUMNS = (
    "id",
    "sub_space",
    "num_layers",
    "hidden_size",
    "num_heads",
    "head_size",
    "intermediate_size",
    "flops",
    "params",
    "params_no_embeddings",
    "size_mb",
    "loss",
    "rank",
    "rank_in_sub_space",
)
"""Facts of a student, in this order. A trace's `meta` says which rows (`students`) and columns (`x`, `y`) it draws."""

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
    "over": f"{_CONFIG}loss %{{customdata[11]:.4f}} · over budget<extra></extra>",
    "unscored": f"{_CONFIG}not scored<extra></extra>",
}

_CROWD = 1_000
"""Students from which points are drawn small."""
_MODEBAR_PX = 34
"""Room for plotly's buttons above the labels."""


def front_figure(data: ReportData, column: str) -> Spec:
    """Held-out loss over a cost (a key of `COSTS`): students, front, budgets, teacher, best and knee."""
    table = students(data)
    limits = limits_on(data, column)
    x = Scale.over([*table[column].astype(float), *(limit.value for limit in limits if not limit.beyond)])
    y = Scale.over(table.loc[table["state"] != "unscored", "loss"].astype(float), pad_low=0.14, pad_high=0.06)
    shapes, flags = marked_limits(limits, x)
    rings, labels = marked_picks(data, column, x, y)
    axes, message = _loss_axes(table, y.axis(f"Held-out loss ({as_text(data.objective, 24)})"))
    layout = base_layout(
        margin={"l": 68, "r": 20, "t": _MODEBAR_PX + ROW_PX * len(limits), "b": 60},
        xaxis=x.axis(_axis_title(data, column), tickformat="~s", anchor="y2" if "yaxis2" in axes else "y"),
        shapes=shapes,
        annotations=[*flags, *labels, *message],
        legend=_LEGEND,
        **axes,
    )
    return {"data": [*_front_line(data, column), *_student_traces(data, table, column), *rings], "layout": layout}


def _loss_axes(table: pd.DataFrame, axis: Spec) -> tuple[dict[str, Spec], list[Spec]]:
    """The loss axis, above a strip for students that were never scored; a message where that is all of them."""
    states = set(table["state"])
    if not states - {"unscored"}:
        return {"yaxis": {**_STRIP, "range": [-0.08, 1]}}, [_in_the_middle("No student was scored.")]
    if "unscored" in states:
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
        return f"FLOPs: multiply-adds of one sequence of {data.seq_len} tokens"
    return COSTS[column].name


def _in_the_middle(text: str) -> Spec:
    middle = {"xref": "paper", "x": 0.5, "yref": "paper", "y": 0.5}
    return {**middle, "text": text, "showarrow": False, "font": {"size": 16, "color": "var(--dim)"}}


def _student_traces(data: ReportData, table: pd.DataFrame, column: str) -> list[Spec]:
    """One trace a state and sub-space; the best seen are drawn last, on top."""
    small = len(table) >= _CROWD
    strip = "y" if (table["state"] == "unscored").all() else "y2"
    names = sub_spaces(data)
    in_legend: set[str] = set()
    traces = []
    for state in ("unscored", "over", "front", "dominated"):
        for series, rows in table[table["state"] == state].groupby("series"):
            trace = _points(rows, column, state, int(series), names[int(series)], small)
            trace["yaxis"] = strip if state == "unscored" else "y"
            trace["showlegend"] = trace["legendgroup"] not in in_legend
            in_legend.add(trace["legendgroup"])
            traces.append(trace)
    return sorted(traces, key=lambda trace: ("unscored", "over", "dominated", "front").index(trace["meta"]["state"]))


def _points(rows: pd.DataFrame, column: str, state: str, series: int, name: str, small: bool) -> Spec:
    labels = {"over": "over budget", "unscored": "not scored"}
    return {
        "type": "scatter",
        "mode": "markers",
        "x": rows[column].tolist(),
        "y": [0] * len(rows) if state == "unscored" else rounded(rows["loss"]),
        "name": labels.get(state, as_text(name, 28)),
        "legendgroup": state if state in labels else f"series-{series}",
        "legendrank": {"over": 1001, "unscored": 1002}.get(state, 100 + series),
        "marker": _marker(state, series, small),
        "hovertemplate": _HOVER[state],
        "meta": _meta(rows, column, state),
    }


def _meta(rows: pd.DataFrame, column: str, state: str) -> Spec:
    y = None if state == "unscored" else HOVER_COLUMNS.index("loss")
    return {"state": state, "students": rows.index.tolist(), "x": HOVER_COLUMNS.index(column), "y": y}


def _marker(state: str, series: int, small: bool) -> Spec:
    symbol = SYMBOLS[series % len(SYMBOLS)]
    ring = {"width": 1, "color": "var(--paper)"}
    styles: dict[str, Spec] = {
        "front": {"symbol": symbol, "size": 8 if small else 11, "color": series_colour(series), "line": ring},
        "dominated": {"symbol": symbol, "size": 5 if small else 8, "color": series_colour(series), "opacity": 0.42},
        "over": {"symbol": f"{symbol}-open", "size": 5 if small else 7, "color": "var(--faint)"},
        "unscored": {"symbol": "line-ns-open", "size": 9, "color": "var(--faint)", "opacity": 0.7},
    }
    return styles[state]


def _front_line(data: ReportData, column: str) -> list[Spec]:
    line = staircase(data, column)
    return [
        {
            "type": "scatter",
            "mode": "lines",
            "x": line[column].tolist(),
            "y": rounded(line["loss"]),
            "name": "Pareto front",
            "legendrank": 1,
            "line": {"color": "var(--dim)", "width": 1.5, "shape": "hv"},
            "hoverinfo": "skip",
        }
    ]
