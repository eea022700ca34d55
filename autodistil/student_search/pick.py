"""Which student of a search to take: the best, the knee of the front, or one by id.

Students are ranked by their held-out loss, or, where a proxy task scored some of them, those by their score first.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

import numpy as np
import pandas as pd

from autodistil.errors import ExportError, suggest
from autodistil.student_search.pareto import knee_index, pareto_mask

SCORE = "score"
"""Column of the task scores, higher is better; there only where a proxy task ranks."""


def rank_candidates(
    table: pd.DataFrame,
    losses: Mapping[str, float],
    costs: pd.DataFrame,
    scores: Mapping[str, float] = MappingProxyType({}),
) -> pd.DataFrame:
    """Add loss, front and ranks to a cost table that holds `feasible`.

    Args:
        table: one row a student, by id, with `sub_space` and `feasible`.
        losses: held-out loss of the students that were evaluated.
        costs: the costs that span the front beside the loss or score, by id.
        scores: task scores of those that a proxy task ranks; the front is then among these.

    Returns:
        The table with `loss` (NaN where never run), `score` if there are any, `pareto`, `rank` (1 is best, across
        sub-spaces) and `rank_in_sub_space`. Losses of different SuperLMs are on one scale but not equally well trained:
        compare ranks within a sub-space first.
    """
    result = table.copy()
    result["loss"] = pd.Series(dict(losses), dtype=float).reindex(result.index)
    if scores:
        result[SCORE] = pd.Series(dict(scores), dtype=float).reindex(result.index)
    result["pareto"] = pareto_mask(
        np.column_stack([_feasible_badness(result), costs.loc[result.index].to_numpy(dtype=float)])
    )
    result["rank"] = _ranks(result)
    groups = [_ranks(rows) for _, rows in result.groupby("sub_space")]
    result["rank_in_sub_space"] = pd.concat(groups) if groups else result["rank"]
    return result


def badness(ranked: pd.DataFrame) -> pd.Series:
    """What students are ranked by, lower is better: the loss, or the negative score where a proxy task ranks."""
    return -ranked[SCORE] if SCORE in ranked else ranked["loss"]


def _feasible_badness(ranked: pd.DataFrame) -> pd.Series:
    return badness(ranked).where(ranked["feasible"])


def _ranks(ranked: pd.DataFrame) -> pd.Series:
    """Ranks of the feasible: those that a proxy task scored, if any, and behind them the others by loss."""
    first = _feasible_badness(ranked)
    rest = ranked["loss"].where(ranked["feasible"] & first.isna())
    ranks = first.rank(method="min").fillna(rest.rank(method="min") + first.count())
    return ranks.astype("Int64")


def standing(ranked: pd.DataFrame, top: int) -> list[str]:
    """The feasible students that the held-out loss leaves standing, for a closer look at them.

    In this order, each group from the lowest loss or rank up, until there are `top`:

    1. the best of each sub-space, since losses of different SuperLMs do not quite compare;
    2. the front of loss and budgeted costs;
    3. the others by their rank within their sub-space, so that all sub-spaces take turns.

    Args:
        ranked: candidates ranked by loss (`rank_candidates` without scores).
        top: how many; 0 for all.

    Returns:
        Ids.
    """
    rows = ranked[ranked["feasible"] & np.isfinite(ranked["loss"])]
    group = np.select([rows["rank_in_sub_space"] == 1, rows["pareto"]], [0, 1], default=2)
    turn = rows["rank_in_sub_space"].where(group == 2, 0).astype(int)
    order = rows.assign(group=group, turn=turn).sort_values(["group", "turn", "loss", "flops"], kind="stable")
    return [str(student_id) for student_id in order.index[: top or None]]


def front_order(ranked: pd.DataFrame) -> pd.DataFrame:
    """The front from the lowest held-out loss (or the highest task score) up, the cheaper of equals first."""
    front = ranked[ranked["pareto"]]
    order = front.assign(badness=badness(front)).sort_values(["badness", "flops"], kind="stable")
    return front.loc[order.index]


def finalists(ranked: pd.DataFrame) -> pd.DataFrame:
    """The refined finalists of the front, best first; empty where none are marked.

    They are ranked by the loss that they are exported with: `refined_loss`, or `loss` where refining did not lower it.
    """
    if "finalist" not in ranked:
        return ranked.iloc[:0]
    chosen = front_order(ranked[ranked["finalist"]])
    order = chosen.assign(exported=chosen[["loss", "refined_loss"]].min(axis=1))
    return chosen.loc[order.sort_values(["exported", "flops"], kind="stable").index]


def ranks_flipped(ranked: pd.DataFrame) -> bool:
    """Whether refining changed the order of the finalists."""
    after = finalists(ranked)
    return list(after.index) != list(front_order(after).index)


def best_id(ranked: pd.DataFrame) -> str:
    """The feasible student of the lowest held-out loss, or of the highest task score (the cheapest of equals).

    Where finalists were refined, the best of these.
    """
    refined = finalists(ranked)
    return str((refined if len(refined) else front_order(ranked)).index[0])


def exported_loss(ranked: pd.DataFrame, student_id: str) -> float:
    """The held-out loss that a student is exported with: refined, where that lowered it."""
    row = ranked.loc[student_id]
    return float(np.nanmin([row["loss"], row.get("refined_loss", np.nan)]))


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
