"""The certificate of a run: what the losses of a search, and whatever else was measured, say about its SuperLMs.

monotonicity      per sub-space, from the search alone
agreement         ranks in the SuperLM against ranks of students trained alone, per sub-space and pooled
interference      loss in the SuperLM less loss alone: what sharing costs a student
one SuperLM       the same students in a single SuperLM over all sub-spaces
proxy             held-out loss against task score
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import pandas as pd

from autodistil.certificate.agreement import Agreement, kendall, rank_agreement
from autodistil.certificate.measured import Measured
from autodistil.certificate.monotonicity import Monotonicity, monotonicity

SCORE = "score"
"""Column of the candidates that holds a task score, where there is one."""


@dataclass(frozen=True)
class Trial:
    """A student that was trained alone as well. Losses are held-out."""

    id: str
    sub_space: str
    in_superlm: float
    alone: float
    start: float | None
    """Before any training."""
    in_one: float | None
    draws: float | None
    """Share of the SuperLM's steps that drew it."""

    @property
    def interference(self) -> float:
        """Loss in the SuperLM less loss alone."""
        return self.in_superlm - self.alone

    @property
    def spoiled_alone(self) -> bool:
        """Training alone left it worse than it began, so its loss alone is a poor thing to compare with."""
        return self.start is not None and self.alone > self.start


@dataclass(frozen=True)
class Interference:
    """What sharing costs the students of a sample."""

    mean: float
    """Mean loss in the SuperLM less loss alone."""
    relative: float | None
    """`mean` over the mean loss alone; None where that is not above zero."""
    worst: float
    worst_id: str


@dataclass(frozen=True)
class SubSpaceFindings:
    """One SuperLM."""

    name: str
    monotonicity: Monotonicity
    agreement: Agreement
    by_flops: Agreement
    """What ranking by FLOPs alone would reach on the same students: the more, the better."""
    untrained: Agreement
    """What ranking by the loss before any training would reach."""
    spoiled_alone: tuple[str, ...]
    """Students that training alone made worse."""
    interference: Interference | None
    """None where no student was trained alone."""
    students_a_step: float | None
    """Students that the SuperLM drew a step."""


@dataclass(frozen=True)
class OneSuperLM:
    """K SuperLMs against a single one over all sub-spaces, by the same students."""

    n: int
    mean_difference: float
    """Mean loss in the one less loss in the K: positive where K are better."""
    in_k: Agreement
    """Of losses in the K SuperLMs with losses alone."""
    in_one: Agreement
    """Of losses in the single SuperLM with losses alone."""
    compute: float | None
    """Student-tokens of the single SuperLM over those of the K."""


@dataclass(frozen=True)
class Certificate:
    """How far the SuperLMs of a run can be trusted."""

    sub_spaces: tuple[SubSpaceFindings, ...]
    """Those with a scored student."""
    trials: tuple[Trial, ...]
    pooled: Agreement
    """Over all sub-spaces."""
    one: OneSuperLM | None
    task: Agreement
    """Held-out loss in the SuperLM against task score, over all students that have both."""
    best: str | None
    """Id of the pick."""
    best_sub_space: str | None
    margin: float | None
    """Loss difference from the pick up to which the ranks of its SuperLM are not to be trusted; None if untested."""
    rivals: int
    """Other feasible students of its sub-space within the margin."""
    tokens: float
    """Tokens that each student trained alone has seen."""
    task_name: str = ""
    """Name of the task of `task`, where known."""
    by_task: bool = False
    """Whether the pick was chosen by the task's score instead of the loss."""

    def of(self, sub_space: str | None) -> SubSpaceFindings | None:
        """The findings on a sub-space."""
        return next((found for found in self.sub_spaces if found.name == sub_space), None)

    def to_dict(self) -> dict[str, Any]:
        """Plain values, without the sentences."""
        return asdict(self)


def assess(candidates: pd.DataFrame, measured: Measured, best: str | None = None) -> Certificate:
    """The certificate of a search.

    Args:
        candidates: one row a student, as `search.pick.rank_candidates` makes them; task scores in a column `score`.
        measured: what else is known.
        best: id of the pick.
    """
    table = _with_measured(candidates, measured)
    losses = dict(zip(table["id"], table["loss"].astype(float), strict=True))
    scores = _scores(candidates)
    trials = _trials(table, measured)
    groups = {str(name): rows for name, rows in table.groupby("sub_space", sort=False) if rows["loss"].notna().any()}
    found = tuple(_findings(name, rows, trials, measured) for name, rows in groups.items())
    sub_space = next((str(row.sub_space) for row in table.itertuples() if row.id == best), None)
    margin = _margin(next((sub.agreement for sub in found if sub.name == sub_space), Agreement(0)))
    return Certificate(
        sub_spaces=found,
        trials=trials,
        pooled=_agreement(trials),
        one=_one(trials, measured, groups),
        task=rank_agreement(losses, {**scores, **measured.task_scores}),
        best=best if sub_space is not None else None,
        best_sub_space=sub_space,
        margin=margin,
        rivals=_rivals(table, best, sub_space, margin),
        tokens=measured.tokens,
        task_name=measured.task,
        by_task=best in scores,
    )


def _with_measured(candidates: pd.DataFrame, measured: Measured) -> pd.DataFrame:
    """The candidates with finite losses only, the search's own or those measured beside it."""
    table = candidates.reset_index(drop=True)
    loss = pd.to_numeric(table["loss"], errors="coerce").astype(float)
    loss = loss.where(loss.map(math.isfinite), table["id"].map(dict(measured.in_superlm)).astype(float))
    return table.assign(loss=loss.where(loss.map(math.isfinite)))


def _scores(candidates: pd.DataFrame) -> dict[str, float]:
    if SCORE not in candidates:
        return {}
    scores = pd.to_numeric(candidates[SCORE], errors="coerce").astype(float)
    return {str(key): value for key, value in zip(candidates["id"], scores, strict=True) if math.isfinite(value)}


def _trials(table: pd.DataFrame, measured: Measured) -> tuple[Trial, ...]:
    """Students with a finite loss both in their SuperLM and alone, in the order of the table."""
    rows = table[table["id"].isin(measured.alone) & table["loss"].notna()]
    trials = (
        Trial(row.id, row.sub_space, row.loss, measured.alone[row.id], *_known(row.id, measured))
        for row in rows[["id", "sub_space", "loss"]].itertuples(index=False)
    )
    return tuple(trial for trial in trials if math.isfinite(trial.alone))


def _known(student_id: str, measured: Measured) -> Iterator[float | None]:
    """Loss at the start and in the one SuperLM and share of draws, None where not known or not finite."""
    for values in (measured.start, measured.in_one, measured.draws):
        value = values.get(student_id, math.nan)
        yield value if math.isfinite(value) else None


def _findings(name: str, rows: pd.DataFrame, trials: Iterable[Trial], measured: Measured) -> SubSpaceFindings:
    own = [trial for trial in trials if trial.sub_space == name]
    flops = rows.set_index("id")["flops"].astype(float)
    alone = {trial.id: trial.alone for trial in own}
    return SubSpaceFindings(
        name,
        monotonicity(rows),
        agreement=_agreement(own),
        by_flops=kendall({trial.id: -flops[trial.id] for trial in own}, alone),
        untrained=kendall({trial.id: trial.start for trial in own if trial.start is not None}, alone),
        spoiled_alone=tuple(trial.id for trial in own if trial.spoiled_alone),
        interference=_interference(own),
        students_a_step=measured.students_a_step.get(name),
    )


def _agreement(trials: Iterable[Trial]) -> Agreement:
    trials = tuple(trials)
    return kendall({trial.id: trial.in_superlm for trial in trials}, {trial.id: trial.alone for trial in trials})


def _interference(trials: list[Trial]) -> Interference | None:
    if not trials:
        return None
    mean = sum(trial.interference for trial in trials) / len(trials)
    alone = sum(trial.alone for trial in trials) / len(trials)
    worst = max(trials, key=lambda trial: (trial.interference, trial.id))
    return Interference(mean, mean / alone if alone > 0 else None, worst.interference, worst.id)


def _margin(agreement: Agreement) -> float | None:
    """Up to where ranks are open: the largest difference seen swapped, at least the smallest that was tested."""
    if agreement.tau is None or agreement.finest is None:
        return None
    return max(agreement.margin, agreement.finest)


def _rivals(table: pd.DataFrame, best: str | None, sub_space: str | None, margin: float | None) -> int:
    """Feasible students of the pick's sub-space, beside itself, whose loss is within the margin of its own."""
    if sub_space is None or margin is None:
        return 0
    is_best = table["id"] == best
    others = table[(table["sub_space"] == sub_space) & table["feasible"].fillna(False).astype(bool) & ~is_best]
    return int((others["loss"] <= table.loc[is_best, "loss"].iloc[0] + margin).sum())


def _one(trials: tuple[Trial, ...], measured: Measured, groups: Mapping[str, pd.DataFrame]) -> OneSuperLM | None:
    both = {trial.id: (trial, trial.in_one) for trial in trials if trial.in_one is not None}
    if not both:
        return None
    alone = {key: trial.alone for key, (trial, _) in both.items()}
    in_k = {key: trial.in_superlm for key, (trial, _) in both.items()}
    in_one = {key: loss for key, (_, loss) in both.items()}
    difference = sum(in_one[key] - in_k[key] for key in both) / len(both)
    shared = sum(measured.students_a_step.get(name, math.nan) for name in groups)
    compute = measured.students_a_step.get("", math.nan) / shared if shared else math.nan
    return OneSuperLM(
        len(both),
        difference,
        kendall(in_k, alone),
        kendall(in_one, alone),
        compute if math.isfinite(compute) else None,
    )
