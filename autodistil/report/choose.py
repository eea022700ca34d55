"""The part of the page where a person chooses: limits to move, a front to brush, two students side by side.

Here is what the browser gets to know; the controls stand in `report.html`, and `choose.js` does the rest. Sliders stop
at the costs of scored students only, so that each step of one can change the choice.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import pandas as pd

from autodistil.costs.closed_form import LAYERS
from autodistil.costs.units import COSTS, Cost, cost_of
from autodistil.report.front import HOVER_COLUMNS
from autodistil.report.rows import ReportData, by_rank, front_rows
from autodistil.report.style import Spec, rounded
from autodistil.space.axes import axis_of
from autodistil.space.student import OPTIONAL_AXES, SIZES, read_layers
from autodistil.student_search.candidates import BY_SCORE, CandidateTable
from autodistil.student_search.pick import half_id

_MORE = (*OPTIONAL_AXES, "refined_loss")
"""Facts beside `HOVER_COLUMNS` that the comparison shows where candidates have them."""
_PICK = " --pick best "
"""The part of the export command that another choice replaces."""


@dataclass(frozen=True)
class Dial(Cost):
    """A cost with a slider of its own."""

    limit: float | None
    """The tightest budget of the search, None where it had none."""
    teacher: float | None
    """The teacher's cost, where known."""


def dials(data: ReportData) -> list[Dial]:
    """The costs to choose by: FLOPs, parameters and size, and what budgets say of other lengths and of devices."""
    known = [column for column in COSTS if column in data.candidates]
    return [
        Dial(
            **asdict(cost_of(column)),
            limit=min((budget.limit for budget in data.budgets if budget.column == column), default=None),
            teacher=data.teacher.costs.get(column),
        )
        for column in (*known, *data.table.at_lengths, *data.table.devices)
    ]


def choosable(data: ReportData) -> pd.DataFrame:
    """Scored students that save anything, best first by what they are exported with: the better of their weights."""
    known = by_rank(data)
    known = known[~known["id"].isin(data.no_gain)]
    if data.table.ranking == BY_SCORE:
        return known
    return known.loc[CandidateTable(known).exported_losses.sort_values(kind="stable").index]


def facts(data: ReportData) -> dict[str, Any]:
    """What `choose.js` needs beside the students' `HOVER_COLUMNS`; rows are named by their number."""
    shown = dict.fromkeys((*_MORE, *COSTS, *data.table.at_lengths, *data.table.devices))
    more = [name for name in shown if name in data.candidates and name not in HOVER_COLUMNS]
    head, found, tail = data.export_command.partition(_PICK)
    numbers = {name: row for row, name in enumerate(data.candidates["id"])}
    return {
        "columns": list(HOVER_COLUMNS),
        "sizes": [[axis_of(size).heading, size] for size in SIZES],
        "layers": _layers(data),
        "more": {name: rounded(data.candidates[name].astype(float)) for name in more},
        "order": choosable(data).index.tolist(),
        "front": front_rows(data).index.tolist(),
        "dials": [asdict(dial) for dial in dials(data)],
        "measure": asdict(data.table.ranking),
        "best": numbers.get(data.best),
        "knee": numbers.get(data.knee),
        "half": numbers.get(half_id(data.table)) if data.table.get(data.best) else None,
        "command": [head, tail] if found else None,
    }


def _layers(data: ReportData) -> list[list[list[int]]] | None:
    """Heads and FFN units of each layer of the teacher, by row; none of a student whose layers are alike."""
    if LAYERS not in data.candidates:
        return None
    return [[list(layer) for layer in read_layers(text)] for text in data.candidates[LAYERS].fillna("")]


def never_dimmed(figure: Spec) -> Spec:
    """The figure with points that look the same when plotly takes them for not selected, as it does after a brush."""
    traces = [
        {**trace, "unselected": {"marker": {"opacity": trace["marker"].get("opacity", 1)}}}
        if "marker" in trace
        else trace
        for trace in figure["data"]
    ]
    return {**figure, "data": traces}
