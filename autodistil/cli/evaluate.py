"""`autodistil evaluate`: scores on labelled tasks as a table or as JSON."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from autodistil.cli.app import app
from autodistil.cli.opening import set_threads
from autodistil.cli.options import Json, given, with_flags
from autodistil.cli.terminal import print_json, print_lines, print_table, quiet_libraries
from autodistil.config import OPTIONS

if TYPE_CHECKING:
    from autodistil.evaluation.results import TaskResult


@app.command(epilog="Example: `autodistil evaluate my-student --task stsb --task mrpc --data tasks/ --finetune`")
@with_flags("threads", "device")
def evaluate(
    *,
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
            "and label, or collections as BEIR has them: [retrieval/]NAME/{corpus,queries}.jsonl and qrels/test.tsv "
            "[default: the Hugging Face Hub].",
            metavar="DIR",
        ),
    ] = None,
    method: Annotated[
        str | None,
        typer.Option(
            help="similarity, probe, finetune, cluster; retrieval or rerank of a collection [default: similarity where "
            "pairs have scores, rerank where a collection names candidates, else retrieval or probe].",
            metavar="NAME",
        ),
    ] = None,
    split: Annotated[
        str | None, typer.Option(help="dev or test [default: dev where there is one].", metavar="NAME")
    ] = None,
    finetune: Annotated[bool, typer.Option("--finetune", help="The same as --method finetune.")] = False,
    seeds: Annotated[int | None, typer.Option(help="Seeds [default: 3 of finetune and cluster].", metavar="N")] = None,
    max_train: Annotated[
        int | None, typer.Option(help="Training rows at most [default: 10,000 for probe, else all].", metavar="N")
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
    options: dict[str, Any],
    json: Json = False,
) -> None:
    """Score a model on labelled tasks: embedding similarity, retrieval, clusters, a linear probe, or fine-tuning."""
    if finetune and method not in (None, "finetune"):
        from autodistil.errors import ConfigError

        raise ConfigError(f"--finetune and --method {method} are both given; give one of them")
    options = {name: OPTIONS[name].checked(name, value) for name, value in options.items()}  # they make no RunConfig
    quiet_libraries()
    from autodistil.cli.progress import TerminalProgress
    from autodistil.evaluation.evaluate import evaluate as evaluate_model
    from autodistil.tasks.finetune import EvaluationSettings

    set_threads(options.pop("threads", None))
    options |= given(seeds=seeds, max_train=max_train, epochs=epochs, batch_size=batch_size, max_length=max_length)
    settings = EvaluationSettings(**{"device": "auto", **options, **given(learning_rates=learning_rate)})
    chosen = "finetune" if finetune else method
    progress = TerminalProgress(stderr=json)
    results, path = evaluate_model(model, tuple(task or ()), data, chosen, settings, write, progress, file, split)
    if json:
        written = str(path) if path else None
        print_json({"model": model, "results": [result.to_dict() for result in results], "written": written})
        return
    _print_results(model, results)
    print_lines(f"written: {path}" if path else "not written into the model's folder (see --write)")


def _print_results(model: str, results: Sequence[TaskResult]) -> None:
    from autodistil.evaluation.results import METHOD_NAMES, mean_and_spread

    rows = []
    for result in results:
        metrics = [f"{name} {mean_and_spread(values, 100, 1)}" for name, values in result.metrics.items()]
        split = f"{result.split} ({result.rows:,})"
        cells = (result.task, METHOD_NAMES[result.method], split, f"{result.train_rows:,}", ", ".join(metrics))
        rows.append((*cells, str(result.seeds)))
    print_table(
        f"{model} on labelled tasks",
        ("task", "method", "split", "trained on", "metrics", "seeds"),
        rows,
        caption="metrics times 100; ± is the sample standard deviation over seeds",
        right=("trained on", "seeds"),
    )
