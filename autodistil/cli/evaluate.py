"""`autodistil evaluate`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from autodistil.cli.main import app
from autodistil.cli.opening import given, set_threads
from autodistil.cli.options import Device, Json, Threads


@app.command(epilog="Example: `autodistil evaluate my-student --task stsb --task mrpc --data tasks/ --finetune`")
def evaluate(
    model: Annotated[
        str,
        typer.Argument(help="A student's folder, another Hugging Face encoder, or all-MiniLM-L6-v2.", metavar="DIR"),
    ],
    task: Annotated[
        list[str] | None,
        typer.Option(help="GLUE: cola, mrpc, ...; sts12 to sts16; a folder of --data. Repeatable.", metavar="NAME"),
    ] = None,
    data: Annotated[
        Path | None,
        typer.Option(
            help="Folder of tasks: [glue/|extra/]NAME/{train,dev,test}.tsv with the columns text_a, text_b (pairs) "
            "and label [default: the Hugging Face Hub].",
            metavar="DIR",
        ),
    ] = None,
    method: Annotated[
        str | None,
        typer.Option(
            help="similarity, probe or finetune [default: similarity where pairs have scores, else probe].",
            metavar="NAME",
        ),
    ] = None,
    finetune: Annotated[bool, typer.Option("--finetune", help="The same as --method finetune.")] = False,
    seeds: Annotated[int | None, typer.Option(help="Seeds [default: 3 for finetune, else 1].", metavar="N")] = None,
    max_train: Annotated[
        int | None,
        typer.Option(help="Training rows at most [default: 10,000 for probe, else all].", metavar="N"),
    ] = None,
    learning_rate: Annotated[
        list[float] | None,
        typer.Option(help="Of finetune; repeatable, the best counts [default: 5e-5, 1e-4, 3e-4].", metavar="LR"),
    ] = None,
    epochs: Annotated[int | None, typer.Option(help="Of finetune [default: 3 to 5 by rows].", metavar="N")] = None,
    batch_size: Annotated[int | None, typer.Option(help="Of finetune [default: 32].", metavar="N")] = None,
    max_length: Annotated[int | None, typer.Option(help="Tokens of a text [default: 128].", metavar="N")] = None,
    write: Annotated[
        bool | None,
        typer.Option(
            "--write/--no-write",
            help="Keep results in DIR: evaluation.json and README.md [default: if autodistil exported it].",
        ),
    ] = None,
    file: Annotated[
        str | None,
        typer.Option(
            help="ONNX file in DIR to score in the place of the weights, such as onnx/model_qint8.onnx; not kept.",
            metavar="FILE",
        ),
    ] = None,
    threads: Threads = None,
    device: Device = None,
    json: Json = False,
) -> None:
    """Score a model on labelled tasks: embedding similarity, a linear probe, or fine-tuning."""
    names = ("seeds", "max_train", "epochs", "batch_size", "max_length", "learning_rate", "device")
    options = given({name: value for name, value in locals().items() if name in names}, skip=())
    _check_method(method, finetune)
    from autodistil.cli.terminal import TerminalProgress, print_evaluation, quiet_libraries

    quiet_libraries()
    from autodistil.evaluation.evaluate import evaluate as evaluate_model
    from autodistil.tasks.finetune import EvaluationSettings

    options["learning_rates"] = options.pop("learning_rate", EvaluationSettings.learning_rates)
    settings = EvaluationSettings(**{"device": "auto", **options})
    set_threads(threads)
    chosen = "finetune" if finetune else method
    progress = TerminalProgress(stderr=json)
    results, path = evaluate_model(model, tuple(task or ()), data, chosen, settings, write, progress, file)
    print_evaluation(model, results, path, as_json=json)


def _check_method(method: str | None, finetune: bool) -> None:
    if finetune and method not in (None, "finetune"):
        from autodistil.errors import ConfigError

        raise ConfigError(f"--finetune and --method {method} are both given; give one of them")
