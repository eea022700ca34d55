"""`autodistil train`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from autodistil.cli.main import app
from autodistil.cli.opening import given, open_run
from autodistil.cli.options import (
    Address,
    Assistant,
    BatchSize,
    ConfigFile,
    Corpus,
    CpusPerWorker,
    Device,
    GpusPerWorker,
    Layout,
    MaxFailures,
    Metric,
    ObjectiveName,
    Precision,
    RecipeFile,
    Resume,
    Seed,
    SeqLen,
    Space,
    Storage,
    Teacher,
    TeacherLayer,
    Threads,
    Track,
    TrainMinutes,
    TrainSteps,
    Workers,
)


@app.command(
    epilog="Example: `autodistil train --run runs/mine --teacher bert-base-uncased --corpus wiki/ --train-minutes 600`"
)
def train(
    run: Annotated[Path, typer.Option(help="Run folder.", metavar="DIR")],
    teacher: Teacher = None,
    corpus: Corpus = None,
    space: Space = None,
    objective: ObjectiveName = None,
    metric: Metric = None,
    assistant: Assistant = None,
    teacher_layer: TeacherLayer = None,
    train_steps: TrainSteps = None,
    train_minutes: TrainMinutes = None,
    batch_size: BatchSize = None,
    seq_len: SeqLen = None,
    seed: Seed = None,
    threads: Threads = None,
    device: Device = None,
    precision: Precision = None,
    workers: Workers = None,
    cpus_per_worker: CpusPerWorker = None,
    gpus_per_worker: GpusPerWorker = None,
    layout: Layout = None,
    address: Address = None,
    storage: Storage = None,
    max_failures: MaxFailures = None,
    track: Track = None,
    resume: Resume = False,
    config: ConfigFile = None,
    recipe: RecipeFile = None,
) -> None:
    """Train the SuperLMs of all sub-spaces."""
    options = given(locals(), skip=("run", "resume", "config", "recipe"))
    context = open_run(run, config, options, recipe=recipe)
    from autodistil import pipeline

    pipeline.train(context, resume)
    typer.echo(f"trained; search it with: autodistil search --run {run} --budget 500MFLOPs")
