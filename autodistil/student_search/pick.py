"""Which student of a search to take: the best, one at half its cost, one nearly as good, the knee, or one by id."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import numpy as np
import pandas as pd

from autodistil.errors import ExportError, RunError, suggest
from autodistil.student_search.candidates import CandidateTable
from autodistil.student_search.pareto import knee_index, staircase


def best_id(table: CandidateTable) -> str:
    """The feasible student of the lowest held-out loss, or of the highest task score (the cheapest of equals).

    Where finalists were refined, the best of these.

    Raises:
        RunError: there is none.
    """
    _check_front(table)
    return (table.finalists.ids or table.front.best_first.ids)[0]


def knee_id(table: CandidateTable) -> str | None:
    """The student at the knee of the front of loss (or score) over the cost that limits the search; None without one.

    Raises:
        RunError: there is no student within budget.
    """
    _check_front(table)
    front = table.front
    points = np.column_stack([_limiting_costs(table), front.minimised]).astype(float)
    steps = staircase(points)
    knee = knee_index(points[steps])
    return None if knee is None else front.ids[steps[knee]]


def half_id(table: CandidateTable) -> str | None:
    """The best student at half of what the best one takes of the cost that limits the search; None where none is.

    Raises:
        RunError: there is no student within budget.
    """
    costs = _limiting_costs(table)
    cheap = costs.index[costs <= 0.5 * costs[best_id(table)]]
    return next((student for student in table.front.best_first.ids if student in cheap), None)


def near_id(table: CandidateTable) -> str:
    """The cheapest student whose loss or score is within `NEAR` of the best one's, by the cost that limits the search.

    Raises:
        RunError: there is no student within budget.
    """
    best, values = best_id(table), table.front.minimised
    near = values[values <= values[best] + NEAR * abs(values[best])].index
    return str(_limiting_costs(table)[near].astype(float).idxmin())


def _limiting_costs(table: CandidateTable) -> pd.Series:
    """Of the front, by id, in its order."""
    ids = table.front.ids
    return table.frame.loc[ids, "flops"] if table.limiting is None else table.front_costs.loc[ids, table.limiting]


def _check_front(table: CandidateTable) -> None:
    if not len(table.front):
        raise RunError(
            f"no student within budget has a finite loss ({len(table.known('loss')):,} were scored); search again with "
            "--sampler auto or higher budgets, or train anew with a lower learning rate"
        )


PICKS: Mapping[str, Callable[[CandidateTable], str | None]] = {
    "best": best_id,
    "half": half_id,
    "near": near_id,
    "knee": knee_id,
}
NEAR = 0.01
"""Share of the best loss or score within which another counts as near it."""


def pick_student(table: CandidateTable, pick: str) -> str:
    """Resolve a key of `PICKS` or an id of an evaluated student.

    Raises:
        ExportError: there is no such student, or it was not evaluated.
    """
    if pick in PICKS:
        found = PICKS[pick](table)
        if found is None:
            why = "the front bends nowhere" if pick == "knee" else "no student of the front is that cheap"
            raise ExportError(f"pick {pick!r}: {why}; allowed: best, near or an id of candidates.csv")
        return found
    row = table.get(pick)
    if row is None:
        hint = suggest(pick, [*PICKS, *table.ids])
        raise ExportError(
            f"pick {pick!r}{hint} is no student of this run; allowed: best, half, near, knee or an id of candidates.csv"
        )
    loss = row.estimate if row.loss is None else row.loss
    if loss is None or not math.isfinite(loss):
        raise ExportError(
            f"pick {pick!r} was not evaluated; allowed: best, half, near, knee or an id with a loss in candidates.csv"
        )
    return pick
