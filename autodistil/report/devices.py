"""The page's part on devices: a front per budgeted cost, the model against measurements, where time goes, advice."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import numpy as np
import pandas as pd

from autodistil.costs.units import cost_of, significant
from autodistil.profiling.device_costs import DeviceCost, measured_values
from autodistil.profiling.latency_model import accuracy
from autodistil.report.front import front_figure
from autodistil.report.rows import ReportData, front_rows, staircase, students
from autodistil.report.style import (
    NAME,
    Cell,
    Scale,
    Spec,
    as_text,
    identity_line,
    rounded,
    series_colour,
    series_points,
    small_layout,
)

ADVICE_ROWS = 8
"""Most budgets that the advice table has a line for."""

ALIKE = 0.05
"""Students whose cost on the device differs by less count as equally fast."""

_SHOWN = 12
"""Most students whose time is taken apart."""


def amount(device: DeviceCost, value: float) -> str:
    """A cost with its unit."""
    return cost_of(device.budget.cost).text(value)


@dataclass(frozen=True)
class Guess:
    """A measured student and what the model said of it without having seen it."""

    id: str
    predicted: float
    measured: float
    finalist: bool
    """Measured as exported; else by design, and predicted from the others of the design."""

    @property
    def error(self) -> float:
        """Relative, positive where the prediction was too high."""
        return self.predicted / self.measured - 1


def guesses(device: DeviceCost) -> list[Guess]:
    """All measured students, those of the design first."""
    names = {candidate.config: candidate.id for candidate in reversed(device.candidates)}
    cost = device.budget.cost
    of_design = [
        Guess(names.get(student, student.label), guess, value, False)
        for (student, value), guess in zip(
            measured_values(device.design, cost).items(), device.model.left_out, strict=True
        )
    ]
    of_finalists = [
        Guess(names[student], float(device.table.loc[names[student], "predicted"]), value, True)
        for student, value in measured_values(device.unseen, cost).items()
        if student in names
    ]
    return [*of_design, *of_finalists]


@dataclass(frozen=True)
class Advice:
    """The student to take for a budget on a device."""

    limit: float
    student: str
    value: float
    """The student's loss or task score."""
    cost: float
    measured: bool
    flops: float


def advice(data: ReportData, device: DeviceCost) -> list[Advice]:
    """The student for each budget at which another becomes the best, cheapest first; thinned where there are many.

    Of students whose budgets are the same in two digits, the best.
    """
    best = _spread(staircase(data, device.budget.column), ADVICE_ROWS)
    costs = best[device.budget.column].astype(float)
    steps = 10.0 ** (np.floor(np.log10(costs)) - 1)
    limits = np.ceil(costs / steps - 1e-9) * steps  # two significant digits: a budget as a person would give it
    known = device.table.loc[best["id"], "measured"].notna()
    columns = (limits, best["id"], best[data.table.ranking.column], costs, known, best["flops"].astype(float))
    by_limit = {row[0]: Advice(*row) for row in zip(*(column.tolist() for column in columns), strict=True)}
    return list(by_limit.values())


def _spread(rows: pd.DataFrame, most: int) -> pd.DataFrame:
    """At most so many of the rows, evenly spread, with the first and the last."""
    return rows.iloc[np.unique(np.linspace(0, len(rows) - 1, min(most, len(rows))).round().astype(int))]


def layer_shares(data: ReportData, device: DeviceCost) -> pd.DataFrame:
    """(students, layer types): where the predicted cost of students of the front goes, cheapest first."""
    front = _spread(front_rows(data).sort_values(device.budget.column), _SHOWN)
    shares = device.shares.loc[front["id"]]
    return shares.loc[:, (shares > 0).any()]


def sentences(data: ReportData, device: DeviceCost) -> Iterator[str]:
    """How the costs were found, how good the model is, and what FLOPs miss."""
    yield (
        f"{device.setting}: {len(device.design)} of {len({c.config for c in device.candidates})} students were "
        f"measured by design; each of them predicted from the others: {device.model.cross_validated}."
    )
    if device.busy:
        yield (
            "The machine was busy while some were measured. Neighbours only ever make a student slower, so a budget "
            "that was measured as met is met; predictions and advice are less sure."
        )
    found = device.on_finalists
    if found is not None:
        yield f"Finalists, measured as exported, were predicted with {found}."
    if device.budget.cost == "ms":
        cost, flops = data.candidates[[device.budget.column, "flops"]].to_numpy(dtype=float).T
        yield (
            f"FLOPs rank students by this cost with Kendall tau {accuracy(flops, cost).tau:.2f}; students that take "
            f"the same time within {100 * ALIKE:.0f} % differ by up to {flops_spread(cost, flops):.2f} times in FLOPs."
        )


def flops_spread(cost: np.ndarray, flops: np.ndarray) -> float:
    """Largest ratio of FLOPs between two students whose costs are within `ALIKE` of each other."""
    order = np.argsort(cost, kind="stable")
    cost, flops = cost[order], flops[order]
    ends = np.searchsorted(cost, cost * (1 + ALIKE), side="right")
    return float(max((flops[i:end].max() / flops[i:end].min() for i, end in enumerate(ends)), default=1.0))


def figures(data: ReportData) -> dict[str, Spec]:
    """Figures of all devices by their keys in the page."""
    found = {}
    for i, device in enumerate(data.devices):
        found[f"device-{i}-front"] = front_figure(data, device.budget.column)
        found[f"device-{i}-model"] = _model_figure(device)
        found[f"device-{i}-layers"] = _layer_figure(data, device)
        found[f"device-{i}-flops"] = _flops_figure(data, device)
    return found


def sections(data: ReportData) -> list[dict[str, Any]]:
    """What the page says of each device, in the order of their budgets; `key` begins the keys of its figures."""
    return [
        {
            "key": f"device-{i}",
            "name": cost_of(device.budget.column).name,
            "sentences": list(sentences(data, device)),
            "advice": _advice_table(data, device),
        }
        for i, device in enumerate(data.devices)
    ]


# ---- figures


def _model_figure(device: DeviceCost) -> Spec:
    found, unit = guesses(device), cost_of(device.budget.cost).unit
    values = [value for guess in found for value in (guess.predicted, guess.measured)]
    scale = Scale.over(values, pad_low=0.06, pad_high=0.06)
    groups = [(finalist, list(group)) for finalist, group in groupby(found, key=lambda guess: guess.finalist)]
    traces = [
        series_points(
            [guess.predicted for guess in group],
            [guess.measured for guess in group],
            "finalists, as exported" if finalist else "by design",
            int(finalist),
            9,
            customdata=[[as_text(guess.id), f"{100 * guess.error:+.1f} %"] for guess in group],
            hovertemplate=f"<b>%{{customdata[0]}}</b><br>predicted %{{x:.4g}} {unit} (%{{customdata[1]}}) · "
            f"measured %{{y:.4g}} {unit}<extra></extra>",
        )
        for finalist, group in groups
    ]
    layout = small_layout(scale.axis(f"Predicted, {unit}", nticks=5), scale.axis(f"Measured, {unit}", nticks=5))
    return {"data": [identity_line(values), *traces], "layout": layout}


def _layer_figure(data: ReportData, device: DeviceCost) -> Spec:
    shares, unit = layer_shares(data, device), cost_of(device.budget.cost).unit
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
    axis = Scale.over([0.0, *shares.sum(axis=1)], may_be_log=False, pad_low=0).axis(f"Predicted, {unit}", nticks=5)
    return {
        "data": traces,
        "layout": small_layout(axis, {"automargin": True, "tickfont": {"size": 11}}, barmode="stack"),
    }


def _flops_figure(data: ReportData, device: DeviceCost) -> Spec:
    table, column = students(data), device.budget.column
    x, y = (Scale.over(table[name].astype(float)) for name in ("flops", column))
    traces = [
        series_points(
            rows["flops"],
            rows[column],
            rows["sub_space"].iloc[0],
            int(series),
            6,
            customdata=[[as_text(student)] for student in rows["id"]],
            hovertemplate="<b>%{customdata[0]}</b><br>%{x:.3~s}FLOPs · %{y:.4g}<extra></extra>",
        )
        for series, rows in table.groupby("series")
    ]
    layout = small_layout(x.axis("FLOPs", tickformat="~s"), y.axis(cost_of(device.budget.cost).unit, nticks=5))
    return {"data": traces, "layout": layout}


# ---- advice


def _advice_table(data: ReportData, device: DeviceCost) -> list[list[Cell]]:
    value = data.table.ranking.name.capitalize()
    return [
        [
            Cell("Budget", f"≤ {amount(device, row.limit)}", row.limit),
            Cell("Take", row.student, row.student, NAME),
            Cell("It takes", f"{amount(device, row.cost)} {'measured' if row.measured else 'predicted'}", row.cost),
            Cell(value, f"{row.value:.4f}", row.value),
            Cell("MFLOPs", significant(row.flops / 1e6), row.flops),
        ]
        for row in advice(data, device)
    ]
