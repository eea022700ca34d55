"""Which student of a search to take: the best, the knee of the front, or one by id."""

from __future__ import annotations

import math

import numpy as np

from autodistil.errors import ExportError, RunError, suggest
from autodistil.student_search.candidates import CandidateTable
from autodistil.student_search.pareto import knee_index


def best_id(table: CandidateTable) -> str:
    """The feasible student of the lowest held-out loss, or of the highest task score (the cheapest of equals).

    Where finalists were refined, the best of these.

    Raises:
        RunError: there is none.
    """
    _check_front(table)
    return (table.finalists.ids or table.front.best_first.ids)[0]


def knee_id(table: CandidateTable) -> str:
    """The student at the knee of the front of loss (or score) over the logarithm of the cost that limits the search.

    Raises:
        RunError: there is none.
    """
    _check_front(table)
    front = table.front
    costs = front.frame["flops"] if table.limiting is None else table.front_costs.loc[front.ids, table.limiting]
    return front.ids[knee_index(np.column_stack([front.minimised, np.log(costs.astype(float))]))]


def _check_front(table: CandidateTable) -> None:
    if not len(table.front):
        raise RunError(
            f"no student within budget has a finite loss ({len(table.known('loss')):,} were scored); search again with "
            "--sampler auto or higher budgets, or train anew with a lower learning rate"
        )


PICKS = {"best": best_id, "knee": knee_id}


def pick_student(table: CandidateTable, pick: str) -> str:
    """Resolve `best`, `knee` or an id of an evaluated student.

    Raises:
        ExportError: there is no such student, or it was not evaluated.
    """
    if pick in PICKS:
        return PICKS[pick](table)
    row = table.get(pick)
    if row is None:
        hint = suggest(pick, table.ids)
        raise ExportError(
            f"pick {pick!r}{hint} is no student of this run; allowed: best, knee or an id of candidates.csv"
        )
    loss = row.estimate if row.loss is None else row.loss
    if loss is None or not math.isfinite(loss):
        raise ExportError(
            f"pick {pick!r} was not evaluated; allowed: best, knee or an id with a loss in candidates.csv"
        )
    return pick
