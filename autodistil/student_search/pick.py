"""Which student of a search to take: the best, the knee of the front, or one by id.

Students are ranked by their held-out loss, or, where a proxy task scored some of them, those by their score first.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from autodistil.errors import ExportError, suggest
from autodistil.student_search.candidates import badness, finalists, front_order
from autodistil.student_search.pareto import knee_index


def best_id(ranked: pd.DataFrame) -> str:
    """The feasible student of the lowest held-out loss, or of the highest task score (the cheapest of equals).

    Where finalists were refined, the best of these.
    """
    refined = finalists(ranked)
    return str((refined if len(refined) else front_order(ranked)).index[0])


def knee_id(ranked: pd.DataFrame) -> str:
    """The student at the knee of the front of loss (or score) over log FLOPs."""
    front = ranked[ranked["pareto"]]
    points = np.column_stack([badness(front), np.log(front["flops"].astype(float))])
    return str(front.index[knee_index(points)])


PICKS = {"best": best_id, "knee": knee_id}


def pick_student(ranked: pd.DataFrame, pick: str) -> str:
    """Resolve `best`, `knee` or an id of an evaluated student.

    Raises:
        ExportError: there is no such student, or it was not evaluated.
    """
    if pick in PICKS:
        return PICKS[pick](ranked)
    if pick not in ranked.index:
        hint = suggest(pick, ranked.index)
        raise ExportError(
            f"pick {pick!r}{hint} is no student of this run; allowed: best, knee or an id of candidates.csv"
        )
    if not np.isfinite(ranked.loc[pick, "loss"]):
        raise ExportError(
            f"pick {pick!r} was not evaluated; allowed: best, knee or an id with a loss in candidates.csv"
        )
    return pick
