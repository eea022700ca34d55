"""What one worker of a training on Ray does: the same steps as a training on one machine, on its part of each batch."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import ray.train
import ray.train.torch
import torch

from autodistil.cluster.checkpoint_storage import Storage
from autodistil.cluster.relay import Begun, Diverged, Reporter
from autodistil.config import RunConfig
from autodistil.data.batch import Batch
from autodistil.errors import DivergedError
from autodistil.models.teacher import Teacher
from autodistil.training.checkpoint import check_finite, restore_checkpoint, save_checkpoint
from autodistil.training.recipe import Recipe
from autodistil.training.trainer import StepMetrics, SuperLMTrainer, train
from autodistil.training.workers import DistributedWorkers

Opened = tuple[list[SuperLMTrainer], Teacher, Callable[[int], Iterator[Batch]], int | None, torch.device]
"""Trainers from the start, their teacher, the batches of a step, the teacher's layer to distil, and the device."""
OpenTraining = Callable[[Path, RunConfig, Sequence[str], Recipe, Path | None], Opened]
"""Folder, configuration, sub-spaces, recipe and folder of the SuperLMs that were begun before -> what to train."""


@dataclass(frozen=True)
class TrainJob:
    """Everything that a worker needs; it sees no file of the driver."""

    label: str
    """Name of its folder in the storage."""
    config: RunConfig
    files: Mapping[str, bytes]
    """Files of the run folder by name: the record, to check teacher and text against, and the importance order."""
    names: tuple[str, ...]
    """Sub-spaces to train side by side."""
    recipe: Recipe
    storage: str
    open: OpenTraining
    """What a worker trains, from a folder with `files`; it travels by its name."""
    start: str | None = None
    """Where in the storage the SuperLMs lie that were begun or finished before; None where there are none."""
    relay: Any = None
    after_step: Callable[[int, int], None] | None = None
    """Called with (rank, steps done) after each step: tests let workers fail in it."""


def train_worker(config: Mapping[str, TrainJob]) -> None:
    """Train to the end, to a checkpoint when asked to stop, or until this worker is lost."""
    job = config["job"]
    with tempfile.TemporaryDirectory(prefix="autodistil-", ignore_cleanup_errors=True) as folder:
        for name, content in job.files.items():
            path = Path(folder) / name
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(content)
        own = replace(job.config, device=_device(job.config))
        torch.set_num_threads(own.threads or own.cpus_per_worker)
        begun = ray.train.Checkpoint(job.start, Storage.of(job.storage).filesystem) if job.start else None
        with _opened(begun) as start:
            opened = job.open(Path(folder), own, job.names, job.recipe, start)
        workers = DistributedWorkers.current()
        with _opened(ray.train.get_checkpoint() or begun) as checkpoint:  # what was saved last, else what was begun
            for trainer in opened[0]:
                if checkpoint is not None:
                    restore_checkpoint(trainer, checkpoint / trainer.name)
                workers.broadcast(trainer.superlm.parameters.values())
        _Training(job, workers, *opened).run()


@dataclass
class _Training:
    """The loop with its checkpoints. What workers do together, they must decide together."""

    job: TrainJob
    workers: DistributedWorkers
    trainers: list[SuperLMTrainer]
    teacher: Teacher
    batches: Callable[[int], Iterator[Batch]]
    layer: int | None
    device: torch.device

    def run(self) -> None:
        """Train; where it diverges, which all workers see alike, the driver is told and nothing is tried again."""
        self.reporter = Reporter(self.job.relay, "+".join(self.job.names), self.workers.rank)
        self.last_save = time.monotonic()
        self.stopped = False
        done = {trainer.name: trainer.steps_done for trainer in self.trainers}
        if self.workers.rank == 0:
            ray.get(self.job.relay.post.remote(Begun(done, self.workers.size)))
        step, stopped = self._on_step, lambda: self.stopped
        try:
            train(self.trainers, self.teacher, self.batches, step, self.layer, stopped, self.workers)
        except DivergedError as error:
            if self.workers.rank == 0:
                self.reporter.flush()
                ray.get(self.job.relay.post.remote(Diverged(str(error))))

    def _on_step(self, rows: list[StepMetrics]) -> None:
        self.reporter.add(rows)
        if self.job.after_step is not None:
            self.job.after_step(self.workers.rank, rows[0].step)
        due = time.monotonic() - self.last_save >= self.job.config.checkpoint_seconds
        due, self.stopped = self.workers.agree([due, self.reporter.stop_wanted], self.device)
        finished = {trainer.name for trainer in self.trainers if trainer.finished} & {row.sub_space for row in rows}
        if due or self.stopped or finished:
            self._save(rows)

    def _save(self, rows: list[StepMetrics]) -> None:
        """Hand a complete checkpoint to Ray; every worker reports, the first one with the files."""
        for trainer in self.trainers:
            check_finite(trainer)  # here, so that no worker waits for one that refuses to save
        self.reporter.flush()
        metrics = {f"{row.sub_space}/loss": row.loss for row in rows} | {"step": rows[0].step}
        if self.workers.rank:
            ray.train.report(metrics)
        else:
            with tempfile.TemporaryDirectory() as folder:
                for trainer in self.trainers:
                    save_checkpoint(trainer, Path(folder) / trainer.name)
                ray.train.report(metrics, checkpoint=ray.train.Checkpoint.from_directory(folder))
        self.last_save = time.monotonic()


def _device(config: RunConfig) -> Literal["cpu", "cuda"]:
    if not config.gpus_per_worker:
        return "cpu"
    torch.cuda.set_device(ray.train.torch.get_device())  # "cuda" is this one from here on
    return "cuda"


@contextmanager
def _opened(checkpoint: ray.train.Checkpoint | None) -> Iterator[Path | None]:
    """The folder of a checkpoint while the block runs; None where there is no checkpoint."""
    with nullcontext() if checkpoint is None else checkpoint.as_directory() as folder:
        yield None if folder is None else Path(folder)
