"""The inverse goal: the cheapest student that keeps a share of the teacher's score, found as a budget of FLOPs.

The score is that of the proxy task, where there is one, else the agreement of embeddings (RSA; the teacher's own is 1).
Students are looked at from the cheapest up, those of which no cheaper one is ranked higher. Where a search refines its
pick, those in question are refined as well: first the cheapest that keeps enough as a slice, then between one that
keeps too little and one that keeps enough, where the share would be met if it went with the logarithm of FLOPs.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from functools import cache
from typing import Any

from autodistil.errors import BudgetError, RunError, one_line
from autodistil.evaluation.agreement import Rsa
from autodistil.evaluation.proxy_task import ProxyTask
from autodistil.evaluation.standard_error import standard_errors
from autodistil.run.folder import RunFolder
from autodistil.run.run import Run
from autodistil.stages.agreeing import Similarity
from autodistil.stages.exporting import exported_weights
from autodistil.stages.ranking_by_task import score_of_teacher
from autodistil.stages.refining import refine_students
from autodistil.student_search.candidates import BY_SCORE, CandidateTable
from autodistil.student_search.problem import SearchProblem

KEEP = "keep"
"""Key of what `run.yaml` says about the share that the last search was asked to keep."""
MOST_REFINED = 4
"""Students refined on the way at most."""
_STEP = 1e4
"""FLOPs to which the budget is rounded up."""


@dataclass(frozen=True)
class Kept:
    """The cheapest student that was found to keep a share of the teacher's score."""

    asked: float
    """The share that was asked for, in (0, 1)."""
    student: str
    share: float
    """What it keeps, with the weights that it is exported with."""
    error: float | None
    """Standard error of `share`, where it is known: the texts or rows are a sample."""
    measure: str
    """What the share is of, in words."""
    cheaper: Mapping[str, float]
    """Cheaper students that were looked at in the same way and keep less, with their shares."""

    @property
    def words(self) -> str:
        """In a sentence or two."""
        exact = "" if self.error is None else f" ± {100 * self.error:.1f}"
        less = "".join(f"; {student}, cheaper, {100 * share:.1f} %" for student, share in self.cheaper.items())
        close = self.error is not None and self.share - self.error < self.asked
        return (
            f"{self.student} keeps {100 * self.share:.1f}{exact} % of the teacher's {self.measure}, "
            f"{100 * self.asked:g} % was asked for{less}.{' Within its error it may also be below.' if close else ''}"
        )


def read_share(text: str | float) -> float:
    """Read a share such as `85%` or 0.85.

    Raises:
        BudgetError: it is none between 0 and 1.
    """
    typed = re.fullmatch(r"\s*([0-9]*\.?[0-9]+)\s*(%?)\s*", str(text), re.ASCII)
    value = math.nan if typed is None else float(typed[1]) / (100 if typed[2] else 1)
    if not 0 < value < 1:
        hint = f" (did you mean {value:g}%?)" if typed and not typed[2] and 1 < value < 100 else ""
        raise BudgetError(
            f"keep: got {str(text)[:40]!r}{hint}; allowed: a share of the teacher's score above 0 and below 100 %, "
            "such as 85% or 0.85; correct it"
        )
    return value


def check_measurable(run: Run, task: ProxyTask | None) -> None:
    """Refuse to look for a share of what nobody measures.

    Raises:
        BudgetError: there are neither embeddings to compare nor a task.
    """
    if task is None and Similarity(run).texts < 3:
        raise BudgetError(
            f"keep: {run.inputs.teacher_name} gives no embeddings whose agreement could be measured; name a labelled "
            "task of which the share is to be kept: --proxy TASK"
        )


def cheapest_keeping(
    run: Run, problem: SearchProblem, table: CandidateTable, asked: float, task: ProxyTask | None, resume: bool
) -> tuple[str, Kept]:
    """The cheapest student that keeps a share of the teacher's score.

    Args:
        run: its SuperLMs are trained.
        problem: the students.
        table: the students ranked.
        asked: the share, in (0, 1).
        task: the proxy task that ranked them; None: they are ranked by loss.
        resume: go on with an interrupted refinement.

    Returns:
        The budget under which it is the best student, such as `474.01MFLOPs`, and what it keeps.

    Raises:
        BudgetError: none keeps so much; names the one that keeps most.
    """
    ranked = table.within_budgets.staircase("flops")
    similarity = Similarity(run)

    @cache
    def as_slice(student: str) -> Rsa:
        candidate = problem.candidates[student]
        return similarity.of(run.superlms.of(candidate), candidate.config)

    if task is not None:
        found, measure = _shares_of_score(run, ranked, task), f"{task.data.task.name} score as a slice of its SuperLM"
    else:
        refined = _refined(run, problem, table, similarity, resume) if run.config.num_finalists else None
        found = _looked_at(ranked.known("flops"), as_slice, refined, asked)
        measure = f"agreement of embeddings (RSA, {similarity.texts} held-out {run.inputs.samples})"
    holding = [student for student in ranked.ids if student in found and found[student].value >= asked]
    if not holding:
        raise BudgetError(_refusal(run, table, found, asked, measure))
    best, flops = holding[0], ranked[holding[0]].costs["flops"]
    value, error = found[best]
    less = {one: found[one].value for one in found if one != best and ranked[one].costs["flops"] < flops}
    kept = Kept(asked, best, value, None if math.isnan(error) else error, measure, less)
    return f"{(math.floor(flops / _STEP) + 1) * _STEP / 1e6:.2f}MFLOPs", kept


def _looked_at(
    ladder: Mapping[str, float], as_slice: Callable[[str], Rsa], refined: Callable[[str], Rsa] | None, asked: float
) -> dict[str, Rsa]:
    """What students keep, of those that had to be looked at: as slices, or refined where `refined` does that.

    Args:
        ladder: FLOPs by id, cheapest first, each ranked higher than all before it.
        as_slice: what a student keeps as a slice of its SuperLM.
        refined: refines a student; what it keeps then.
        asked: the share to keep.
    """
    ids = list(ladder)
    enough = next((rung for rung, one in enumerate(ids) if as_slice(one).value >= asked), len(ids) - 1)
    if refined is None:
        return {one: as_slice(one) for one in ids[: enough + 1]}
    found = {ids[enough]: refined(ids[enough])}
    while len(found) < MOST_REFINED:
        high = min((r for r, one in enumerate(ids) if one in found and found[one].value >= asked), default=len(ids))
        low = max((r for r, one in enumerate(ids[:high]) if one in found), default=-1)
        if high - low < 2:
            break
        rung = _between(
            list(ladder.values()), [found[one].value if one in found else None for one in ids], low, high, asked
        )
        found[ids[rung]] = refined(ids[rung])
    return found


def _between(flops: list[float], shares: list[float | None], low: int, high: int, asked: float) -> int:
    """The rung to look at: where the share would be the one asked for, if it went with the logarithm of FLOPs.

    Args:
        flops: of the rungs, cheapest first.
        shares: what they keep, as far as looked at.
        low: the costliest rung below `high` that keeps too little; -1: none is known.
        high: the cheapest that keeps enough; the number of rungs: none is known.
        asked: the share to keep.
    """
    if high == len(flops):
        return high - 1
    above, below = shares[high], shares[low] if low >= 0 else None
    part = 0.5 if above is None or below is None else (asked - below) / max(above - below, 1e-9)
    first = flops[low] if low >= 0 else min(flops[0], flops[high] / 4)
    wanted = first * (flops[high] / first) ** part
    return next((rung for rung in range(low + 1, high) if flops[rung] >= wanted), high - 1)


def _refined(
    run: Run, problem: SearchProblem, table: CandidateTable, similarity: Similarity, resume: bool
) -> Callable[[str], Rsa]:
    """Refines a student, unless that was done before; what it keeps with the weights that it is exported with."""

    def refined(student: str) -> Rsa:
        candidate = problem.candidates[student]
        refine_students(run, [candidate], table, resume, alike=run.config.refine_top is not None)
        found = similarity.of(exported_weights(run.folder, run.superlms, candidate).superlm, candidate.config)
        run.progress.say(f"{student} keeps {found.value:.1%} refined alone")
        return found

    return refined


def _shares_of_score(run: Run, ranked: CandidateTable, task: ProxyTask) -> dict[str, Rsa]:
    """Scores as shares of the teacher's, with their standard errors."""
    metric, rows, theirs = task.data.task.headline, len(task.data.evaluated), score_of_teacher(run, task)
    scores = ranked.known("score")
    errors = {one: standard_errors({metric: (score,)}, rows).get(metric, math.nan) for one, score in scores.items()}
    return {one: Rsa(score / theirs, errors[one] / theirs) for one, score in scores.items()}


def _refusal(run: Run, table: CandidateTable, found: Mapping[str, Rsa], asked: float, measure: str) -> str:
    nearest = max(found, key=lambda one: found[one].value)
    strict = "" if table.ranking == BY_SCORE else " Agreement is stricter than scores of tasks are (--proxy TASK)."
    steps = run.folder.resolved()["train_steps"]
    return (
        f"no student keeps {100 * asked:g} % of the teacher's {measure}; the nearest is {nearest} "
        f"({table[nearest].costs['flops'] / 1e6:,.1f} MFLOPs), {100 * found[nearest].value:.1f} %. All is kept in "
        f"{str(run.folder.path)!r}: ask for less there, or train longer than {steps} steps in a run of its own.{strict}"
    )


def read_kept(folder: RunFolder) -> Kept | None:
    """What the last search was asked to keep, and found; None where it was asked for no share.

    Raises:
        RunError: the record is damaged.
    """
    record: dict[str, Any] | None = folder.resolved().get(KEEP)
    try:
        return None if record is None else Kept(**record)
    except TypeError as error:
        raise RunError(
            f"{str(folder.record_path)!r} is damaged (resolved {KEEP!r}: {one_line(error, 100)}); search again"
        ) from error


def write_kept(run: Run, kept: Kept | None) -> None:
    """Record it in `run.yaml`; None: the last search was asked for no share."""
    if kept is not None or run.folder.resolved().get(KEEP):
        run.inputs.write_record(**{KEEP: None if kept is None else asdict(kept)})
