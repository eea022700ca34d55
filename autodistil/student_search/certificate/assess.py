"""The certificate of a run: what the losses of a search, and whatever else was measured, say about its SuperLMs.

agreement         ranks in the SuperLM against ranks of students trained alone, per sub-space and pooled
monotonicity      per sub-space, from the search alone: where one student contains another, is the larger as good
interference      loss in the SuperLM less loss alone: what sharing costs a student
one SuperLM       the same students in a single SuperLM over all sub-spaces
proxy             held-out loss against task score

Agreement is Kendall's tau-b, (concordant - discordant pairs) / all pairs with a correction for ties (Kendall 1945): 1
is the same order, 0 no relation, -1 the reverse. Samples are small, so n and the p-value (exact where there are no
ties) always go with it, and how far apart the students are that it swaps.

Trained alone, a student that is at least as deep, wide and so on in every dimension can only gain. A SuperLM in which
the larger one is often worse has spoiled its large students by sharing (the sandwich rule of Yu & Huang 2019 is there
to prevent that), and its ranks mean little.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import combinations
from operator import attrgetter
from typing import Any

import numpy as np
import pandas as pd
from scipy.stats import kendalltau

from autodistil.costs.closed_form import LAYERS
from autodistil.space.axes.window import WINDOWS
from autodistil.space.space import by_size
from autodistil.space.student import DIMENSIONS, LayerSizes, StudentConfig, read_layers
from autodistil.student_search.candidates import CandidateTable
from autodistil.student_search.certificate.measured import CertificateLosses

_BLOCK_PAIRS = 1 << 22
"""Nested pairs compared at a time: some tens of megabytes."""

# ---- agreement


@dataclass(frozen=True)
class RankAgreement:
    """Agreement of two rankings of the same students."""

    n: int
    """Students that both rank."""
    tau: float | None = None
    """Kendall's tau-b; None where an order has fewer than two different values."""
    p_value: float | None = None
    """Chance of a tau at least as far from 0 if the orders were unrelated."""
    swapped: int = 0
    """Discordant pairs."""
    margin: float = 0.0
    """Largest difference of a discordant pair in the first value: smaller ones have been seen to mislead."""
    finest: float | None = None
    """Smallest difference of any pair, in the first value: nothing finer was tested."""


def kendall(ours: Mapping[str, float], theirs: Mapping[str, float]) -> RankAgreement:
    """Agreement over the students that have a finite value in both."""
    pairs = [
        (value, theirs[key])
        for key, value in sorted(ours.items())
        if key in theirs and np.isfinite([value, theirs[key]]).all()
    ]
    if len(pairs) < 2:
        return RankAgreement(len(pairs))
    result = kendalltau(*zip(*pairs, strict=True))
    gaps = [(abs(a[0] - b[0]), (a[0] - b[0]) * (a[1] - b[1]) < 0) for a, b in combinations(pairs, 2)]
    swapped = [gap for gap, discordant in gaps if discordant]
    tau, p_value = (float(x) if math.isfinite(x) else None for x in (result.statistic, result.pvalue))
    return RankAgreement(len(pairs), tau, p_value, len(swapped), max(swapped, default=0.0), min(gap for gap, _ in gaps))


def rank_agreement(losses: Mapping[str, float], scores: Mapping[str, float]) -> RankAgreement:
    """Agreement of a proxy with a task: 1 where the student of lower loss always has the higher score.

    Args:
        losses: student id -> held-out loss, lower is better.
        scores: student id -> task score, higher is better.
    """
    return kendall(losses, {key: -score for key, score in scores.items()})


# ---- monotonicity


@dataclass(frozen=True)
class Violation:
    """A larger student that is worse than one it contains."""

    larger: str
    smaller: str
    excess: float
    """Loss of the larger less that of the smaller one."""


@dataclass(frozen=True)
class Monotonicity:
    """Order of the losses within one sub-space."""

    scored: int
    """Students with a finite loss."""
    pairs: int
    """Pairs of scored students where one contains the other."""
    ordered: int
    """Pairs in which the larger has the lower or an equal loss."""
    spread: float
    """Highest less lowest loss."""
    best: str | None
    """Scored student of the lowest loss (the larger of equals)."""
    largest: str
    """The largest student of the sub-space, scored or not."""
    largest_excess: float | None
    """Loss of the largest student less the lowest one; None where it was not scored."""
    worst: Violation | None

    @property
    def share(self) -> float | None:
        """Share of pairs in order; None where there are no pairs."""
        return self.ordered / self.pairs if self.pairs else None


def monotonicity(table: pd.DataFrame) -> Monotonicity:
    """The monotonicity of one sub-space.

    Args:
        table: all of its students, with `id`, `loss` (NaN where not scored) and a column for each of
            `student.DIMENSIONS`; at least one row.
    """
    losses = table["loss"].to_numpy(dtype=float, na_value=np.nan)
    configs = _configs(table)
    largest = str(table["id"].iloc[configs.index(by_size(configs)[-1])])
    scored = table[np.isfinite(losses)]
    values, ids = losses[np.isfinite(losses)], scored["id"].astype(str).to_numpy()
    pairs, ordered = 0, 0
    violations: list[tuple[float, str, str]] = []
    sizes = np.array([_sizes(config) for config in configs], dtype=np.int64)
    for larger, smaller in _nested_pairs(sizes[np.isfinite(losses)]):
        excess = values[larger] - values[smaller]
        pairs += len(excess)
        ordered += int((excess <= 0).sum())
        for pair in np.flatnonzero((excess > 0) & (excess == excess.max(initial=0.0))):
            violations.append((-float(excess[pair]), ids[larger[pair]], ids[smaller[pair]]))
    first = min(violations, default=None)  # of equals the first by name, whatever the order of the students
    worst = Violation(first[1], first[2], -first[0]) if first else None
    order = scored.sort_values(["loss", *DIMENSIONS], ascending=[True] + [False] * len(DIMENSIONS), kind="stable")
    best = str(order["id"].iloc[0]) if len(order) else None
    excess_of = dict(zip(ids, values - values.min(initial=np.inf), strict=True))
    largest_excess = float(excess_of[largest]) if largest in excess_of else None
    spread = float(np.ptp(values)) if len(values) else 0.0
    return Monotonicity(len(scored), pairs, ordered, spread, best, largest, largest_excess, worst)


def _configs(table: pd.DataFrame) -> list[StudentConfig]:
    """The students of a table of candidates."""
    sizes = [*DIMENSIONS, *(axis for axis in WINDOWS if axis in table)]
    rows = table[sizes].fillna(0).astype(int).to_dict("records")
    dimensions: list[dict[str, Any]] = [{name: size or None for name, size in row.items()} for row in rows]
    layers = table[LAYERS].fillna("") if LAYERS in table else [""] * len(table)
    return [StudentConfig(**row, layers=read_layers(own)) for row, own in zip(dimensions, layers, strict=True)]


def _sizes(student: StudentConfig) -> list[int]:
    """What a student that contains another has no less of, one by one."""
    layers = student.layers or (LayerSizes(student.num_heads, student.intermediate_size),)
    counted = [] if student.layers else [student.num_layers]
    window = [student.window or 0, student.global_every or 0]  # the same in both, or they are no part of each other
    counted += [*window, *(-tokens for tokens in window)]
    return [*counted, student.hidden_size, student.head_size, *(size for layer in layers for size in layer)]


def _nested_pairs(dims: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Index pairs (larger, smaller) of students where one contains the other, some rows at a time.

    Args:
        dims: (students, dimensions).
    """
    step = max(1, _BLOCK_PAIRS // max(1, len(dims)))
    for start in range(0, len(dims), step):
        block = dims[start : start + step, None]
        larger, smaller = np.nonzero((block >= dims).all(-1) & (block > dims).any(-1))
        yield larger + start, smaller


# ---- certificate


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
    agreement: RankAgreement
    by_flops: RankAgreement
    """What ranking by FLOPs alone would reach on the same students: the more, the better."""
    untrained: RankAgreement
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
    in_k: RankAgreement
    """Agreement of losses in the K SuperLMs with losses alone."""
    in_one: RankAgreement
    """Agreement of losses in the single SuperLM with losses alone."""
    compute: float | None
    """Student-tokens of the single SuperLM over those of the K."""


@dataclass(frozen=True)
class Certificate:
    """How far the SuperLMs of a run can be trusted."""

    sub_spaces: tuple[SubSpaceFindings, ...]
    """Those with a scored student."""
    trials: tuple[Trial, ...]
    pooled: RankAgreement
    """Agreement of losses in the SuperLM with losses alone, over all sub-spaces."""
    one: OneSuperLM | None
    task: RankAgreement
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


def assess(candidates: CandidateTable, measured: CertificateLosses, best: str | None = None) -> Certificate:
    """The certificate of a search.

    Args:
        candidates: the search's students.
        measured: what else is known.
        best: id of the pick.
    """
    table = candidates.frame.reset_index(drop=True)
    beside = table["id"].map(dict(measured.in_superlm)).astype(float)
    loss = table["loss"].where(np.isfinite(table["loss"]), beside)
    table = table.assign(loss=loss.where(np.isfinite(loss)))
    losses = dict(zip(table["id"], table["loss"], strict=True))
    scores = {student_id: score for student_id, score in candidates.known("score").items() if math.isfinite(score)}
    trials = _trials(table, measured)
    groups = {str(name): rows for name, rows in table.groupby("sub_space", sort=False) if rows["loss"].notna().any()}
    found = tuple(_findings(name, rows, trials, measured) for name, rows in groups.items())
    pick = candidates.get(best)
    sub_space = pick.sub_space if pick else None
    ranks = next((sub.agreement for sub in found if sub.name == sub_space), RankAgreement(0))
    tested = ranks.tau is not None and ranks.finest is not None
    margin = max(ranks.margin, ranks.finest or 0.0) if tested else None
    others = table[(table["sub_space"] == sub_space) & table["feasible"] & (table["id"] != best)]
    rivals = int((others["loss"] <= losses[best] + margin).sum()) if pick and margin is not None else 0
    return Certificate(
        sub_spaces=found,
        trials=trials,
        pooled=_against_alone(trials, lambda trial: trial.in_superlm),
        one=_one(trials, measured, groups),
        task=rank_agreement(losses, {**scores, **measured.task_scores}),
        best=best if pick else None,
        best_sub_space=sub_space,
        margin=margin,
        rivals=rivals,
        tokens=measured.tokens,
        task_name=measured.task,
        by_task=best in scores,
    )


def _trials(table: pd.DataFrame, measured: CertificateLosses) -> tuple[Trial, ...]:
    """Students with a finite loss both in their SuperLM and alone, in the order of the table."""
    alone, start, one, draws = (
        {student_id: value for student_id, value in values.items() if math.isfinite(value)}
        for values in (measured.alone, measured.start, measured.in_one, measured.draws)
    )
    rows = table.loc[table["id"].isin(alone) & table["loss"].notna(), ["id", "sub_space", "loss"]]
    return tuple(
        Trial(key, sub_space, loss, alone[key], start.get(key), one.get(key), draws.get(key))
        for key, sub_space, loss in rows.itertuples(index=False)
    )


def _findings(name: str, rows: pd.DataFrame, trials: Iterable[Trial], measured: CertificateLosses) -> SubSpaceFindings:
    own = [trial for trial in trials if trial.sub_space == name]
    flops = rows.set_index("id")["flops"].astype(float)
    return SubSpaceFindings(
        name,
        monotonicity(rows),
        agreement=_against_alone(own, lambda trial: trial.in_superlm),
        by_flops=_against_alone(own, lambda trial: -flops[trial.id]),
        untrained=_against_alone(own, lambda trial: trial.start),
        spoiled_alone=tuple(trial.id for trial in own if trial.spoiled_alone),
        interference=_interference(own),
        students_a_step=measured.students_a_step.get(name),
    )


def _against_alone(trials: Sequence[Trial], value: Callable[[Trial], float | None]) -> RankAgreement:
    """Agreement of a value of students, where they have it, with their losses alone."""
    known = {trial.id: found for trial in trials if (found := value(trial)) is not None}
    return kendall(known, {trial.id: trial.alone for trial in trials})


def _interference(trials: list[Trial]) -> Interference | None:
    if not trials:
        return None
    mean = sum(trial.interference for trial in trials) / len(trials)
    alone = sum(trial.alone for trial in trials) / len(trials)
    worst = max(trials, key=lambda trial: (trial.interference, trial.id))
    return Interference(mean, mean / alone if alone > 0 else None, worst.interference, worst.id)


def _one(trials: Iterable[Trial], measured: CertificateLosses, groups: Mapping[str, pd.DataFrame]) -> OneSuperLM | None:
    both = [trial for trial in trials if trial.in_one is not None]
    if not both:
        return None
    difference = sum(trial.in_one - trial.in_superlm for trial in both if trial.in_one is not None) / len(both)
    in_k, in_one = (_against_alone(both, attrgetter(name)) for name in ("in_superlm", "in_one"))
    shared = sum(measured.students_a_step.get(name, math.nan) for name in groups)
    compute = measured.students_a_step.get("", math.nan) / shared if shared else math.nan
    of_all = compute if math.isfinite(compute) else None
    return OneSuperLM(len(both), difference, in_k, in_one, of_all)
