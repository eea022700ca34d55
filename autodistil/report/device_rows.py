"""What there is to say about the devices of a search's budgets, as rows and sentences; nothing here draws."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pandas as pd

from autodistil.costs.latency_model import accuracy
from autodistil.profiling.costing import UNITS, DeviceCost, typical_value
from autodistil.report.data import ReportData
from autodistil.report.rows import front_rows, measure, students
from autodistil.report.units import three_digits

ADVICE_ROWS = 8
"""Most budgets that the advice table has a line for."""
ALIKE = 0.05
"""Students whose cost on the device differs by less count as equally fast."""
_SHOWN = 12
"""Most students whose time is taken apart."""


def amount(device: DeviceCost, value: float) -> str:
    """A cost with its unit."""
    return f"{three_digits(value)} {UNITS[device.budget.cost]}"


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
    known = [entry for entry in device.design if typical_value(entry, cost) is not None]
    of_design = [
        Guess(names.get(entry.student, entry.student.label), guess, typical_value(entry, cost) or 0.0, False)
        for entry, guess in zip(known, device.model.left_out, strict=True)
    ]
    of_finalists = [
        Guess(names[entry.student], float(device.table.loc[names[entry.student], "predicted"]), value, True)
        for entry in device.unseen
        if entry.student in names and (value := typical_value(entry, cost)) is not None
    ]
    return [*of_design, *of_finalists]


@dataclass(frozen=True)
class Advice:
    """The student to take for a budget on a device."""

    limit: float
    student: str
    value: float
    """Its loss or task score."""
    cost: float
    measured: bool
    flops: float


def advice(data: ReportData, device: DeviceCost) -> list[Advice]:
    """For each budget at which another student becomes the best, cheapest first; thinned where there are many."""
    front, by = front_rows(data), measure(data)
    front = front.assign(badness=by.sign * front[by.column]).sort_values([device.budget.column, "badness"])
    best = front[front["badness"] < front["badness"].cummin().shift(fill_value=np.inf)]
    if len(best) > ADVICE_ROWS:
        best = best.iloc[np.unique(np.linspace(0, len(best) - 1, ADVICE_ROWS).round().astype(int))]
    return [_advice(device, row, by.column) for _, row in best.iterrows()]


def _advice(device: DeviceCost, row: pd.Series, value: str) -> Advice:
    cost = float(row[device.budget.column])
    known = bool(pd.notna(device.table.loc[row["id"], "measured"]))
    return Advice(_rounded_up(cost), str(row["id"]), float(row[value]), cost, known, float(row["flops"]))


def _rounded_up(cost: float) -> float:
    """Two significant digits: a budget as a person would give it."""
    step = 10.0 ** (np.floor(np.log10(cost)) - 1)
    return float(np.ceil(cost / step - 1e-9) * step)


def layer_shares(data: ReportData, device: DeviceCost) -> pd.DataFrame:
    """(students, layer types): where the predicted cost of students of the front goes, cheapest first."""
    front = front_rows(data).sort_values(device.budget.column)
    chosen = np.unique(np.linspace(0, len(front) - 1, min(_SHOWN, len(front))).round().astype(int))
    shares = device.shares.loc[front["id"].iloc[chosen]]
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
        yield _flops_sentence(data, device)


def _flops_sentence(data: ReportData, device: DeviceCost) -> str:
    table = students(data)
    cost, flops = table[device.budget.column].to_numpy(dtype=float), table["flops"].to_numpy(dtype=float)
    spread = flops_spread(cost, flops)
    return (
        f"FLOPs rank students by this cost with Kendall tau {accuracy(flops, cost).tau:.2f}; students that take the "
        f"same time within {100 * ALIKE:.0f} % differ by up to {spread:.2f} times in FLOPs."
    )


def flops_spread(cost: np.ndarray, flops: np.ndarray) -> float:
    """Largest ratio of FLOPs between two students whose costs are within `ALIKE` of each other."""
    order = np.argsort(cost, kind="stable")
    cost, flops = cost[order], flops[order]
    ends = np.searchsorted(cost, cost * (1 + ALIKE), side="right")
    return float(max((flops[i:end].max() / flops[i:end].min() for i, end in enumerate(ends)), default=1.0))
