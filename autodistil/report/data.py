"""What a report shows: the students of a search with their costs and losses, and what they were held to."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import pandas as pd

from autodistil.certificate import Certificate
from autodistil.profiling.costing import DeviceCost


@dataclass(frozen=True)
class BudgetLine:
    """A budget: students that cost more than `limit` are out."""

    text: str
    """As typed."""
    cost: str
    """Column of the candidates: `flops`, `params`, `size_mb`, or one of a device such as `ms@laptop`."""
    limit: float
    """Multiply-adds, parameters, MB of 1e6 bytes, or milliseconds."""


@dataclass(frozen=True)
class ReportData:
    """Everything that a report shows. Names may hold anything: they are shown as text."""

    title: str
    candidates: pd.DataFrame
    """One row a student; the columns are those of `search.pick.rank_candidates`."""
    training: pd.DataFrame
    """One row a step of a SuperLM: `sub_space`, `step`, `loss`, `largest_loss`, `smallest_loss`; may be empty."""
    budgets: tuple[BudgetLine, ...]
    best: str | None
    """Id of the best student."""
    knee: str | None
    """Id of the student at the knee of the front."""
    teacher_costs: Mapping[str, float]
    """`flops`, `params` and `size_mb` of the teacher, as far as known."""
    seq_len: int
    """Length at which FLOPs are counted."""
    objective: str
    provenance: Mapping[str, str]
    notes: tuple[str, ...]
    export_command: str
    certificate: Certificate | None = None
    """How far to trust the search; what the candidates alone say where None."""
    devices: tuple[DeviceCost, ...] = ()
    """What students take on the devices of budgets; their columns are among those of the candidates."""
    score_name: str | None = None
    """What the candidates' `score` is, where a proxy task ranks them, such as `stsb spearman`."""
