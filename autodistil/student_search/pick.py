"""Which student of a search to take: the best, the knee of the front, or one by id."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd

from autodistil.errors import ExportError, suggest
from autodistil.student_search.pareto import knee_index, pareto_mask


def rank_candidates(table: pd.DataFrame, losses: Mapping[str, float], costs: pd.DataFrame) -> pd.DataFrame:
    """Add loss, front and ranks to a cost table that holds `feasible`.

    Args:
        table: one row a student, by id, with `sub_space` and `feasible`.
        losses: held-out loss of the students that were evaluated.
        costs: the costs that span the front beside the loss, by id.

    Returns:
        The table with `loss` (NaN where never run), `pareto`, `rank` (1 is best, across sub-spaces) and
        `rank_in_sub_space`. Losses of different SuperLMs are on one scale but not equally well trained: compare ranks
        within a sub-space first.
    """
    result = table.copy()
    result["loss"] = pd.Series(dict(losses), dtype=float).reindex(result.index)
    runnable = result["loss"].where(result["feasible"])
    result["pareto"] = pareto_mask(np.column_stack([runnable, costs.loc[result.index].to_numpy(dtype=float)]))
    result["rank"] = runnable.rank(method="min").astype("Int64")
    result["rank_in_sub_space"] = runnable.groupby(result["sub_space"]).rank(method="min").astype("Int64")
    return result


def best_id(ranked: pd.DataFrame) -> str:
    """The feasible student of the lowest held-out loss (the cheapest of equals)."""
    front = ranked[ranked["pareto"]]
    return str(front.sort_values(["loss", "flops"], kind="stable").index[0])


def knee_id(ranked: pd.DataFrame) -> str:
    """The student at the knee of the front of loss over log FLOPs."""
    front = ranked[ranked["pareto"]]
    points = np.column_stack([front["loss"], np.log(front["flops"].astype(float))])
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
