"""Training of SuperLMs on Ray: Ray Train runs the workers and starts them again, what they did goes into a ledger.

joint   one `TorchTrainer`: each worker holds the teacher and all SuperLMs; one teacher forward feeds them all
split   each SuperLM has a `TorchTrainer` of its own, side by side as trials of Ray Tune (what the paper does)

The ledger is filled alike by both. The number of workers is elastic, from one to what was asked for: a training that
lost a node goes on with what is left.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import ray
import ray.train
from ray import tune
from ray.train.torch import TorchConfig, TorchTrainer
from ray.tune.integration.ray_train import TuneReportCallback

from autodistil.cluster.checkpoint_storage import Storage
from autodistil.cluster.ray_session import Session, check_resources
from autodistil.cluster.relay import Begun, Diverged, News, Saved, SavedCallback, Stepped, start_relay
from autodistil.cluster.train_worker import TrainJob, train_worker
from autodistil.config import RunConfig
from autodistil.errors import AutodistilError, ClusterError, ConfigError, DivergedError, one_line_named
from autodistil.training.trainer import StepMetrics
from autodistil.utils import Advance, Progress, stop_on_interrupt

_POLL_SECONDS = 0.2
_NEXT_TO_NOTHING = {"node:__internal_head__": 0.001}
"""What a trial takes that has workers of its own: Tune refuses nothing at all, and any CPU would be a worker's."""


class Ledger(Protocol):
    """The book in which the driver keeps what its workers did. A run has one; the cluster knows no run."""

    done: dict[str, int]
    """SuperLM -> steps entered so far."""

    def begin(self, steps_done: Mapping[str, int]) -> None:
        """A training goes on from these steps; what was entered beyond them is done again."""

    def step(self, rows: Sequence[StepMetrics]) -> None:
        """Enter steps."""

    def save(self, fetch: Callable[[str], str]) -> None:
        """Keep a checkpoint; `fetch` brings it into a folder and returns where it is."""

    def close(self) -> None:
        """Flush."""


def train_job(job: TrainJob, begun: Sequence[Path], ledger: Ledger, session: Session, progress: Progress) -> None:
    """Train to the end; Ctrl-C saves and stops.

    Args:
        job: what to train, and with how many workers.
        begun: folders of SuperLMs that were begun or finished before, for the workers.
        ledger: told what they do.
        session: an open one.
        progress: likewise.

    Raises:
        ClusterError: it failed more often than it may; what was saved is in the ledger.
        ConfigError: the storage cannot be reached.
        DivergedError: a loss or gradient is not finite; likewise.
        KeyboardInterrupt: it was stopped; everything is saved.
    """
    place = Storage.reached(job.storage) / job.label
    job = replace(job, relay=start_relay(), start=(place / "start").path if begun else None)
    split = job.config.layout == "split" and len(job.names) > 1
    try:
        for folder in begun:
            (place / "start" / folder.name).upload(folder)
        _follow(job, partial(_split, job, session) if split else partial(_fit, job), ledger, progress)
    finally:
        place.remove()  # all that matters is in the ledger


def check_fits(session: Session, config: RunConfig) -> None:
    """Refuse too many workers where no node can be added, and checkpoints that only one node sees.

    Raises:
        ClusterError: too small a cluster.
        ConfigError: several nodes and no storage.
    """
    if session.embedded:
        check_resources(session, config)
    if config.storage is None and session.nodes > 1:
        raise ConfigError(
            f"the cluster has {session.nodes} nodes and no storage is given; give --storage a folder that all of them "
            "see, or a URI such as s3://bucket/folder"
        )


def _fit(job: TrainJob, more_callbacks: Sequence[Any] = ()) -> None:
    """One Ray Train training, in a folder of its own of the job's."""
    config = job.config
    place = Storage.of(job.storage) / job.label
    workers: Any = (1, config.workers)  # elastic; the annotation is that of Ray Train's first version
    resources = {"CPU": float(config.cpus_per_worker)}
    if config.gpus_per_worker:
        resources["GPU"] = config.gpus_per_worker
    callbacks: Any = [SavedCallback(job.relay), *more_callbacks]
    TorchTrainer(
        train_worker,
        train_loop_config={"job": job},
        torch_config=TorchConfig(backend="nccl" if config.gpus_per_worker else "gloo"),
        scaling_config=ray.train.ScalingConfig(
            num_workers=workers, use_gpu=bool(config.gpus_per_worker), resources_per_worker=resources
        ),
        run_config=ray.train.RunConfig(
            name="-".join(job.names)[:100],
            storage_path=place.path,
            storage_filesystem=place.filesystem,
            failure_config=ray.train.FailureConfig(max_failures=config.max_failures),
            checkpoint_config=ray.train.CheckpointConfig(num_to_keep=2),
            callbacks=callbacks,
        ),
    ).fit()


def _split(job: TrainJob, session: Session) -> None:
    """A training for each SuperLM as trials of Ray Tune, as many at once as the cluster holds."""
    place = Storage.of(job.storage) / job.label
    results = tune.Tuner(
        tune.with_resources(tune.with_parameters(_trial, job=job), _NEXT_TO_NOTHING),
        param_space={"name": tune.grid_search(list(job.names))},
        tune_config=tune.TuneConfig(max_concurrent_trials=_at_once(job, session)),
        run_config=tune.RunConfig(
            name="trials", storage_path=place.path, storage_filesystem=place.filesystem, verbose=0
        ),
    ).fit()
    if results.errors:
        raise results.errors[0]


def _trial(parameters: dict[str, str], job: TrainJob) -> None:
    """A trial of Ray Tune: it needs nothing itself, its training has workers of its own."""
    _fit(replace(job, names=(parameters["name"],)), [TuneReportCallback()])


def _at_once(job: TrainJob, session: Session) -> int:
    """Trainings that fit side by side, at least one."""
    config = job.config
    rooms = [session.cpus / (config.workers * config.cpus_per_worker)]
    if config.gpus_per_worker:
        rooms.append(session.gpus / (config.workers * config.gpus_per_worker))
    return max(1, min(len(job.names), int(min(rooms))))


# ---- the driver's side


def _follow(job: TrainJob, fit: Callable[[], None], ledger: Ledger, progress: Progress) -> None:
    """Run `fit` in a thread while its news go into the ledger and onto the terminal; see `train_job`."""
    errors: list[Exception] = []

    def work() -> None:
        try:
            fit()
        except Exception as error:
            errors.append(error)

    thread = threading.Thread(target=work, name="ray-train", daemon=True)
    desk = NewsDesk(ledger, Storage.of(job.storage), progress)
    total = job.recipe.steps * len(job.names) - sum(ledger.done.values())
    thread.start()
    with stop_on_interrupt() as stop, progress.track("training", total) as advance:
        while True:
            ended = not thread.is_alive()  # before the last news are taken
            for news in _without_old_saves(ray.get(job.relay.take.remote())):
                desk.enter(news, advance)
            if ended:
                break
            if stop.requested or desk.diverged:
                ray.get(job.relay.stop.remote())
            time.sleep(_POLL_SECONDS)
        ledger.close()
    if desk.diverged:
        raise DivergedError(desk.diverged)
    if errors:
        raise _failed(errors[0], job) from errors[0]


def _without_old_saves(news: Sequence[News]) -> list[News]:
    """The news without checkpoints that a later one of the same training replaces."""
    latest = {Path(each.path).parent: each for each in news if isinstance(each, Saved)}
    return [each for each in news if not isinstance(each, Saved) or latest[Path(each.path).parent] is each]


class NewsDesk:
    """Enters news into the ledger and tells the terminal."""

    def __init__(self, ledger: Ledger, storage: Storage, progress: Progress) -> None:
        self._ledger, self._storage, self._progress = ledger, storage, progress
        self._speeds: dict[tuple[str, int], Stepped] = {}
        self._losses: dict[str, float] = {}
        self.diverged = ""
        """Why a training ended, where it diverged."""

    def enter(self, news: News, advance: Advance) -> None:
        """Enter one piece of news."""
        match news:
            case Begun():
                self._begin(news, advance)
            case Stepped():
                self._step(news, advance)
            case Diverged():
                self.diverged = news.message
            case Saved():
                with suppress(FileNotFoundError):  # Ray removed it meanwhile, so it has a successor
                    self._ledger.save(ray.train.Checkpoint(news.path, self._storage.filesystem).to_directory)

    def _begin(self, news: Begun, advance: Advance) -> None:
        """Take back the steps that were done after the checkpoint that it goes on from."""
        advance(-sum(self._ledger.done[name] - steps for name, steps in news.steps_done.items()))
        names = ", ".join(f"{name} from step {steps}" for name, steps in news.steps_done.items())
        self._progress.say(f"{news.workers} workers train {names}")
        self._ledger.begin(news.steps_done)
        again = "+".join(news.steps_done)
        self._speeds = {key: speed for key, speed in self._speeds.items() if key[0] != again}

    def _step(self, news: Stepped, advance: Advance) -> None:
        self._speeds[news.training, news.rank] = news
        if news.rows:
            self._ledger.step(news.rows)
            self._losses.update({row.sub_space: row.loss for row in news.rows})
            losses = "  ".join(f"{name} {loss:.3f}" for name, loss in self._losses.items())
            slowest = max(self._speeds.values(), key=lambda news: news.seconds)
            where = f"{len(self._speeds)} workers, slowest {slowest.rank} on {slowest.host}"
            advance(len(news.rows), f"{losses}  {where}: {slowest.seconds:.2f} s a step")


def _failed(error: Exception, job: TrainJob) -> AutodistilError:
    """The failure as one line: what a worker said, if it said something."""
    cause = error
    failures = getattr(error, "worker_failures", None) or {}
    for failure in failures.values():
        cause = getattr(failure, "_base_exc", failure)
    if isinstance(cause, AutodistilError):
        return cause
    text = one_line_named(cause, 300)
    return ClusterError(
        f"training on Ray failed more often than max_failures = {job.config.max_failures} ({text}); what was saved is "
        "in the run folder: go on with --resume"
    )
