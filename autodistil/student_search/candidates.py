"""Which student of a search to take: the best, the knee of the front, or one by id.

Students are ranked by their held-out loss, or, where a proxy task scored some of them, those by their score first.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
import pandas as pd

from autodistil.student_search.pareto import pareto_mask
from autodistil.student_search.problem import SearchProblem

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


def exported_loss(ranked: pd.DataFrame, student_id: str) -> float:
    """The held-out loss that a student is exported with: refined, where that lowered it."""
    row = ranked.loc[student_id]
    return float(np.nanmin([row["loss"], row.get("refined_loss", np.nan)]))


TEXTS = "texts"
"""Column of the candidates: the held-out texts that a student was scored on."""


def rank(
    problem: SearchProblem, losses: Mapping[str, float], scores: Mapping[str, float] = MappingProxyType({})
) -> pd.DataFrame:
    """The candidates with losses, task scores if there are any, front and ranks."""
    return rank_candidates(problem.table.assign(feasible=problem.feasible), losses, problem.budget_costs, scores)


def with_texts(ranked: pd.DataFrame, texts: Mapping[str, float]) -> pd.DataFrame:
    """The candidates with the number of held-out texts of each score: where not all, `loss` is an estimate."""
    counts = pd.Series(dict(texts), dtype=float).reindex(ranked.index)
    return ranked.assign(**{TEXTS: counts.astype("Int64")})


@dataclass(frozen=True)
class Refinement:
    """A student that went on training alone."""

    student: str
    steps: int
    """Optimiser steps taken alone."""
    learning_rate: float
    """Their peak."""
    loss_before: float
    """Held-out loss as a slice of its SuperLM."""
    loss_after: float
    """Held-out loss after it; NaN where training diverged."""

    @property
    def settings(self) -> tuple[int, float]:
        """What two refinements must have in common to be compared."""
        return self.steps, self.learning_rate

    @property
    def helped(self) -> bool:
        """Whether the refined weights are the better ones."""
        return self.loss_after < self.loss_before

    def __str__(self) -> str:
        return (
            f"alone for {self.steps} steps at learning rate {self.learning_rate:g}: "
            f"loss {self.loss_before:.4f} -> {self.loss_after:.4f}"
        )


# ---- ranks


def choose_finalists(ranked: pd.DataFrame, count: int) -> list[str]:
    """Ids of the `count` students of the front with the lowest held-out loss, best first, cheaper ones of equals."""
    return [str(student_id) for student_id in front_order(ranked).index[:count]]


def with_refinements(ranked: pd.DataFrame, known: Mapping[str, Refinement], count: int) -> pd.DataFrame:
    """Add `refined_loss` (NaN where never refined) and `finalist` to ranked candidates.

    Args:
        ranked: see `student_search.pick.rank_candidates`.
        known: results by student id.
        count: finalists that the search re-ranks. They are marked only where all of them were refined alike:
            otherwise their losses do not compare.
    """
    result = ranked.copy()
    losses = {student_id: refinement.loss_after for student_id, refinement in known.items()}
    result["refined_loss"] = pd.Series(losses, dtype=float).reindex(result.index)
    chosen = choose_finalists(ranked, count)
    result["finalist"] = result.index.isin(chosen if _comparable(chosen, known) else [])
    return result


def _comparable(chosen: Iterable[str], known: Mapping[str, Refinement]) -> bool:
    settings = [known[student_id].settings if student_id in known else None for student_id in chosen]
    return None not in settings and len(set(settings)) == 1


def rank_notes(ranked: pd.DataFrame) -> list[str]:
    """What re-ranking the finalists did, in words; nothing where there are none."""
    after = finalists(ranked)
    if not len(after):
        return []
    losses = "; ".join(f"{row['id']} {row['loss']:.4f} -> {row['refined_loss']:.4f}" for _, row in after.iterrows())
    verdict = "and their ranks flipped" if ranks_flipped(ranked) else "which left their ranks as they were"
    return [f"The {len(after)} best students of the front were refined alone, {verdict}; now, best first: {losses}."]
