"""Budgets of devices hold in the end: finalists are extracted, exported and measured, and the search goes on until.

A model only prunes, and only students that break a budget even at the lower end of their interval. Of the ranked
students the best ones are measured as they are exported; where one breaks a budget it is out, its measurement corrects
the model, and students are ranked again under the corrected costs. That ends when the best, the knee and those that are
to be refined are measured and within budget, or after too many rounds. In the end students that were not measured are
held to their prediction.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial

import pandas as pd

from autodistil.costs.units import cost_of
from autodistil.errors import BudgetError
from autodistil.profiling.device_costs import DeviceCost
from autodistil.profiling.latency_table import LatencyTable
from autodistil.profiling.profile import StudentSource
from autodistil.run.folder import FINALISTS, TEACHER
from autodistil.run.inputs import RunInputs
from autodistil.run.run import Run
from autodistil.run.superlms import SuperLMs
from autodistil.stages.costing import (
    Measure,
    add_measured,
    by_setting,
    search_problem,
    source_of,
    source_of_teacher,
    targets_of,
)
from autodistil.student_search.candidates import CandidateTable
from autodistil.student_search.pick import best_id, knee_id
from autodistil.student_search.problem import SearchProblem
from autodistil.utils import Progress

ROUNDS = 8
"""Most times that finalists are measured."""
AT_ONCE = 3
"""Finalists measured in a round, at least: the stopwatch takes turns among them, and one more costs a second."""

AGAIN = 2
"""Times that a student is measured again which only a busy machine may have put over a budget."""

Rank = Callable[[SearchProblem], CandidateTable]
"""Students as ranked under a problem's costs; what is scored stays scored."""


def hold_budgets(
    run: Run, problem: SearchProblem, rank: Rank, measure: Measure
) -> tuple[SearchProblem, CandidateTable]:
    """Rank, measure the finalists, correct, and rank again until the measured best holds.

    Returns:
        The problem with all measurements, and the candidates ranked under it.

    Raises:
        BudgetError: no measured student holds.
    """
    table = rank(problem.possible)
    problem = problem.including(table.ids)
    wanted = max(1, run.config.num_finalists)
    for _ in range(ROUNDS if _measurable(problem) else 0):
        chosen = _in_question(wanted, problem, table)
        if not chosen:
            break
        _measure(run.inputs, run.superlms, problem, chosen, measure)
        problem = search_problem(run.inputs, run.config.budgets)
        table = _ranked_again(problem, table, rank)
        problem = problem.including(table.ids)
    return _measured_only(run.progress, problem, table.under(problem), wanted)


def _ranked_again(problem: SearchProblem, table: CandidateTable, rank: Rank) -> CandidateTable:
    """The students under corrected costs: all there are or, where nobody lists them, those that were found.

    A search for others would end with students that nobody measured, round after round.
    """
    found = None if problem.space.is_listed else table.under(problem.possible)
    return rank(problem.possible) if found is None or not len(found.front) else found


def _measurable(problem: SearchProblem) -> list[DeviceCost]:
    """The device costs that this machine can measure."""
    return [cost for cost in problem.device_costs.values() if cost.measurable]


def _in_question(wanted: int, problem: SearchProblem, table: CandidateTable) -> list[str]:
    """Ids to measure: the unmeasured among the first of the front and the knee; none once those that count are."""
    unmeasured = problem.unmeasured
    for ranked in (table, table.under(problem)):  # those who may hold, then those who count in the end
        order, knee = ranked.front.best_first.ids, knee_id(ranked)
        beside = [*ranked.finalist_ids(wanted), *([] if knee is None else [knee])]
        if unmeasured.intersection([best_id(ranked), *beside, *order[:wanted]]):
            finalists = dict.fromkeys([*order[: max(wanted, AT_ONCE)], *beside])
            return [student_id for student_id in finalists if student_id in unmeasured]
    return []


def _measure(
    inputs: RunInputs, superlms: SuperLMs, problem: SearchProblem, chosen: Sequence[str], measure: Measure
) -> None:
    """Extract, export and measure finalists in every setting that a budget asks for, and keep it.

    In turns with the teacher, so that a finalist's share of its time is that of one moment.
    """
    teacher = inputs.teacher
    candidates = {problem.candidates[student_id].config: problem.candidates[student_id] for student_id in chosen}
    sources = [source_of(teacher, superlms.of(one), one) for one in candidates.values()]
    beside = teacher.dims not in candidates
    if beside:
        sources.append(source_of_teacher(teacher))
    budgets = [cost.budget for cost in _measurable(problem)]
    targets = targets_of(teacher, inputs.config, budgets)
    inputs.progress.say(f"measuring finalists: {', '.join(chosen)}")
    for target, memory in by_setting(targets):
        limits = [other.budget.limit for other in targets if other.key == target.key and other.budget.cost == "ms"]
        again = partial(measure, setting=target.setting, memory=memory)
        table = undisturbed(again, sources, min(limits, default=math.inf))
        of_teacher = tuple(entry for entry in table.entries if entry.student == teacher.dims)
        others = tuple(entry for entry in table.entries if not beside or entry.student != teacher.dims)
        for part, entries in ((FINALISTS, others), (TEACHER, of_teacher)):
            add_measured(inputs.folder, target, part, replace(table, entries=entries))


def undisturbed(
    measure: Callable[[Sequence[StudentSource]], LatencyTable], sources: Sequence[StudentSource], limit: float
) -> LatencyTable:
    """Measure, and measure those again that a busy machine alone may have put over the limit; the faster figure counts.

    Neighbours only ever make a student slower.

    Args:
        measure: the stopwatch.
        sources: students.
        limit: the tightest budget, in ms.
    """
    table = measure(sources)
    for _ in range(AGAIN):
        doubtful = {entry.student for entry in table.entries if entry.busy and entry.low_ms <= limit < entry.high_ms}
        if not doubtful:
            break
        again = measure([source for source in sources if source.config in doubtful])
        second = {entry.student: entry for entry in again.entries}
        entries = (min(entry, second.get(entry.student, entry), key=lambda one: one.high_ms) for entry in table.entries)
        table = replace(table, entries=tuple(entries))
    return table


def _measured_only(
    progress: Progress, problem: SearchProblem, table: CandidateTable, wanted: int
) -> tuple[SearchProblem, CandidateTable]:
    """After the last round: if the best, or what is to be refined, is still not measured, those that are and hold."""
    if len(table.front) and not problem.unmeasured.intersection([best_id(table), *table.finalist_ids(wanted)]):
        return problem, table
    held = problem.measured_only()
    if held is problem:
        over = problem.excess.drop(index=list(problem.unmeasured), errors="ignore").max(axis=1)
        raise BudgetError(
            f"none of {len(over)} measured students holds {' and '.join(problem.excess.columns)}; the nearest is "
            f"{over.idxmin()}, {100 * over.min():.1f} % over; raise the budget, or search with --resume while the "
            "machine does nothing else"
        )
    progress.say(f"measured {ROUNDS} rounds of finalists; only measured students are left in")
    return held, table.under(held)


def device_notes(problem: SearchProblem, student_id: str) -> list[str]:
    """What a student takes on each device, measured or not, and how well the model predicted the finalists."""
    return [_note(cost, student_id) for cost in problem.device_costs.values()]


def _note(cost: DeviceCost, student_id: str) -> str:
    row, unit, budget = cost.table.loc[student_id], cost_of(cost.budget.cost).unit, cost.budget
    predicted = f"{row['predicted']:.3g} {unit} ({row['low']:.3g} to {row['high']:.3g})"
    if pd.isna(row["measured"]):
        return (
            f"{budget.text}: {student_id} is predicted to take {predicted} and was not measured there, so the budget "
            "is not yet met; profile it on that device and search again with its table"
        )
    verdict = "met" if row["measured"] <= budget.limit else "broken"
    found = cost.on_finalists
    error = f"; finalists were predicted with {found}" if found is not None and found.n > 1 else ""
    return (
        f"{budget.text}: {verdict}, {student_id} measured at {row['measured']:.3g} {unit}, predicted {predicted}{error}"
    )
