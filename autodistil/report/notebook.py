"""What notebooks show of a search: the front as a table and as a figure."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import TYPE_CHECKING

import pandas as pd

from autodistil.errors import ConfigError, suggest
from autodistil.report.picture import picture_figure
from autodistil.report.rows import ReportData
from autodistil.student_search.candidates import CandidateTable
from autodistil.student_search.pick import best_id
from autodistil.student_search.teacher_row import TeacherRow

if TYPE_CHECKING:
    from plotly.graph_objects import Figure


def plotly_figure(data: ReportData, cost: str) -> Figure:
    """The front over a cost as a plotly figure in light colours.

    Raises:
        ConfigError: there is no such cost.
    """
    from plotly.graph_objects import Figure

    costs = [name for name in data.teacher.costs if name in data.table.frame and "@" not in name] + data.table.devices
    if cost not in costs:
        raise ConfigError(f"cost {cost!r}{suggest(cost, costs)} is no column of costs; allowed: {', '.join(costs)}")
    return Figure(picture_figure(data, cost))


def front_html(table: CandidateTable, name: str, budgets: Sequence[str], teacher: TeacherRow | None = None) -> str:
    """The front as an HTML table, for notebooks; the best student is marked, and the teacher comes last."""
    front = table.front.cheapest_first.frame
    best = best_id(table) if len(front) else None
    marked = [f"{student} *" if student == best else student for student in front.index]
    values = ["loss"] if "score" not in front else ["score", "loss"]
    shown = pd.DataFrame(
        {
            "MFLOPs": (front["flops"] / 1e6).map("{:,.1f}".format),
            "M params": (front["params"] / 1e6).map("{:,.2f}".format),
            "MB": front["size_mb"].map("{:,.1f}".format),
            **{value: front[value].map("{:.4f}".format) for value in values},
            "rank": front["rank"],
        }
    ).set_axis(marked)
    if teacher is not None:
        flops, params, size = (teacher.value(column) for column in ("flops", "params", "size_mb"))
        last = [f"{flops / 1e6:,.1f}", f"{params / 1e6:,.2f}", f"{size:,.1f}", *["–"] * (len(values) - 1)]
        shown = shown.astype({"rank": object})
        shown.loc[f"{teacher.name} (teacher)"] = [*last, teacher.loss_text, ""]
    title = escape(f"{name}: Pareto front under {' and '.join(budgets)}")
    return f"<p><b>{title}</b></p>{shown.to_html(escape=True)}"
