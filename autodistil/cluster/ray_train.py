"""Training of SuperLMs on Ray: Ray Train runs the workers and starts them again, the run folder stays with the driver.

Two layouts fill the same run folder:

joint   one `TorchTrainer`: each worker holds the teacher and all SuperLMs; one teacher forward feeds them all
split   each SuperLM has a `TorchTrainer` of its own, side by side as trials of Ray Tune (what the paper does)

The number of workers is elastic, from one to what was asked for: a training that lost a node goes on with what is left.
"""

from __future__ import annotations

import os
import tempfile
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import ray
import ray.train
from ray import tune
from ray.train.torch import TorchConfig, TorchTrainer
from ray.tune.integration.ray_train import TuneReportCallback

from autodistil.cluster.checkpoint_storage import Storage
from autodistil.cluster.ray_session import Session, check_resources, ray_session
from autodistil.cluster.relay import Begun, News, Saved, SavedCallback, Stepped, start_relay
from autodistil.cluster.train_worker import TrainJob, train_worker
from autodistil.config import RunConfig
from autodistil.errors import AutodistilError, ClusterError, ConfigError, one_line_named
from autodistil.run.run import RunContext
from autodistil.space.files import shipped_spaces
from autodistil.space.space import SubSpace
from autodistil.training.checkpoint import CHECKPOINT, WEIGHTS, steps_saved
from autodistil.training.metrics import MetricsLog
from autodistil.training.recipe import Recipe
from autodistil.training.workers import check_batch
from autodistil.utils import Advance, stop_on_interrupt

_POLL_SECONDS = 0.2
_NEXT_TO_NOTHING = {"node:__internal_head__": 0.001}
"""What a trial takes that has workers of its own: Tune refuses nothing at all, and any CPU would be a worker's."""


def train_on_cluster(
    context: RunContext,
    sub_spaces: Sequence[SubSpace],
    recipe: Recipe,
    after_step: Callable[[int, int], None] | None = None,
) -> None:
    """Train SuperLMs that one teacher teaches, from what the run folder holds of them, to the end.

    Args:
        context: an open run whose configuration says how many workers there are and where.
        sub_spaces: what to train.
        recipe: of all of them.
        after_step: see `TrainJob`.

    Raises:
        ClusterError: no cluster, too small a one, or more failures than allowed; the last checkpoint is kept.
        ConfigError: more workers than texts in a micro-batch, or a storage that not all nodes see.
    """
    config = context.config
    check_batch(context.text.batch_size // config.accumulate, config.workers)
    with ray_session(config.address, context.progress) as session:
        _check_fits(session, config)
        names = tuple(sub.name for sub in sub_spaces)
        job = _job(context, names, recipe, after_step)
        with _staged(context, sub_spaces, job) as job:
            split = config.layout == "split" and len(names) > 1
            _follow(context, job, partial(_split, job, session) if split else partial(_fit, job))


def _job(
    context: RunContext, names: tuple[str, ...], recipe: Recipe, after_step: Callable[[int, int], None] | None
) -> TrainJob:
    return TrainJob(
        label=f"{context.folder.path.resolve().name}-{uuid.uuid4().hex[:8]}",
        config=_portable(context.config),
        files=_files(context),
        names=names,
        recipe=recipe,
        storage=context.config.storage or str(context.folder.path / "ray"),
        start=None,
        relay=start_relay(),
        after_step=after_step,
    )


def _check_fits(session: Session, config: RunConfig) -> None:
    """Refuse too many workers where no node can be added, and checkpoints that only one node sees."""
    if session.embedded:
        check_resources(session, config)
    if config.storage is None and session.nodes > 1:
        raise ConfigError(
            f"the cluster has {session.nodes} nodes and no storage is given; give --storage a folder that all of them "
            "see, or a URI such as s3://bucket/folder"
        )


@contextmanager
def _staged(context: RunContext, sub_spaces: Sequence[SubSpace], job: TrainJob) -> Iterator[TrainJob]:
    """A job with what was trained before in a folder of the storage, which ends with the block.

    All that matters is then in the run folder.
    """
    place = Storage.of(job.storage) / job.label
    names = [sub.name for sub in sub_spaces] + ([context.config.assistant or ""] if context.taught else [])
    begun = [folder for name in names if name and (folder := context.folder.superlm_folder(name)).is_dir()]
    try:
        for folder in begun:
            (place / "start" / folder.name).upload(folder)
        yield replace(job, start=(place / "start").path if begun else None)
    finally:
        place.remove()


def _portable(config: RunConfig) -> RunConfig:
    """The configuration with whole paths, for workers that run in another folder."""

    def whole(source: str) -> str:
        return str(Path(source).expanduser().resolve()) if Path(source).expanduser().exists() else source

    return replace(
        config,
        teacher=whole(config.teacher),
        corpus=tuple(whole(source) for source in config.corpus),
        assistant=whole(config.assistant) if config.assistant and "/" in config.assistant else config.assistant,
    )


def _files(context: RunContext) -> dict[str, bytes]:
    """What workers must not compute anew: the order of dimensions; and the record that they check theirs against."""
    paths = {"run.yaml": context.folder.record_path}
    if context.config.order != "none" or context.config.layer_map == "influence":
        _ = context.importance_order
        paths["importance.safetensors"] = context.folder.path / "importance.safetensors"
    space = context.config.space
    if space is not None and space not in ("auto", *shipped_spaces()):
        paths["space.yaml"] = Path(space).expanduser()
    return {name: path.read_bytes() for name, path in paths.items()}


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
            num_workers=workers,
            use_gpu=bool(config.gpus_per_worker),
            resources_per_worker=resources,
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


def _follow(context: RunContext, job: TrainJob, fit: Callable[[], None]) -> None:
    """Run `fit` while its news go into the run folder and onto the terminal; Ctrl-C saves and stops.

    Raises:
        ClusterError: it failed more often than it may.
        KeyboardInterrupt: it was stopped; everything is saved.
    """
    thread = _Fitting(fit)
    ledger = _Ledger(context, job)
    total = job.recipe.steps * len(job.names) - sum(ledger.done.values())
    thread.start()
    with stop_on_interrupt() as stop, context.progress.track("training", total) as advance:
        while True:
            ended = not thread.is_alive()  # before the last news are taken
            for news in _without_old_saves(ray.get(job.relay.take.remote())):
                ledger.enter(news, advance)
            if ended:
                break
            if stop.requested:
                ray.get(job.relay.stop.remote())
            time.sleep(_POLL_SECONDS)
    ledger.close()
    if stop.requested:
        raise KeyboardInterrupt
    if thread.error is not None:
        raise _failed(thread.error, job) from thread.error
    missing = [name for name in job.names if not (context.folder.superlm_folder(name) / WEIGHTS).is_file()]
    assert not missing, f"a training ended without the weights of {missing}"


def _without_old_saves(news: Sequence[News]) -> list[News]:
    """The news without checkpoints that a later one of the same training replaces."""
    latest = {Path(each.path).parent: each for each in news if isinstance(each, Saved)}
    return [each for each in news if not isinstance(each, Saved) or latest[Path(each.path).parent] is each]


class _Fitting(threading.Thread):
    """A training in a thread of its own, so that the driver can follow it. What it raised is kept."""

    def __init__(self, fit: Callable[[], None]) -> None:
        super().__init__(name="ray-train", daemon=True)
        self._fit = fit
        self.error: Exception | None = None

    def run(self) -> None:
        """Fit."""
        try:
            self._fit()
        except Exception as error:
            self.error = error


class _Ledger:
    """Enters news into the run folder: metrics, and checkpoints as soon as they are complete."""

    def __init__(self, context: RunContext, job: TrainJob) -> None:
        self._context = context
        self._job = job
        self.done = {name: steps_saved(context.folder.superlm_folder(name)) for name in job.names}
        self._log: MetricsLog | None = None
        self._speeds: dict[tuple[str, int], Stepped] = {}
        self._losses: dict[str, float] = {}
        self._entries: dict[type, Callable[[Any, Advance], None]] = {
            Begun: self._begin,
            Stepped: self._step,
            Saved: self._save,
        }

    def enter(self, news: News, advance: Advance) -> None:
        """Enter one piece of news."""
        self._entries[type(news)](news, advance)

    def close(self) -> None:
        """Flush."""
        if self._log is not None:
            self._log.close()

    def _begin(self, news: Begun, advance: Advance) -> None:
        """Forget the steps that were done after the checkpoint that it goes on from."""
        self.close()
        lost = sum(self.done[name] - steps for name, steps in news.steps_done.items())
        advance(-lost)
        self.done.update(news.steps_done)
        names = ", ".join(f"{name} from step {steps}" for name, steps in news.steps_done.items())
        self._context.progress.say(f"{news.workers} workers train {names}")
        folder = self._context.folder
        self._log = MetricsLog(
            folder.metrics_path, self.done, folder.path / "tensorboard", self._context.tracker.log_step
        )
        again = "+".join(news.steps_done)
        self._speeds = {key: speed for key, speed in self._speeds.items() if key[0] != again}

    def _step(self, news: Stepped, advance: Advance) -> None:
        self._speeds[news.training, news.rank] = news
        if not news.rows:
            return
        assert self._log is not None, "steps before the training began"
        self._log.append(news.rows)
        for row in news.rows:
            self.done[row.sub_space] = row.step
            self._losses[row.sub_space] = row.loss
        advance(len(news.rows), self._status())

    def _status(self) -> str:
        losses = "  ".join(f"{name} {loss:.3f}" for name, loss in self._losses.items())
        slowest = max(self._speeds.values(), key=lambda news: news.seconds)
        return (
            f"{losses}  {len(self._speeds)} workers, slowest {slowest.rank} on {slowest.host}: "
            f"{slowest.seconds:.2f} s a step"
        )

    def _save(self, news: Saved, advance: Advance) -> None:
        """Bring a checkpoint into the run folder, each file whole; one that Ray removed meanwhile has a successor."""
        checkpoint = ray.train.Checkpoint(news.path, Storage.of(self._job.storage).filesystem)
        with (
            tempfile.TemporaryDirectory(dir=self._context.folder.path, prefix=".ray-") as scratch,
            suppress(FileNotFoundError),
        ):
            for source in Path(checkpoint.to_directory(scratch)).iterdir():
                if source.is_dir():
                    self._replace(source, self._context.folder.superlm_folder(source.name))

    def _replace(self, source: Path, target: Path) -> None:
        target.mkdir(parents=True, exist_ok=True)
        for name in (WEIGHTS, CHECKPOINT):
            if (source / name).is_file():
                os.replace(source / name, target / name)
        if (target / WEIGHTS).is_file():
            (target / CHECKPOINT).unlink(missing_ok=True)


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
