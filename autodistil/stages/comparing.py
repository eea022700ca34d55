"""Runs beside each other: whose front is better, and what differs between them.

Fronts are of all scored students, over one cost at a time, whatever the budgets were. Their hypervolumes share one
scale and one reference point, so they compare within one comparison. Losses compare only where what decides them is the
same: teacher, measure, length, and the held-out text with its blocks, which searches record. Ranked are the most runs
that are scored alike; of each other run a note says in what it differs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from autodistil.config import MACHINE_OPTIONS, RUN_OPTIONS, SEARCH_OPTIONS
from autodistil.errors import ConfigError
from autodistil.report.comparison import Change, ComparedRun, Comparison
from autodistil.run.folder import RunFolder
from autodistil.student_search.candidates import BY_SCORE, CandidateTable
from autodistil.student_search.pareto import hypervolumes, pareto_mask
from autodistil.student_search.pick import best_id
from autodistil.student_search.teacher_row import TeacherRow
from autodistil.utils import shown

_TEACHER = {
    "teacher",
    "teacher_commit",
    "teacher_fingerprint",
    "teacher_layer",
    "assistant",
    "assistant_commit",
    "assistant_fingerprint",
    "trust_remote_code",
}
_TEXT = ("corpus", "corpus_content", "text_unit", "seq_len", "heldout_sequences")
_SCORED_BY = "scored_by"
"""Key of what `run.yaml` says decides the losses of the last search."""


@dataclass(frozen=True)
class _Run:
    name: str
    path: Path
    facts: Mapping[str, Any]
    """Options and what they were resolved to, by name; axes of sub-spaces under their names; versions."""
    table: CandidateTable
    scored_by: Mapping[str, str] | None
    """What decided its losses; None where that was not recorded."""
    teacher: TeacherRow | None = None
    """As it was recorded."""

    def value(self, by_score: bool) -> pd.Series:
        """What ranks: the task score, or the loss that the student is exported with; NaN where a student has none."""
        frame = self.table.frame
        return frame["score"] if by_score else self.table.exported_losses.where(np.isfinite(frame["loss"]))

    def points(self, cost: str, by_score: bool) -> np.ndarray:
        """Logarithm of a cost and what ranks, lower is better (students, 2); NaN where a student has none."""
        value = self.value(by_score) * (-1 if by_score else 1)
        return np.column_stack([np.log(self.table.frame[cost].astype(float)), value])

    def front(self, cost: str, by_score: bool) -> np.ndarray:
        """The points that none of this run dominates."""
        points = self.points(cost, by_score)
        return points[pareto_mask(points)]


def compare_runs(paths: Sequence[Path]) -> Comparison:
    """Compare searched runs.

    Args:
        paths: run folders, at least two.

    Raises:
        ConfigError: fewer than two, or one twice.
        RunError: one is no run folder, was not searched or is damaged.
    """
    if len(paths) < 2:
        raise ConfigError(f"compare got {len(paths)} run folder; give two or more: autodistil compare RUN RUN")
    runs = [_read(path, name) for path, name in zip(paths, unique_names(paths), strict=True)]
    by_score = all(run.table.ranking == BY_SCORE for run in runs) and not _differing(runs, ["proxy", "proxy_method"])
    ranked = runs if by_score else _scored_alike(runs)
    on_devices = [name for name in runs[0].table.devices if all(name in run.table.devices for run in runs)]
    costs = ["flops", "params", "size_mb", *on_devices]
    volumes = pd.DataFrame({cost: hypervolumes([run.front(cost, by_score) for run in ranked]) for cost in costs})
    points = [run.points("flops", by_score) for run in ranked]
    on_joint_front = np.split(pareto_mask(np.vstack(points)), np.cumsum([len(own) for own in points])[:-1])
    places = {
        run.path: (shares, int(mask.sum()))
        for run, shares, mask in zip(ranked, volumes.to_dict("records"), on_joint_front, strict=True)
        if len(ranked) > 1
    }
    return Comparison(
        tuple(_compared(run, by_score, *places.get(run.path, (None, None))) for run in runs),
        "score" if by_score else "loss",
        tuple(costs),
        tuple(_changes(runs)),
        tuple(_notes(runs, ranked, by_score)),
        tuple({run.teacher.name: run.teacher for run in runs if run.teacher}.values()),
    )


def _scored_alike(runs: Sequence[_Run]) -> list[_Run]:
    """The largest group of runs whose losses compare, the first of several."""
    groups = [[run for run in runs if run is one or run.scored_by == one.scored_by is not None] for one in runs]
    return max(groups, key=len)


def unique_names(paths: Sequence[Path]) -> list[str]:
    """Names of folders, or their paths where names are not unique.

    Raises:
        ConfigError: one is given twice.
    """
    whole = [path.resolve() for path in paths]
    twice = next((path for path in whole if whole.count(path) > 1), None)
    if twice is not None:
        raise ConfigError(f"folder {str(twice)!r} is given twice; give each once")
    names = [path.name for path in whole]
    return names if len(set(names)) == len(names) else [str(path) for path in paths]


def _read(path: Path, name: str) -> _Run:
    folder = RunFolder(path)
    record = folder.record()
    facts = {**record.config.to_dict(), **record.resolved}
    scored_by, row = facts.pop(_SCORED_BY, None), facts.pop("teacher_row", None)
    space = record.resolved.get("space", {})
    facts["space"] = space.get("name", record.config.space)
    for sub_space, axes in space.get("sub_spaces", {}).items():
        facts[f"space.{sub_space}"] = "; ".join(f"{axis} {_text(values)}" for axis, values in axes.items())
    facts |= {f"version of {package}": number for package, number in record.versions.items()}
    teacher = TeacherRow.of_dict(row) if row else None
    return _Run(name, path, facts, CandidateTable.read(folder.candidates_path), scored_by, teacher)


def _compared(
    run: _Run, by_score: bool, hypervolume: Mapping[str, float] | None, on_joint_front: int | None
) -> ComparedRun:
    value = run.value(by_score)
    return ComparedRun(
        name=run.name,
        path=str(run.path),
        students=run.table.frame.assign(value=value)[np.isfinite(value)],
        total=len(run.table),
        best=best_id(run.table) if len(run.table.front) else None,
        hypervolume=hypervolume,
        on_joint_front=on_joint_front,
    )


# ---- what changed


def _changes(runs: Sequence[_Run]) -> list[Change]:
    names, changes = list(dict.fromkeys(name for run in runs for name in run.facts)), []
    for name in _differing(runs, names):
        group = next(group for group, holds in _GROUPS.items() if holds(name))
        changes.append(Change(group, name, tuple(_text(run.facts.get(name)) for run in runs)))
    return sorted(changes, key=lambda change: list(_GROUPS).index(change.group))


def _differing(runs: Sequence[_Run], names: Sequence[str]) -> list[str]:
    return [name for name in names if any(run.facts.get(name) != runs[0].facts.get(name) for run in runs)]


_GROUPS: Mapping[str, Callable[[str], bool]] = {
    "teacher": lambda name: name in _TEACHER,
    "space": lambda name: name == "space" or name.startswith("space."),
    "seed": lambda name: name == "seed",
    "text": lambda name: name in _TEXT or name.startswith("corpus"),
    "device": lambda name: name in MACHINE_OPTIONS,
    "recipe": lambda name: name in RUN_OPTIONS,
    "search": lambda name: name in SEARCH_OPTIONS,
    "versions": lambda name: name.startswith("version of "),
    "resolved": lambda name: True,
}
"""Kinds of options, the first that holds."""


def _text(value: Any) -> str:
    if isinstance(value, (list, tuple)):
        return ", ".join(map(str, shown(value)))
    return "–" if value is None else str(shown(value))


def _notes(runs: Sequence[_Run], ranked: Sequence[_Run], by_score: bool) -> list[str]:
    names = [run.name for run in ranked]
    notes = [_not_ranked(run, ranked[0]) for run in runs if run.name not in names]
    if _differing(runs, ["seq_len"]):
        notes.append("FLOPs do not compare: they are counted at different lengths.")
    if not by_score and any(run.table.ranking == BY_SCORE for run in runs):
        notes.append("Task scores are left out: not every run has them from the same task.")
    return notes


def _not_ranked(run: _Run, first: _Run) -> str:
    """Why the losses of a run do not compare with those of the first one that is ranked."""
    for one in (run, first):
        if one.scored_by is None:
            return (
                f"Losses of {run.name} and {first.name} do not compare: {one.name} does not say what it was scored on; "
                f"search there again to record it (scores are kept)."
            )
    assert run.scored_by is not None
    assert first.scored_by is not None
    names = dict.fromkeys([*first.scored_by, *run.scored_by])
    other = [name for name in names if run.scored_by.get(name) != first.scored_by.get(name)]
    return f"Losses of {run.name} and {first.name} do not compare: the runs differ in {', '.join(other)}."
