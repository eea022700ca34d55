"""Several runs on one page: their fronts over one another, and tables of how good they are and what differs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd

from autodistil.costs.units import cost_of, significant
from autodistil.report.front import FAR, teacher_mark
from autodistil.report.page import rendered
from autodistil.report.style import (
    SYMBOLS,
    TEXT,
    Cell,
    Scale,
    Spec,
    as_text,
    base_layout,
    or_dash,
    rounded,
    series_colour,
)
from autodistil.student_search.pareto import staircase
from autodistil.student_search.teacher_row import TeacherRow


@dataclass(frozen=True)
class ComparedRun:
    """A run as a comparison shows it."""

    name: str
    path: str
    students: pd.DataFrame
    """The scored ones, by id: the columns of `candidates.csv` and `value`, the loss or score that ranks."""
    total: int
    best: str | None
    """The run's own pick, under its own budgets."""
    hypervolume: Mapping[str, float] | None
    """Hypervolume by cost: share of the largest possible, on the scale of this comparison; None: it is not ranked."""
    on_joint_front: int | None
    """Students on the front of all ranked runs together, over FLOPs."""


@dataclass(frozen=True)
class Change:
    """An option that is not the same in all runs."""

    group: str
    option: str
    values: tuple[str, ...]
    """One a run."""


@dataclass(frozen=True)
class Comparison:
    """Runs beside each other."""

    runs: tuple[ComparedRun, ...]
    measure: str
    """`loss`, or `score` where all runs rank by the same task."""
    costs: tuple[str, ...]
    changes: tuple[Change, ...]
    notes: tuple[str, ...]
    teachers: tuple[TeacherRow, ...] = ()
    """Each once, as far as recorded: beside the runs, and part of no front."""

    @property
    def ranked(self) -> list[ComparedRun]:
        """The runs whose values mean the same."""
        return [run for run in self.runs if run.hypervolume is not None]

    @property
    def comparable(self) -> bool:
        """Whether the values mean the same in all runs."""
        return len(self.ranked) == len(self.runs)

    def to_dict(self) -> dict[str, object]:
        """Plain values for JSON."""
        names = [run.name for run in self.runs]
        return {
            "measure": self.measure,
            "comparable": self.comparable,
            "runs": [_run_dict(run, self) for run in self.runs],
            "changed": [
                {"group": change.group, "option": change.option, "values": dict(zip(names, change.values, strict=True))}
                for change in self.changes
            ],
            "notes": list(self.notes),
            "teachers": [teacher.to_dict() for teacher in self.teachers],
        }


def _run_dict(run: ComparedRun, found: Comparison) -> dict[str, object]:
    best = None if run.best is None else run.students.loc[run.best]
    costs = {} if best is None else {cost: float(best[cost]) for cost in found.costs}
    return {
        "name": run.name,
        "path": run.path,
        "students": run.total,
        "scored": len(run.students),
        "best": None if best is None else {"id": run.best, found.measure: float(best["value"]), "costs": costs},
        "hypervolume": run.hypervolume and {cost: round(share, 6) for cost, share in run.hypervolume.items()},
        "on_joint_front": run.on_joint_front,
    }


def comparison_page(found: Comparison) -> str:
    """The page as HTML, in one file that needs no network."""
    drawn = found.costs if found.ranked else ()
    return rendered(
        "compare.html",
        {"figures": {cost: overlay_figure(found, cost) for cost in drawn}, "students": []},
        title=" · ".join(run.name for run in found.runs),
        headline=headline(found),
        notes=found.notes,
        measure=found.measure,
        costs={cost: cost_of(cost).name for cost in drawn},
        runs=[
            *(list(_run_cells(found, run, number)) for number, run in enumerate(found.runs)),
            *(list(_teacher_cells(found, teacher)) for teacher in found.teachers),
        ],
        changes=[
            [Cell("Kind", change.group, kind=TEXT), Cell("Option", change.option, kind=TEXT)]
            + [Cell(run.name, value, kind=TEXT) for run, value in zip(found.runs, change.values, strict=True)]
            for change in found.changes
        ],
    )


def headline(found: Comparison) -> str:
    """Who is ahead, in one sentence."""
    volumes = {run.name: run.hypervolume["flops"] for run in found.runs if run.hypervolume is not None}
    if not volumes:
        return "These runs differ in what their losses are measured on."
    level = [name for name, volume in volumes.items() if volume == max(volumes.values())]
    if len(level) > 1:
        return f"{' and '.join(level)} are level over FLOPs."
    among = "" if found.comparable else f" of the {len(volumes)} runs that compare"
    return f"{level[0]} has the largest hypervolume of {found.measure} over FLOPs{among}."


# ---- figures


def overlay_figure(found: Comparison, cost: str) -> Spec:
    """The fronts of the ranked runs over one cost, their other students faint behind them."""
    values = pd.concat([run.students["value"] for run in found.ranked])
    costs = pd.concat([run.students[cost] for run in found.ranked])
    theirs = [teacher.value(cost) for teacher in found.teachers if teacher.value(cost) <= FAR * costs.max()]
    x = Scale.over([*costs, *theirs])
    y = Scale.over(values, pad_low=0.08, pad_high=0.06, may_be_log=found.measure == "loss")
    layout = base_layout(
        margin={"l": 68, "r": 20, "t": 34, "b": 60},
        xaxis=x.axis(_axis_title(cost), tickformat="~s"),
        yaxis=y.axis("Held-out loss" if found.measure == "loss" else "Task score"),
        legend={"orientation": "h", "x": 0, "y": -0.2, "yanchor": "top", "font": {"size": 13, "color": "var(--ink)"}},
    )
    drawn = [(number, run) for number, run in enumerate(found.runs) if run.hypervolume is not None]
    traces = [trace for number, run in drawn for trace in _traces(run, cost, number, found.measure)]
    teachers = [mark for one in found.teachers for mark in teacher_mark(one, cost, x, y) if found.measure == "loss"]
    return {"data": [*sorted(traces, key=lambda trace: trace["mode"] != "markers"), *teachers], "layout": layout}


def _axis_title(cost: str) -> str:
    """The name of a cost, with its unit where the prefixes of ticks are not of the unit itself."""
    words = cost_of(cost)
    return words.name if "{}" in words.unit else f"{as_text(words.name)} in {words.unit}"


def _traces(run: ComparedRun, cost: str, number: int, measure: str) -> list[Spec]:
    front = front_over(run.students, cost, -1 if measure == "score" else 1)
    style = {"symbol": SYMBOLS[number % len(SYMBOLS)], "color": series_colour(number)}
    others = run.students[~run.students.index.isin(front.index)]
    faint = {"marker": {**style, "size": 5, "opacity": 0.3}, "showlegend": False, "mode": "markers"}
    strong = {"marker": {**style, "size": 9}, "mode": "lines+markers"}
    line = {"line": {"color": series_colour(number), "width": 1.5, "shape": "hv"}}
    return [_trace(run, others, cost, faint), _trace(run, front, cost, {**strong, **line})]


def _trace(run: ComparedRun, rows: pd.DataFrame, cost: str, style: Spec) -> Spec:
    return {
        "type": "scatter",
        "x": rounded(rows[cost]),
        "y": rounded(rows["value"]),
        "name": as_text(run.name, 28),
        "legendgroup": run.path,
        "customdata": [[as_text(name)] for name in rows.index],
        "hovertemplate": f"<b>%{{customdata[0]}}</b><br>{as_text(run.name)}: %{{y:.4f}} at %{{x:.3~s}}<extra></extra>",
        **style,
    }


def front_over(students: pd.DataFrame, cost: str, sign: int) -> pd.DataFrame:
    """The front of `value` (times `sign`, lower is better) over one cost, cheapest first."""
    return students.iloc[staircase(np.column_stack([students[cost], sign * students["value"]]).astype(float))]


# ---- tables


def _run_cells(found: Comparison, run: ComparedRun, number: int) -> Iterator[Cell]:
    yield Cell("Run", run.name, run.name, TEXT, number)
    yield Cell("Scored", f"{len(run.students):,} of {run.total:,}", len(run.students))
    yield Cell("Its best student", run.best or "–", run.best or "", TEXT)
    yield Cell(found.measure.capitalize(), best_value(run, "value", ".4f"), best_value(run, "value", ".9f", ""))
    flops = None if run.best is None else run.students.loc[run.best, "flops"]
    yield Cell("MFLOPs", "–" if flops is None else significant(flops / 1e6), or_dash(flops, "f", ""))
    for cost in found.costs:
        share = run.hypervolume[cost] if run.hypervolume else None
        yield Cell(f"HV {cost_of(cost).name}", or_dash(share, ".4f"), "" if share is None else share)
    yield Cell("On the joint front", or_dash(run.on_joint_front, ","), or_dash(run.on_joint_front, "", ""))


def _teacher_cells(found: Comparison, teacher: TeacherRow) -> Iterator[Cell]:
    """A teacher below the runs; it has no place among them."""
    flops = teacher.value("flops")
    yield Cell("Run", f"{teacher.name} (teacher)", teacher.name, TEXT)
    yield Cell("Scored", "–", "")
    yield Cell("Its best student", "–", "", TEXT)
    by_loss = found.measure == "loss"
    yield Cell(found.measure.capitalize(), teacher.loss_text if by_loss else "–", teacher.loss if by_loss else "")
    yield Cell("MFLOPs", significant(flops / 1e6), flops)
    for cost in found.costs:
        yield Cell(f"HV {cost_of(cost).name}", "–", "")
    yield Cell("On the joint front", "–", "")


def best_value(run: ComparedRun, column: str, form: str, none: str = "–") -> str:
    """A number of the run's best student as text."""
    return none if run.best is None else format(run.students.loc[run.best, column], form)
