"""What there is to say about a search, as rows and sentences: students, budgets, the result, sub-spaces, training.

Nothing here knows how it is drawn.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from autodistil.costs.budget import Budget
from autodistil.costs.speed import Milliseconds, Speed
from autodistil.costs.units import COSTS, beside_shown, cost_of, is_of_device, share
from autodistil.evaluation.agreement import Agreement
from autodistil.evaluation.results import TaskResult
from autodistil.profiling.device_costs import DeviceCost
from autodistil.student_search.candidates import CandidateTable
from autodistil.student_search.certificate.assess import Certificate
from autodistil.student_search.pick import half_id, near_id
from autodistil.student_search.teacher_row import TeacherRow


@dataclass(frozen=True)
class ReportData:
    """Everything that a report shows. Names may hold anything: they are shown as text."""

    title: str
    table: CandidateTable
    training: pd.DataFrame
    """One row a step of a SuperLM: `sub_space`, `step`, `loss`, `largest_loss`, `smallest_loss`; may be empty."""
    budgets: tuple[Budget, ...]
    best: str | None
    """Id of the best student."""
    knee: str | None
    """Id of the student at the knee of the front, where it has one."""
    teacher: TeacherRow
    """The teacher, with its costs as far as known."""
    seq_len: int
    """Length at which FLOPs are counted; tokens of an image, where students read images."""
    objective: str
    provenance: Mapping[str, str]
    notes: tuple[str, ...]
    export_command: str
    certificate: Certificate | None = None
    """How far to trust the search; what the candidates alone say where None."""
    devices: tuple[DeviceCost, ...] = ()
    """What students take on the devices of budgets; their columns are among those of the candidates."""
    agreement: Agreement | None = None
    """How near the best student is to the teacher."""
    speeds: Mapping[str, Speed] = field(default_factory=dict)
    """How much faster than the teacher students are, by id, as far as measured."""
    tasks: Mapping[str, Sequence[TaskResult]] = field(default_factory=dict)
    """What was found on labelled tasks, by id of the student."""
    no_gain: tuple[str, ...] = ()
    """Ids of students within every budget that are left out, as they save nothing against the teacher."""
    score_name: str | None = None
    """What the candidates' `score` is, where a proxy task ranks them, such as `stsb spearman`."""
    samples: str = "texts"
    """What students read: `texts` or `images`."""

    @property
    def candidates(self) -> pd.DataFrame:
        """One row a student, numbered from 0: the columns of `candidates.csv`."""
        return self.table.frame.reset_index(drop=True)

    @property
    def length(self) -> str:
        """What FLOPs are of, behind that word."""
        return f"at {self.seq_len:,} tokens" if self.samples == "texts" else f"of an image ({self.seq_len:,} tokens)"


# ---- students

STATES = ("front", "dominated", "no_gain", "over", "loss_only", "unscored")
"""States of students: on the Pareto front; feasible and scored; scored though they save nothing against the teacher;
scored though over a budget; scored by loss but not by the task that ranks; never scored."""

UNPLACED = ("loss_only", "unscored")
"""States of students that have no value of what ranks."""


def students(data: ReportData) -> pd.DataFrame:
    """The candidates, numbered from 0, with `state` and `series` (number of the sub-space, in order of appearance)."""
    table = data.candidates
    scored, has_loss = (np.isfinite(table[column]) for column in (data.table.ranking.column, "loss"))
    feasible, no_gain = scored & table["feasible"], table["id"].isin(data.no_gain)
    states = [feasible & table["pareto"], feasible, scored & no_gain, scored, has_loss]
    state = np.select(states, STATES[:-1], default=STATES[-1])
    return table.assign(state=state, series=pd.factorize(table["sub_space"])[0])


def by_rank(data: ReportData) -> pd.DataFrame:
    """All students with a loss, best first; those that a proxy task did not score come last, by loss."""
    table = students(data)
    return CandidateTable(table[table["state"] != "unscored"]).best_first.frame


def sub_spaces(data: ReportData) -> list[str]:
    """Names of the sub-spaces, in order of appearance."""
    return [str(name) for name in pd.unique(data.candidates["sub_space"])]


def series_of(data: ReportData, name: str) -> int:
    """The number of a sub-space; one more than the last of another name."""
    return [*sub_spaces(data), name].index(name)


def front_rows(data: ReportData) -> pd.DataFrame:
    """The Pareto front, cheapest first."""
    table = students(data)
    return CandidateTable(table[table["state"] == "front"]).cheapest_first.frame


def staircase(data: ReportData, column: str) -> pd.DataFrame:
    """The part of the front that is a front of loss or score over this one cost, cheapest first."""
    return CandidateTable(front_rows(data)).staircase(column).frame


# ---- budgets


@dataclass(frozen=True)
class BudgetRow:
    """How a budget shaped the search."""

    text: str
    limit: str
    best: str
    """Cost of the best student."""
    teacher: str
    """Cost of the teacher."""
    over: int
    """Students that cost more."""
    total: int

    @property
    def verdict(self) -> str:
        """Whether the budget binds, and whom."""
        if not self.over:
            return "does not bind: no student costs more"
        if self.over == self.total:
            return "binds: every student costs more"
        return f"binds: {self.over:,} student{'s' if self.over > 1 else ''} out"


def budget_rows(data: ReportData) -> list[BudgetRow]:
    """One row a budget, as given."""
    best = data.table.get(data.best)
    rows = []
    for budget in data.budgets:
        cost, spent = cost_of(budget.column), math.nan if best is None else best.value(budget.column)
        ours, theirs = (
            "–" if math.isnan(value) else f"{cost.text(value)} ({share(value, budget.limit)})"
            for value in (spent, data.teacher.value(budget.column))
        )
        over = int((data.candidates[budget.column] > budget.limit).sum())
        rows.append(BudgetRow(budget.text, cost.text(budget.limit), ours, theirs, over, len(data.table)))
    return rows


def _nearest_miss(data: ReportData) -> str:
    """The student that exceeds its worst budget least."""
    excess = pd.DataFrame({i: b.excess(data.candidates[b.column]) for i, b in enumerate(data.budgets)})
    worst = excess.max(axis="columns")
    row = int(worst.to_numpy().argmin())
    budget = data.budgets[int(excess.iloc[row].to_numpy().argmax())]
    nearest = data.candidates.iloc[row]
    return (
        f"The nearest is {nearest['id']} with {cost_of(budget.column).text(nearest[budget.column])}, "
        f"{share(worst.iloc[row], 1)} over {budget.text}."
    )


# ---- summary


def headline(data: ReportData) -> str:
    """The result in one sentence."""
    if data.table.get(data.best) is not None:
        texts = [budget.text for budget in data.budgets]
        under = " and ".join(texts) if len(texts) <= 2 else f"all {len(texts)} budgets"
        return f"{data.best} is the best student" + (f" under {under}." if under else ".")
    if not len(data.candidates):
        return "The search space holds no student."
    if not data.candidates["feasible"].any():
        return "No student meets every budget."
    return "No student was scored."


def lead(data: ReportData) -> str:
    """The result in a sentence or two: that the teacher will do, where it meets every budget, then the best student."""
    answer = data.teacher.answer(data.budgets)
    return headline(data) if answer is None else f"{answer} Should you want it smaller: {headline(data)}"


def further_costs(data: ReportData) -> list[str]:
    """Columns of costs that have budgets, beside FLOPs at the run's length, parameters, MB and those of devices."""
    return [c for c in beside_shown(budget.column for budget in data.budgets) if not is_of_device(c)]


@dataclass(frozen=True)
class KeyFigure:
    """A number about the best student that a reader takes home."""

    label: str
    value: str
    note: str


def key_figures(data: ReportData) -> list[KeyFigure]:
    """Costs of the best student beside the teacher's, and its loss; empty where there is no best student."""
    best = data.table.get(data.best)
    if best is None:
        return []
    columns = [column for column in dict.fromkeys([*COSTS, *further_costs(data)]) if column in best.costs]
    costs = [_cost_figure(data, column, best.costs[column]) for column in columns]
    scores = [KeyFigure("Task score", f"{best.score:.4f}", data.score_name)] if data.score_name else []
    before = f"; {best.loss:.4f} before refined alone" if best.exported_loss != best.loss else ""
    near, found = [], data.agreement
    if found is not None:
        before += f"; the untrained slice {found.untrained_loss:.4f}"
        if found.rsa is not None:
            error = "" if found.rsa_error is None else f" ± {found.rsa_error:.4f}"
            note = f"RSA{error}; {', '.join(found.references)}"
            near = [KeyFigure("Agreement with the teacher", f"{found.rsa:.4f}", note)]
    loss = KeyFigure("Held-out loss", f"{best.exported_loss:.4f}", f"{data.objective}{before}")
    timed = data.speeds.get(best.id)
    speed = [] if timed is None else [KeyFigure("As fast as the teacher", timed.factor, timed.milliseconds)]
    return [*costs, *speed, *scores, *near, loss]


def _cost_figure(data: ReportData, column: str, value: float) -> KeyFigure:
    """A cost, without the word that its name says already, beside the teacher's where that is known."""
    whole = data.teacher.costs.get(column)
    cost = cost_of(column)
    ours, theirs = (cost.text(amount or 0.0).removesuffix(" parameters") for amount in (value, whole))
    part = share(value, whole)
    return KeyFigure(cost.name, ours, "" if part is None else f"{part} of teacher’s {theirs}")


@dataclass(frozen=True)
class SpeedRow:
    """What a forward takes."""

    name: str
    milliseconds: Milliseconds
    factor: str
    """How much faster than the teacher's that is."""
    is_teacher: bool = False


def speed_rows(data: ReportData) -> list[SpeedRow]:
    """The teacher and the students that were timed as the best one was, fastest first; empty where it was not."""
    best = data.speeds.get(data.best or "")
    if best is None:
        return []
    alike = {name: speed for name, speed in data.speeds.items() if speed.where == best.where and name in data.table.ids}
    ours = [SpeedRow(name, speed.student, speed.factor) for name, speed in alike.items()]
    return [*sorted(ours, key=lambda row: row.milliseconds), SpeedRow(data.teacher.name, best.teacher, "1 x", True)]


def sentences(data: ReportData) -> list[str]:
    """What else to know, in plain words."""
    table = students(data)
    counts = table["state"].value_counts()
    scored, feasible = len(table) - counts.get("unscored", 0), int(table["feasible"].sum())
    lines = [
        f"Within every budget: {feasible:,} of {len(table):,} students. Scored: {scored:,}. "
        f"On the Pareto front: {counts.get('front', 0):,}."
    ]
    if data.score_name is not None:
        tasked = counts[[state for state in ("front", "dominated", "over") if state in counts]].sum()
        lines.append(
            f"Ranked by {data.score_name} on the task’s train split: {tasked:,} students that the held-out loss left "
            "standing; dev and test splits were not read."
        )
    if line := data.teacher.not_measured(data.budgets):
        lines.append(line)
    if data.no_gain:
        who = data.no_gain[0] if len(data.no_gain) == 1 else f"{len(data.no_gain):,} students"
        lines.append(
            f"{who} would save nothing under these budgets against {data.teacher.name}: no gain, so without a rank and "
            "never picked."
        )
    if stopped := len(data.table.known("estimate")):
        lines.append(
            f"A race for the pick stopped {stopped:,} students that are surely worse; they have an estimate of their "
            "loss in candidates.csv, and no rank: the front is one of the others."
        )
    if data.budgets and len(table) and not feasible:
        lines.append(_nearest_miss(data))
    return [*_agreement_sentences(data), *_pick_sentences(data), *lines, *data.notes]


def _agreement_sentences(data: ReportData) -> Iterator[str]:
    found, best = data.agreement, data.table.get(data.best)
    if found is None or best is None:
        return
    if found.warning is not None:
        yield found.warning
    yield f"Beside {data.teacher.name} it has {data.teacher.shares({**best.costs, **best.devices})}."
    if found.rsa is not None:
        yield (
            f"Agreement is RSA: the Spearman correlation, over all pairs of {found.texts:,} held-out {data.samples}, "
            "of the cosine of their embeddings with the teacher’s; the untrained slice is what the student started "
            "from."
            + ("" if found.cut_rsa is None else " The cut teacher costs no more FLOPs, and no training or search.")
        )


def _pick_sentences(data: ReportData) -> Iterator[str]:
    """The students to look at beside the best one: at half its cost, nearly as good, at the knee."""
    best, by = data.table.get(data.best), data.table.ranking
    if best is None:
        return
    column = next((budget.column for budget in data.budgets if budget.text == data.table.limiting), "flops")
    name = cost_of(column).name
    words = name if name.startswith("FLOPs") else name[0].lower() + name[1:]
    suggested = {
        f"The best at half its {words}": half_id(data.table),
        "The cheapest within 1 %": near_id(data.table),
        "The knee of the front": data.knee,
    }
    for what, student in suggested.items():
        row = data.table.get(student)
        if row is not None and student != data.best:
            yield (
                f"{what}, {student}, takes {share(row.value(column), best.value(column))} of its {words} "
                f"at a {by.name} of {row.value(by.column):.4f} instead of {best.value(by.column):.4f}."
            )


# ---- sub-spaces and training


@dataclass(frozen=True)
class SubSpaceRow:
    """A sub-space and its best student."""

    series: int
    name: str
    students: int
    feasible: int
    scored: int
    flops: str
    best: str
    value: float
    """Loss of the best student, or its task score."""


def sub_space_rows(data: ReportData) -> list[SubSpaceRow]:
    """One row a sub-space; losses compare best within one."""
    by, rows = data.table.ranking, []
    for series, (name, group) in enumerate(students(data).groupby("sub_space", sort=False)):
        ranked = group[group["state"].isin(("front", "dominated"))]
        low, high = (COSTS["flops"].text(group["flops"].agg(end)) for end in ("min", "max"))
        best = ranked.loc[(by.sign * ranked[by.column]).idxmin()] if len(ranked) else None
        row = SubSpaceRow(
            series,
            str(name),
            len(group),
            int(group["feasible"].sum()),
            int((group["state"] != "unscored").sum()),
            low if low == high else f"{low} – {high}",
            "–" if best is None else str(best["id"]),
            float("nan") if best is None else float(best[by.column]),
        )
        rows.append(row)
    return rows


CURVE_POINTS = 400
"""Most points of a training curve; longer trainings are averaged over equal stretches of steps."""


def training_curves(data: ReportData) -> dict[str, pd.DataFrame]:
    """Losses by step of each SuperLM, at most `CURVE_POINTS` rows each."""
    columns = ["step", "loss", "largest_loss", "smallest_loss"]
    curves = {}
    for name, group in data.training.groupby("sub_space", sort=False):
        stretch = np.arange(len(group)) * min(len(group), CURVE_POINTS) // len(group)
        curves[str(name)] = group[columns].astype(float).sort_values("step").groupby(stretch).mean()
    return curves
