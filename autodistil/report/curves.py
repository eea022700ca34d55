"""The training losses of the SuperLMs, as a plotly figure each."""

from __future__ import annotations

import numpy as np
import pandas as pd

from autodistil.report.data import ReportData
from autodistil.report.palette import series_colour
from autodistil.report.rows import sub_spaces, training_curves
from autodistil.report.style import Scale, Spec, base_layout, rounded


def training_figures(data: ReportData) -> dict[str, Spec]:
    """Training loss of each SuperLM, all on one scale: mean of the drawn students, band from largest to smallest."""
    curves = training_curves(data)
    names = sub_spaces(data)
    columns = ["loss", "largest_loss", "smallest_loss"]
    losses = np.concatenate([curve[columns].to_numpy().ravel() for curve in curves.values()]) if curves else ()
    y = Scale.over(losses, pad_low=0.05, pad_high=0.05)
    series = {name: names.index(name) if name in names else len(names) for name in curves}
    return {name: _training_figure(curve, series[name], y) for name, curve in curves.items()}


def _training_figure(curve: pd.DataFrame, series: int, y: Scale) -> Spec:
    edge = {"mode": "lines", "line": {"width": 0.5, "color": series_colour(series)}}
    band = {**edge, "fill": "tonexty", "fillcolor": series_colour(series, soft=True)}
    mean = {"mode": "lines", "line": {"width": 2, "color": series_colour(series)}}
    layout = base_layout(
        margin={"l": 58, "r": 12, "t": 10, "b": 46},
        xaxis={**Scale.over(curve["step"]).axis("Step"), "type": "linear", "autorange": True, "nticks": 6},
        yaxis=y.axis("Training loss"),
        showlegend=False,
    )
    layout["hovermode"] = "x unified"
    layout["xaxis"].pop("range")
    traces = [
        _curve(curve, "largest_loss", "largest student", edge),
        _curve(curve, "smallest_loss", "smallest student", band),
        _curve(curve, "loss", "mean", mean),
    ]
    return {"data": traces, "layout": layout}


def _curve(curve: pd.DataFrame, column: str, name: str, style: Spec) -> Spec:
    drawn = {"type": "scatter", "x": curve["step"].round(1).tolist(), "y": rounded(curve[column]), "name": name}
    return {**drawn, "hovertemplate": "%{y:.4g}", **style}
