"""What one worker of a training on Ray does: the same steps as a training on one machine, on its part of each batch."""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import ray.train
import ray.train.torch
import torch

from autodistil.cluster.checkpoint_storage import Storage
from autodistil.cluster.relay import Begun, Reporter
from autodistil.config import RunConfig
from autodistil.run.folder import RunFolder
from autodistil.run.run import RunContext
from autodistil.training.checkpoint import restore_checkpoint, save_checkpoint
from autodistil.training.recipe import Recipe
from autodistil.training.trainer import StepMetrics, SuperLMTrainer, train
from autodistil.training.workers import DistributedWorkers


@dataclass(frozen=True)
class TrainJob:
    """Everything that a worker needs; it sees no file of the driver."""

    label: str
    """Of its folder in the storage."""
    config: RunConfig
    files: Mapping[str, bytes]
    """Of the run folder, by name: the record, which teacher and text are checked against, and the importance order."""
    names: tuple[str, ...]
    """Sub-spaces to train side by side."""
    recipe: Recipe
    storage: str
    start: str | None
    """Where in the storage the SuperLMs lie that were begun or finished before; None where there are none."""
    relay: Any
    after_step: Callable[[int, int], None] | None = None
    """Called with (rank, steps done) after each step: tests let workers fail in it."""


def train_worker(config: Mapping[str, TrainJob]) -> None:
    """Train to the end, to a checkpoint when asked to stop, or until this worker is lost."""
    job = config["job"]
    with _context(job) as context:
        workers = DistributedWorkers.current()
        superlms = [context.new_superlm(context.space.sub_space(name)) for name in job.names]
        trainers = [SuperLMTrainer(superlm, job.recipe, context.objective) for superlm in superlms]
        with _last_checkpoint(job) as folder:
            for trainer in trainers:
                if folder is not None:
                    restore_checkpoint(trainer, folder / trainer.name)
        for trainer in trainers:
            trainer.targets = context.targets_for(trainer.name)
            workers.broadcast(trainer.superlm.parameters.values())
        _Training(job, context, workers, trainers).run()


class _Training:
    """The loop with its checkpoints. What workers do together, they must decide together."""

    def __init__(
        self, job: TrainJob, context: RunContext, workers: DistributedWorkers, trainers: list[SuperLMTrainer]
    ) -> None:
        self.job, self.context, self.workers, self.trainers = job, context, workers, trainers
        self.reporter = Reporter(job.relay, "+".join(job.names), workers.rank)
        self.last_save = time.monotonic()
        self.stopped = False

    def run(self) -> None:
        done = {trainer.name: trainer.steps_done for trainer in self.trainers}
        if self.workers.rank == 0:
            ray.get(self.job.relay.post.remote(Begun(done, self.workers.size)))
        train(
            self.trainers,
            self.context.ordered_teacher,
            self.context.text.micro_batches,
            self._on_step,
            self.context.config.teacher_layer,
            lambda: self.stopped,
            self.workers,
        )

    def _on_step(self, rows: list[StepMetrics]) -> None:
        self.reporter.add(rows)
        if self.job.after_step is not None:
            self.job.after_step(self.workers.rank, rows[0].step)
        due = time.monotonic() - self.last_save >= self.context.config.checkpoint_seconds
        due, self.stopped = self.workers.agree([due, self.reporter.stop_wanted], self.context.device)
        finished = {trainer.name for trainer in self.trainers if trainer.finished} & {row.sub_space for row in rows}
        if due or self.stopped or finished:
            self._save(rows)

    def _save(self, rows: list[StepMetrics]) -> None:
        """Hand a complete checkpoint to Ray; every worker reports, the first one with the files."""
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


@contextmanager
def _context(job: TrainJob) -> Iterator[RunContext]:
    """The run as this worker sees it, in a folder of its own."""
    folder = Path(tempfile.mkdtemp(prefix="autodistil-"))
    try:
        for name, content in job.files.items():
            (folder / name).write_bytes(content)
        space = folder / "space.yaml"
        config = replace(
            job.config,
            device=_device(job.config),
            space=str(space) if space.is_file() else job.config.space,
        )
        torch.set_num_threads(job.config.threads or job.config.cpus_per_worker)
        context = RunContext(RunFolder(folder), config)
        _ = context.training_text  # another text than the driver's is refused
        with _opened(job, job.start) as start:
            if start is not None and context.taught:  # what an assistant of the run was trained to
                shutil.copytree(start, folder / "superlm")
        yield context
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _device(config: RunConfig) -> str:
    if not config.gpus_per_worker:
        return "cpu"
    torch.cuda.set_device(ray.train.torch.get_device())  # "cuda" is this one from here on
    return "cuda"


@contextmanager
def _last_checkpoint(job: TrainJob) -> Iterator[Path | None]:
    """Folder of what this training saved last, else of what it was begun with; None where there is neither."""
    checkpoint = ray.train.get_checkpoint()
    if checkpoint is None:
        with _opened(job, job.start) as folder:
            yield folder
        return
    with checkpoint.as_directory() as folder:
        yield Path(folder)


@contextmanager
def _opened(job: TrainJob, path: str | None) -> Iterator[Path | None]:
    if path is None:
        yield None
        return
    with ray.train.Checkpoint(path, Storage.of(job.storage).filesystem).as_directory() as folder:
        yield Path(folder)
