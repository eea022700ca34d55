"""Whether a training is long enough: how often it reads its text, how long it takes, and what more would bring."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import mean
from typing import Any

from autodistil.data.texts import RunSamples
from autodistil.run.folder import RunFolder
from autodistil.training.metrics import read_metrics, training_seconds
from autodistil.training.recipe import steps_alone
from autodistil.training.trainer import StepMetrics
from autodistil.utils import Progress

LOOK = 120
"""Steps below which a search is a look: with so many, two seeds had the same picks under four budgets (LOG.md)."""
OFTEN = 4
"""Times that a text may be read before that is said."""
_TIMED = 3
"""Steps after the first one that are timed before their time is told."""


def text_notes(text: RunSamples, steps: int) -> list[str]:
    """What to say of a text that a training reads over and over."""
    there = len(text.train)
    times = steps * text.samples_a_step / there
    if times <= OFTEN:
        return []
    return [f"there are {there:,} {text.unit} to train on, so each is read {times:,.0f} times: give more"]


@dataclass
class StepClock:
    """Hands the metrics of each step on, and tells once what steps take and how long the training will."""

    record: Callable[[list[StepMetrics]], None]
    progress: Progress
    steps: int
    """Of each SuperLM."""
    _seen: list[float] = field(default_factory=list)

    def __call__(self, rows: list[StepMetrics]) -> None:
        """A step was done."""
        self.record(rows)
        if len(self._seen) > _TIMED:
            return
        self._seen.append(time.monotonic())
        if len(self._seen) > _TIMED:
            seconds = (self._seen[-1] - self._seen[0]) / _TIMED
            left = self.steps - rows[-1].step
            self.progress.say(f"a step takes {seconds:.2g} s: {left} more take {duration(seconds * left)}")


@dataclass(frozen=True)
class StepTimes:
    """Seconds of steps that were tried, in their order; the first one warms up and stands for no other."""

    tried: Sequence[float]

    @property
    def each(self) -> float:
        """Seconds of a step."""
        return mean(self.tried[1:])

    def steps_in(
        self, seconds: float, alone: StepTimes | None = None, finalists: int = 0, asked: int | None = None
    ) -> int:
        """Steps that fit into what trying them left of a time, those of a refinement beside them; one at least.

        Args:
            seconds: the time.
            alone: of a student alone; None where none is refined.
            finalists: students that are refined.
            asked: steps of a refinement, where they are given.
        """
        left, each = seconds - sum(self.tried), self.each
        if alone is not None:
            left -= sum(alone.tried) + finalists * alone.each * (asked or 0)
            each += finalists * alone.each * steps_alone(None, 1) * (asked is None)
        return max(1, int(left / each))


def duration(seconds: float) -> str:
    """A time as a person says it: `40 seconds`, `7 minutes`, `3.5 hours`."""
    if seconds < 90:
        return f"{seconds:.0f} seconds"
    return f"{seconds / 60:.0f} minutes" if seconds < 5400 else f"{seconds / 3600:.1f} hours"


def length_notes(folder: RunFolder) -> list[str]:
    """What to say of a search after a training: that it was but a look, and what more would bring."""
    rows = read_metrics(folder.metrics_path) if folder.metrics_path.is_file() else []
    steps: int = folder.resolved().get("train_steps", 0)
    return [*look_notes(steps, training_seconds(rows) / max(1, steps)), *_fall_notes(rows)]


def look_notes(steps: int, step_seconds: float) -> list[str]:
    """What to say of a training that is but a look; `step_seconds` is 0 where the time of a step is not known."""
    if steps >= LOOK:
        return []
    here = f", about {duration(step_seconds * LOOK)} here," if step_seconds else ""
    return [
        f"{steps} steps are a look: with another seed a neighbour may be the best. With --train-steps {LOOK}{here} "
        "two seeds picked the same students."
    ]


def _fall_notes(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    losses: dict[str, list[float]] = {}
    for row in rows:
        losses.setdefault(str(row["sub_space"]), []).append(float(row["loss"]))
    falls = {name: fall for name, of in losses.items() if (fall := _fall(of)) is not None}
    if not falls:
        return []
    said = ", ".join(f"{name} {fall:.0%}" for name, fall in falls.items())
    return [f"Over the second half of the training losses fell by {said}: twice the steps may bring as much again."]


def _fall(losses: Sequence[float]) -> float | None:
    """Share by which the last tenth of a training's losses lies below the tenth around its middle, if it does."""
    window, middle = max(1, len(losses) // 10), len(losses) // 2
    if len(losses) < 10:
        return None
    before, after = mean(losses[middle - window // 2 :][:window]), mean(losses[-window:])
    return 1 - after / before if 0 < after < before else None
