"""A run in an experiment tracker too: MLflow or Weights & Biases, each through its own library.

Where a tracker lies and who may write there is its library's business: `MLFLOW_TRACKING_URI`, `WANDB_MODE=offline` and
all else that these read. A run folder is one run there, found again by its identity, so that training, a resumed
training and later searches come together. The run folder stays the truth: a tracker that fails is left, not waited for.
"""

from __future__ import annotations

import importlib
import logging
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, Protocol

import numpy as np

from autodistil.errors import ConfigError, one_line_named
from autodistil.student_search.candidates import CandidateTable
from autodistil.student_search.pick import best_id, knee_id

PROJECT = "autodistil"
"""Experiment or project, unless `MLFLOW_EXPERIMENT_NAME` or `WANDB_PROJECT` names another."""
FLUSH_SECONDS = 5.0
"""Metrics are collected so long before they are sent to MLflow, which takes a request each time."""
_BATCH = 900
"""MLflow takes 1,000 metrics a request."""
_IDENTITY = "autodistil.run"
_FIGURES = ("loss", "refined_loss", "score", "flops", "params", "size_mb")
"""Columns of the candidates that a pick is told with, where they are there."""


@dataclass(frozen=True)
class TrackedRun:
    """What a tracker is told of a run when it begins."""

    identity: str
    """The same for a run folder and its copies."""
    name: str
    folder: Path
    options: Mapping[str, str]
    """Fixed for the life of the run folder."""


@dataclass(frozen=True)
class Found:
    """What a search found."""

    budgets: str
    picks: Mapping[str, Mapping[str, float]]
    """`best` and, where there is one, `knee` -> figures."""
    names: Mapping[str, str]
    """The same -> id."""
    front: Mapping[str, Sequence[Any]]
    """Columns of the front, cheapest first."""

    @classmethod
    def of(cls, budgets: Sequence[str], table: CandidateTable) -> Found:
        """The front and the picks of a search."""
        knee = knee_id(table)
        names = {"best": best_id(table), **({"knee": knee} if knee else {})}
        front = table.front.cheapest_first
        figures = front.frame[[name for name in _FIGURES if name in front.frame]].astype(float)
        columns = figures.astype(object).where(figures.notna(), None)
        return cls(
            budgets=" and ".join(budgets),
            picks={pick: figures.loc[name][np.isfinite(figures.loc[name])].to_dict() for pick, name in names.items()},
            names=names,
            front={"id": front.ids, **{name: list(values) for name, values in columns.items()}},
        )


class Tracker(Protocol):
    """One run of a tracker."""

    def log_step(self, group: str, step: int, values: Mapping[str, float]) -> None:
        """Metrics of a SuperLM after a step."""

    def log_found(self, found: Found) -> None:
        """The front and the picks."""

    def close(self, finished: bool) -> None:
        """Send what is left and end the run: done, or broken off."""


class MLflowTracker:
    """Through `mlflow.MlflowClient`, which leaves the process's active run alone."""

    def __init__(self, run: TrackedRun) -> None:
        from mlflow import MlflowClient

        logging.getLogger("mlflow").setLevel(logging.WARNING)  # it tells of its tables
        self._client = MlflowClient()
        name = os.environ.get("MLFLOW_EXPERIMENT_NAME", PROJECT)
        found = self._client.get_experiment_by_name(name)
        experiment = str(found.experiment_id if found else self._client.create_experiment(name))
        self._id = self._open(experiment, run)
        self._waiting: list[Any] = []
        self._sent = time.monotonic()

    def _open(self, experiment: str, run: TrackedRun) -> str:
        known = self._client.search_runs([experiment], f"tags.`{_IDENTITY}` = '{run.identity}'", max_results=1)
        if known:
            self._client.update_run(known[0].info.run_id, status="RUNNING")
            return str(known[0].info.run_id)
        tags = {_IDENTITY: run.identity, "autodistil.folder": str(run.folder.resolve())}
        created = str(self._client.create_run(experiment, tags=tags, run_name=run.name).info.run_id)
        for name, value in run.options.items():
            self._client.log_param(created, name, value[:500])
        return created

    def log_step(self, group: str, step: int, values: Mapping[str, float]) -> None:
        """Metrics of a SuperLM after a step."""
        from mlflow.entities import Metric

        now = int(1000 * time.time())
        self._waiting += [Metric(f"{group}/{name}", value, now, step) for name, value in values.items()]
        if time.monotonic() - self._sent >= FLUSH_SECONDS or len(self._waiting) >= _BATCH:
            self._flush()

    def log_found(self, found: Found) -> None:
        """Picks as metrics and tags, the front as a table."""
        self._client.set_tag(self._id, "autodistil.budgets", found.budgets)
        for pick, name in found.names.items():
            self._client.set_tag(self._id, f"autodistil.{pick}", name)
        for name, value in flat(found.picks).items():
            self._client.log_metric(self._id, name, value)
        self._client.log_dict(self._id, {name: list(column) for name, column in found.front.items()}, "front.json")

    def close(self, finished: bool) -> None:
        """Send what is left and end the run."""
        self._flush()
        self._client.set_terminated(self._id, "FINISHED" if finished else "KILLED")

    def _flush(self) -> None:
        for start in range(0, len(self._waiting), _BATCH):
            self._client.log_batch(self._id, self._waiting[start : start + _BATCH])
        self._waiting, self._sent = [], time.monotonic()


class WandbTracker:
    """Through `wandb.init`; offline runs lie in the run folder, for `wandb sync`."""

    def __init__(self, run: TrackedRun) -> None:
        import wandb

        self._wandb = wandb
        self._run = wandb.init(
            project=os.environ.get("WANDB_PROJECT", PROJECT),
            id=run.identity,
            name=run.name,
            resume="allow",
            dir=os.environ.get("WANDB_DIR", str(run.folder)),
            config={**run.options, "folder": str(run.folder.resolve())},
            settings=wandb.Settings(silent=True, console="off"),
        )
        self._groups: set[str] = set()

    def log_step(self, group: str, step: int, values: Mapping[str, float]) -> None:
        """Metrics of a SuperLM after a step; each SuperLM has a step of its own, which may start again."""
        if group not in self._groups:
            self._run.define_metric(f"{group}/*", step_metric=f"{group}/step")
            self._groups.add(group)
        self._run.log({f"{group}/step": step, **{f"{group}/{name}": value for name, value in values.items()}})

    def log_found(self, found: Found) -> None:
        """Picks in the summary, the front as a table."""
        self._run.summary.update({"budgets": found.budgets, **found.names, **flat(found.picks)})
        rows = [list(row) for row in zip(*found.front.values(), strict=True)]
        self._run.log({"front": self._wandb.Table(columns=list(found.front), data=rows)})

    def close(self, finished: bool) -> None:
        """Send what is left and end the run."""
        self._run.finish(exit_code=0 if finished else 1)


def flat(picks: Mapping[str, Mapping[str, float]]) -> dict[str, float]:
    """`{"best": {"loss": 1.0}}` as `{"best/loss": 1.0}`."""
    return {f"{pick}/{name}": value for pick, figures in picks.items() for name, value in figures.items()}


TRACKERS: Mapping[str, tuple[str, Callable[[TrackedRun], Tracker]]] = MappingProxyType(
    {"mlflow": ("mlflow", MLflowTracker), "wandb": ("wandb", WandbTracker)}
)
"""Name -> module that it needs, and what opens it."""


def check_tracker(name: str | None) -> None:
    """Refuse a tracker whose library is missing, before anything is done.

    Raises:
        ConfigError: it is not installed, with the line that installs it.
    """
    if name is None or name not in TRACKERS:
        return
    module, _ = TRACKERS[name]
    try:
        importlib.import_module(module)
    except ImportError as error:
        raise ConfigError(
            f"track = {name!r} needs {module}, which is not installed; run: pip install 'autodistil[track-{name}]'"
        ) from error


class GuardedTracker:
    """Opens a tracker when the first thing is logged, and leaves it for good when it fails.

    Args:
        name: a key of `TRACKERS`; None or `none` for no tracker.
        run: asked when the tracker is opened.
        say: told the reason where a tracker is left.
    """

    def __init__(self, name: str | None, run: Callable[[], TrackedRun], say: Callable[[str], None]) -> None:
        self._name = name if name in TRACKERS else None
        self._run = run
        self._say = say
        self._tracker: Tracker | None = None

    @contextmanager
    def working(self) -> Iterator[None]:
        """While stages work: the tracker's run ends with them, well or not.

        Raises:
            ConfigError: the tracker's library is missing; nothing was done.
        """
        check_tracker(self._name)
        finished = False
        try:
            yield
            finished = True
        finally:
            self.close(finished)

    def log_step(self, group: str, step: int, values: Mapping[str, float]) -> None:
        """Metrics of a SuperLM after a step."""
        self._do(lambda tracker: tracker.log_step(group, step, values))

    def log_found(self, found: Found) -> None:
        """The front and the picks."""
        self._do(lambda tracker: tracker.log_found(found))

    def close(self, finished: bool) -> None:
        """End the run, if it was opened."""
        if self._tracker is not None:
            self._do(lambda tracker: tracker.close(finished))
        self._tracker = None

    def _do(self, what: Callable[[Tracker], None]) -> None:
        if self._name is None:
            return
        try:
            if self._tracker is None:
                self._tracker = TRACKERS[self._name][1](self._run())
            what(self._tracker)
        except Exception as error:  # whatever a library of others raises must not end a training
            reason = one_line_named(error, 200)
            self._say(f"tracking with {self._name} stops here ({reason}); the run folder holds the same numbers")
            self._name = self._tracker = None
