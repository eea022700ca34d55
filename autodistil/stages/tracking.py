"""What an experiment tracker is told of a run: its beginning and end, and what a search found."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import pandas as pd

from autodistil.run.run import Run
from autodistil.run.tracking import Found, GuardedTracker, check_tracker
from autodistil.student_search.candidates import CandidateRow, CandidateTable
from autodistil.student_search.pick import best_id, knee_id

_FIGURES = ("loss", "refined_loss", "score", "flops", "params", "size_mb")
"""Columns of the candidates that a pick is told with, where they are there."""


@contextmanager
def tracked(run: Run) -> Iterator[None]:
    """While the stages of a run work: the tracker's run ends with them, well or not.

    Raises:
        ConfigError: the tracker's library is missing; nothing was done.
    """
    check_tracker(run.config.track)
    finished = False
    try:
        yield
        finished = True
    finally:
        run.tracker.close(finished)


def track_found(tracker: GuardedTracker, budgets: Sequence[str], table: CandidateTable) -> None:
    """Tell the tracker the front and the picks."""
    picks = {"best": best_id(table), "knee": knee_id(table)}
    front = table.front.cheapest_first.frame
    columns = ["id", *(name for name in _FIGURES if name in front)]
    found = Found(
        budgets=" and ".join(budgets),
        picks={pick: _figures(table[student_id]) for pick, student_id in picks.items()},
        names=picks,
        front={name: [_plain(value) for value in front[name]] for name in columns},
    )
    tracker.log_found(found)


def _figures(row: CandidateRow) -> dict[str, float]:
    known = {**row.costs, "loss": row.loss, "refined_loss": row.refined_loss, "score": row.score}
    found = {name: known.get(name) for name in _FIGURES}
    return {name: float(value) for name, value in found.items() if value is not None and math.isfinite(value)}


def _plain(value: Any) -> Any:
    if isinstance(value, str):
        return value
    return None if pd.isna(value) else float(value)
