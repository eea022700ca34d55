"""The page's part on devices: a front per budgeted cost, the model against measurements, where time goes, advice."""

from __future__ import annotations

from collections.abc import Iterator
from html import escape

import pandas as pd

from autodistil.profiling.costing import UNITS, DeviceCost
from autodistil.report import markup
from autodistil.report.data import ReportData
from autodistil.report.device_rows import Advice, Guess, advice, amount, guesses, layer_shares, sentences
from autodistil.report.front import front_figure
from autodistil.report.markup import Column
from autodistil.report.palette import SYMBOLS, series_colour
from autodistil.report.rows import measure, students
from autodistil.report.style import Scale, Spec, as_text, base_layout, rounded
from autodistil.report.units import cost_of, three_digits


def figures(data: ReportData) -> dict[str, Spec]:
    """Figures of all devices by their keys in the page."""
    return {
        f"device-{i}-{name}": figure
        for i, device in enumerate(data.devices)
        for name, figure in _figures(data, device).items()
    }


def _figures(data: ReportData, device: DeviceCost) -> dict[str, Spec]:
    return {
        "front": front_figure(data, device.budget.column),
        "model": _model_figure(device),
        "layers": _layer_figure(data, device),
        "flops": _flops_figure(data, device),
    }


def section(data: ReportData) -> str:
    """All devices as HTML; nothing where no budget is one of a device."""
    return "\n".join(_section(data, i, device) for i, device in enumerate(data.devices))


def _section(data: ReportData, number: int, device: DeviceCost) -> str:
    cost = cost_of(device.budget.column)
    front = _plot(f"device-{number}-front", f"{measure(data).name} over {cost.name}", tall=True)
    panels = "".join(
        f"<div><h3>{escape(title)}</h3>{_plot(f'device-{number}-{name}', title)}<p class=dim>{escape(note)}</p></div>"
        for name, title, note in _panels(cost.name)
    )
    return (
        f"<section>\n<h2>{escape(cost.name)}</h2>\n{front}\n"
        f'<div class="prose">{markup.paragraphs(sentences(data, device))}</div>\n<div class="panels">{panels}</div>\n'
        f"<h3>For this budget take this</h3>\n{_advice_table(data, device)}\n</section>"
    )


def _panels(name: str) -> Iterator[tuple[str, str, str]]:
    """Key, title and note of each small figure."""
    yield "model", "Predicted and measured", "On the line a prediction is right. None had seen its measurement."
    yield "layers", "Where it goes", f"{name} of students of the front by layer type, by the model’s prices."
    yield "flops", "FLOPs against it", "If FLOPs said it all, the points would lie on one curve."


def _plot(key: str, label: str, tall: bool = False) -> str:
    kind = "plot tall" if tall else "plot"
    return f'<div class="{kind}" data-figure="{key}" role="img" aria-label="{escape(label)}"></div>'


# ---- figures


def _model_figure(device: DeviceCost) -> Spec:
    found = guesses(device)
    values = [value for guess in found for value in (guess.predicted, guess.measured)]
    scale, unit = Scale.over(values, pad_low=0.06, pad_high=0.06), UNITS[device.budget.cost]
    ends = [min(values), max(values)]
    line = {"type": "scatter", "mode": "lines", "x": ends, "y": ends, "hoverinfo": "skip", "showlegend": False}
    traces = [
        _guess_points([guess for guess in found if guess.finalist == finalist], series, name, unit)
        for series, (finalist, name) in enumerate([(False, "by design"), (True, "finalists, as exported")])
    ]
    layout = _layout(scale.axis(f"Predicted, {unit}", nticks=5), scale.axis(f"Measured, {unit}", nticks=5))
    identity = {**line, "line": {"color": "var(--faint)", "width": 1.5, "dash": "dot"}}
    return {"data": [identity, *(trace for trace in traces if trace["x"])], "layout": layout}


def _guess_points(found: list[Guess], series: int, name: str, unit: str) -> Spec:
    return {
        "type": "scatter",
        "mode": "markers",
        "x": [guess.predicted for guess in found],
        "y": [guess.measured for guess in found],
        "name": name,
        "marker": {"symbol": SYMBOLS[series], "size": 9, "color": series_colour(series)},
        "customdata": [[as_text(guess.id), f"{100 * guess.error:+.1f} %"] for guess in found],
        "hovertemplate": f"<b>%{{customdata[0]}}</b><br>predicted %{{x:.4g}} {unit} (%{{customdata[1]}}) · "
        f"measured %{{y:.4g}} {unit}<extra></extra>",
    }


def _layer_figure(data: ReportData, device: DeviceCost) -> Spec:
    shares, unit = layer_shares(data, device), UNITS[device.budget.cost]
    traces = [
        {
            "type": "bar",
            "orientation": "h",
            "y": [as_text(student, 24) for student in shares.index],
            "x": rounded(shares[layer]),
            "name": str(layer),
            "marker": {"color": series_colour(series)},
            "hovertemplate": f"%{{y}}: %{{x:.3g}} {unit}",
        }
        for series, layer in enumerate(shares)
    ]
    layout = _layout(
        Scale.over([0.0, *shares.sum(axis=1)], may_be_log=False, pad_low=0).axis(f"Predicted, {unit}", nticks=5),
        {"automargin": True, "tickfont": {"size": 11}},
    )
    return {"data": traces, "layout": {**layout, "barmode": "stack"}}


def _flops_figure(data: ReportData, device: DeviceCost) -> Spec:
    table, column = students(data), device.budget.column
    x, y = (Scale.over(table[name].astype(float)) for name in ("flops", column))
    traces = [_flops_points(rows, column, int(series)) for series, rows in table.groupby("series")]
    unit = UNITS[device.budget.cost]
    return {"data": traces, "layout": _layout(x.axis("FLOPs", tickformat="~s"), y.axis(f"{unit}", nticks=5))}


def _flops_points(rows: pd.DataFrame, column: str, series: int) -> Spec:
    return {
        "type": "scatter",
        "mode": "markers",
        "x": rounded(rows["flops"]),
        "y": rounded(rows[column]),
        "name": as_text(rows["sub_space"].iloc[0], 28),
        "marker": {"symbol": SYMBOLS[series % len(SYMBOLS)], "size": 6, "color": series_colour(series)},
        "customdata": [[as_text(student)] for student in rows["id"]],
        "hovertemplate": "<b>%{customdata[0]}</b><br>%{x:.3~s}FLOPs · %{y:.4g}<extra></extra>",
    }


def _layout(xaxis: Spec, yaxis: Spec) -> Spec:
    return base_layout(
        margin={"l": 62, "r": 12, "t": 10, "b": 50},
        xaxis=xaxis,
        yaxis=yaxis,
        legend={"orientation": "h", "x": 0, "y": 1, "yanchor": "bottom", "font": {"color": "var(--ink)"}},
    )


# ---- advice


def _advice_table(data: ReportData, device: DeviceCost) -> str:
    rows = advice(data, device)
    if not rows:
        return "<p>No student was scored within every budget.</p>"
    columns = (
        Column("Budget", lambda row: escape(f"≤ {amount(device, row.limit)}"), lambda row: row.limit),
        Column("Take", lambda row: escape(row.student), lambda row: row.student, text=True, wide=True),
        Column("It takes", lambda row: escape(_cost_text(device, row)), lambda row: row.cost),
        Column(measure(data).name.capitalize(), lambda row: f"{row.value:.4f}", lambda row: row.value),
        Column("MFLOPs", lambda row: three_digits(row.flops / 1e6), lambda row: row.flops),
    )
    label = f"Advice for {cost_of(device.budget.column).name}"
    return markup.table(rows, columns, label, is_best=lambda row: row.student == data.best, narrow=True)


def _cost_text(device: DeviceCost, row: Advice) -> str:
    return f"{amount(device, row.cost)} {'measured' if row.measured else 'predicted'}"
