"""What a report shows: the students of a search with their costs and losses, and what they were held to.

What there is to say about a search, as rows and sentences; nothing here knows how it is drawn.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd

from autodistil.costs.units import COSTS, cost_of, share
from autodistil.profiling.device_costs import DeviceCost
from autodistil.student_search.certificate.assess import Certificate


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


CURVE_POINTS = 400
"""Most points of a training curve; longer trainings are averaged over equal stretches of steps."""

STATES = ("front", "dominated", "over", "untasked", "unscored")
"""Of students: on the Pareto front; feasible and scored; scored though over a budget; scored by loss but not by the
task that ranks; never scored."""

UNPLACED = ("untasked", "unscored")
"""States of students that have no value of what ranks."""


@dataclass(frozen=True)
class Measure:
    """What students are ranked by."""

    column: str
    name: str
    sign: int
    """1 where low values are good, -1 where high ones are."""


def measure(data: ReportData) -> Measure:
    """The held-out loss, or the score on the proxy task where there is one."""
    return Measure("loss", "loss", 1) if data.score_name is None else Measure("score", "score", -1)


def students(data: ReportData) -> pd.DataFrame:
    """The candidates, numbered from 0, with `state` and `series` (number of the sub-space, in order of appearance)."""
    table = data.candidates.reset_index(drop=True)
    scored, has_loss = (_finite(table[column]) for column in (measure(data).column, "loss"))
    feasible, pareto = (table[column].fillna(False).astype(bool) & scored for column in ("feasible", "pareto"))
    state = np.select([pareto, feasible, scored, has_loss], STATES[:4], default=STATES[4])
    return table.assign(state=state, series=pd.factorize(table["sub_space"])[0])


def _finite(values: pd.Series) -> np.ndarray:
    return np.isfinite(values.to_numpy(dtype=float, na_value=np.nan))


def by_rank(data: ReportData) -> pd.DataFrame:
    """All students with a loss, best first; those that a proxy task did not score come last, by loss."""
    table, by = students(data), measure(data)
    known = table[table["state"] != "unscored"]
    return known.assign(badness=by.sign * known[by.column]).sort_values(["badness", "loss"], kind="stable")


def sub_spaces(data: ReportData) -> list[str]:
    """Names of the sub-spaces, in order of appearance."""
    return [str(name) for name in pd.unique(data.candidates["sub_space"])]


def student(data: ReportData, name: str | None) -> pd.Series | None:
    """The row of a student, None where there is no such student."""
    rows = data.candidates[data.candidates["id"] == name]
    return rows.iloc[0] if len(rows) else None


def front_rows(data: ReportData) -> pd.DataFrame:
    """The Pareto front, cheapest first."""
    table = students(data)
    return table[table["state"] == "front"].sort_values(["flops", "loss"], kind="stable")


def staircase(data: ReportData, column: str) -> pd.DataFrame:
    """The part of the front that is a front of loss or score over this one cost, cheapest first."""
    front, by = front_rows(data), measure(data)
    front = front.assign(badness=by.sign * front[by.column]).sort_values([column, "badness"], kind="stable")
    return front[front["badness"] < front["badness"].cummin().shift(fill_value=np.inf)]


# ---- budgets


@dataclass(frozen=True)
class BudgetRow:
    """How a budget shaped the search."""

    text: str
    limit: str
    best: str
    """Cost of the best student."""
    over: int
    """Students that cost more."""
    total: int

    @property
    def verdict(self) -> str:
        """Whether the budget binds, and whom."""
        if not self.over:
            return "does not bind: no student costs more"
        return "binds: every student costs more" if self.over == self.total else f"binds: {self.over:,} students out"


def budget_rows(data: ReportData) -> list[BudgetRow]:
    """One row a budget, as given."""
    best = student(data, data.best)
    rows = []
    for budget in data.budgets:
        cost, values = cost_of(budget.cost), data.candidates[budget.cost]
        spent = "–" if best is None else _spent(best[budget.cost], budget.limit, cost.text(best[budget.cost]))
        over = int((values > budget.limit).sum())
        rows.append(BudgetRow(budget.text, cost.text(budget.limit), spent, over, len(values)))
    return rows


def _spent(value: float, limit: float, text: str) -> str:
    return f"{text} ({share(value, limit)})"


def _nearest_miss(data: ReportData) -> str:
    """The student that exceeds its worst budget least."""
    excess = pd.DataFrame({i: data.candidates[b.cost] / b.limit - 1 for i, b in enumerate(data.budgets)})
    worst = excess.max(axis="columns")
    row = int(worst.to_numpy().argmin())
    budget = data.budgets[int(excess.iloc[row].to_numpy().argmax())]
    nearest = data.candidates.iloc[row]
    return (
        f"The nearest is {nearest['id']} with {cost_of(budget.cost).text(nearest[budget.cost])}, "
        f"{share(worst.iloc[row], 1)} over {budget.text}."
    )


# ---- summary


def headline(data: ReportData) -> str:
    """The result in one sentence."""
    if student(data, data.best) is not None:
        texts = [budget.text for budget in data.budgets]
        under = " and ".join(texts) if len(texts) <= 2 else f"all {len(texts)} budgets"
        return f"{data.best} is the best student" + (f" under {under}." if under else ".")
    if not len(data.candidates):
        return "The search space holds no student."
    if not data.candidates["feasible"].any():
        return "No student meets every budget."
    return "No student was scored."


@dataclass(frozen=True)
class KeyFigure:
    """A number about the best student that a reader takes home."""

    label: str
    value: str
    note: str


def key_figures(data: ReportData) -> list[KeyFigure]:
    """Costs of the best student beside the teacher's, and its loss; empty where there is no best student."""
    best = student(data, data.best)
    if best is None:
        return []
    costs = [
        KeyFigure(cost.name, _short(column, best[column]), _beside_teacher(data, column, best))
        for column, cost in COSTS.items()
        if column in best
    ]
    scores = [KeyFigure("Task score", f"{best['score']:.4f}", data.score_name)] if data.score_name else []
    return [*costs, *scores, _loss_figure(data, best)]


def _loss_figure(data: ReportData, best: pd.Series) -> KeyFigure:
    """The loss that the student is exported with."""
    refined = best.get("refined_loss", np.nan)
    if refined < best["loss"]:
        return KeyFigure(
            "Held-out loss", f"{refined:.4f}", f"{data.objective}; {best['loss']:.4f} before refined alone"
        )
    return KeyFigure("Held-out loss", f"{best['loss']:.4f}", data.objective)


def _short(column: str, value: float) -> str:
    """A cost where its name stands beside it."""
    return COSTS[column].text(value).removesuffix(" parameters")


def _beside_teacher(data: ReportData, column: str, row: pd.Series) -> str:
    whole = data.teacher_costs.get(column)
    part = share(row[column], whole)
    return "" if whole is None or part is None else f"{part} of teacher’s {_short(column, whole)}"


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
    if data.budgets and len(table) and not feasible:
        lines.append(_nearest_miss(data))
    return [*_knee_sentence(data), *lines, *data.notes]


def _knee_sentence(data: ReportData) -> Iterator[str]:
    best, knee, by = student(data, data.best), student(data, data.knee), measure(data)
    if best is None or knee is None:
        return
    if data.best == data.knee:
        yield "It is also the knee of the front."
    else:
        yield (
            f"The knee of the front, {data.knee}, takes {share(knee['flops'], best['flops'])} of its FLOPs "
            f"at a {by.name} of {knee[by.column]:.4f} instead of {best[by.column]:.4f}."
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
    """Its loss, or its task score."""


def sub_space_rows(data: ReportData) -> list[SubSpaceRow]:
    """One row a sub-space; losses compare best within one."""
    groups = students(data).groupby("sub_space", sort=False)
    return [_sub_space_row(str(name), group, measure(data)) for name, group in groups]


def _sub_space_row(name: str, group: pd.DataFrame, by: Measure) -> SubSpaceRow:
    candidates = group[group["state"].isin(("front", "dominated"))]
    low, high = (COSTS["flops"].text(group["flops"].agg(end)) for end in ("min", "max"))
    best = candidates.loc[(by.sign * candidates[by.column]).idxmin()] if len(candidates) else None
    return SubSpaceRow(
        int(group["series"].iloc[0]),
        name,
        len(group),
        int(group["feasible"].sum()),
        int((group["state"] != "unscored").sum()),
        low if low == high else f"{low} – {high}",
        "–" if best is None else str(best["id"]),
        float("nan") if best is None else float(best[by.column]),
    )


def training_curves(data: ReportData) -> dict[str, pd.DataFrame]:
    """Losses by step of each SuperLM, at most `CURVE_POINTS` rows each."""
    columns = ["step", "loss", "largest_loss", "smallest_loss"]
    return {
        str(name): _thinned(group[columns].astype(float).sort_values("step"))
        for name, group in data.training.groupby("sub_space", sort=False)
    }


def _thinned(curve: pd.DataFrame) -> pd.DataFrame:
    stretch = np.arange(len(curve)) * min(len(curve), CURVE_POINTS) // len(curve)
    return curve.groupby(stretch).mean()
