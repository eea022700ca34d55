"""`autodistil tune`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from autodistil.cli.main import app
from autodistil.cli.opening import given, open_run
from autodistil.cli.options import (
    Address,
    BatchSize,
    ConfigFile,
    Corpus,
    CpusPerWorker,
    Device,
    GpusPerWorker,
    ObjectiveName,
    Precision,
    Resume,
    Seed,
    SeqLen,
    Space,
    Storage,
    Teacher,
    TeacherLayer,
    Workers,
)


@app.command(epilog="Example: `autodistil tune --run runs/tuning --corpus texts/ --samples 30 --workers 4`")
def tune(
    run: Annotated[Path, typer.Option(help="Run folder of the tuning, not of a search.", metavar="DIR")],
    samples: Annotated[int, typer.Option(help="Recipes to try.", metavar="N", min=1)] = 12,
    teacher: Teacher = None,
    corpus: Corpus = None,
    space: Space = None,
    objective: ObjectiveName = None,
    teacher_layer: TeacherLayer = None,
    train_steps: Annotated[int | None, typer.Option(help="Steps of a trial [default: 90].", metavar="N")] = None,
    batch_size: BatchSize = None,
    seq_len: SeqLen = None,
    seed: Seed = None,
    device: Device = None,
    precision: Precision = None,
    workers: Workers = None,
    cpus_per_worker: CpusPerWorker = None,
    gpus_per_worker: GpusPerWorker = None,
    address: Address = None,
    storage: Storage = None,
    resume: Resume = False,
    config: ConfigFile = None,
) -> None:
    """Find learning rate, relation heads, layer map and random students by short trainings on Ray Tune."""
    context = open_run(run, config, given(locals(), skip=("run", "samples", "resume", "config")))
    from autodistil.cli import terminal as console
    from autodistil.stages.tuning import tune_recipe

    console.print_tuned(tune_recipe(context, samples, resume))
