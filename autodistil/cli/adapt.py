"""`autodistil adapt`: a classifier, scorer, finder of entities or of answers from a student, beside its teacher."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from autodistil.cli.app import app
from autodistil.cli.opening import open_existing, set_threads
from autodistil.cli.options import Json, given, with_flags
from autodistil.cli.terminal import print_json, print_lines, print_table, quiet_libraries
from autodistil.config import OPTIONS

if TYPE_CHECKING:
    from autodistil.export.adapted_folder import Adaptation

_NAMES = {"student": "student", "plain": "student, labels alone", "teacher": "teacher"}


@app.command(
    epilog="Example: `autodistil adapt my-student --task sst2 --data tasks/ --teacher my-bert-sst2 --to my-sst2`"
)
@with_flags("threads", "device")
def adapt(
    *,
    student: Annotated[
        str | None, typer.Argument(help="A student's folder, or another Hugging Face encoder.", metavar="DIR")
    ] = None,
    task: Annotated[
        str,
        typer.Option(
            help="As of evaluate, or a folder with train.tsv and dev.tsv or test.tsv, or .json of SQuAD; of images "
            "train/ and test/ with a folder for each class.",
            metavar="NAME|DIR",
        ),
    ],
    to: Annotated[Path, typer.Option(help="New folder for the fine-tuned student.", metavar="DIR")],
    teacher: Annotated[
        list[str] | None,
        typer.Option(
            help="A model fine-tuned on the task; an encoder is fine-tuned first, and kept [default: that of --run]. "
            "Repeatable: their logits are mixed.",
            metavar="ID|DIR",
        ),
    ] = None,
    teacher_weight: Annotated[
        list[float] | None,
        typer.Option(help="Of each teacher in turn [default: by how well each one fits the task].", metavar="W"),
    ] = None,
    run: Annotated[
        Path | None, typer.Option(help="A searched run, whose student and teacher are taken.", metavar="DIR")
    ] = None,
    pick: Annotated[str, typer.Option(help="Of --run: best, half, near, knee or an id.", metavar="PICK")] = "best",
    data: Annotated[Path | None, typer.Option(help="Folder of tasks, as of evaluate.", metavar="DIR")] = None,
    unlabelled: Annotated[
        list[Path] | None,
        typer.Option(
            help="More text of the task, which the teacher labels: lines, or tab-separated text_a, text_b, or tokens; "
            "or a folder of images. Repeatable.",
            metavar="FILE",
        ),
    ] = None,
    objective: Annotated[
        str,
        typer.Option(
            help="How rows teach, as docs/adapting.md lists, or a sum such as soft-targets+0.5*ps-kd.",
            metavar="NAME",
        ),
    ] = "auto",
    balanced: Annotated[bool, typer.Option("--balanced", help="Classes weigh alike, however many rows.")] = False,
    abstain: Annotated[
        float | None,
        typer.Option(
            help="Choose a confidence below which it does not answer: at most this share of answers wrong, such as "
            "0.05, on the rows that choose.",
            metavar="RISK",
        ),
    ] = None,
    no_plain: Annotated[bool, typer.Option("--no-plain", help="Leave out the comparison with labels alone.")] = False,
    seed: Annotated[int, typer.Option(help="Decides the new head and the order of rows.", metavar="N")] = 0,
    max_train: Annotated[int | None, typer.Option(help="Training rows at most.", metavar="N")] = None,
    learning_rate: Annotated[
        list[float] | None,
        typer.Option(
            help="Repeatable; the best on held-out training rows is taken [default: 5e-5, 1e-4, 3e-4].", metavar="LR"
        ),
    ] = None,
    epochs: Annotated[int | None, typer.Option(help="At most [default: 3 to 5 by rows].", metavar="N")] = None,
    batch_size: Annotated[int | None, typer.Option(help="Rows a step [default: 32].", metavar="N")] = None,
    max_length: Annotated[int | None, typer.Option(help="Tokens of a text [default: 128].", metavar="N")] = None,
    formats: Annotated[
        list[str] | None,
        typer.Option(
            "--format",
            help="Beside: onnx, onnx-int8, onnx-bits, openvino, openvino-int8. Repeatable.",
            metavar="FORMAT",
        ),
    ] = None,
    options: dict[str, Any],
    json: Json = False,
) -> None:
    """Fine-tune a student on labelled rows, taught by a fine-tuned teacher: a model to serve."""
    from autodistil.errors import ConfigError

    if (student is None) == (run is None):
        raise ConfigError("give a student's folder, or --run with a searched run, one of them")
    options = {name: OPTIONS[name].checked(name, value) for name, value in options.items()}  # they make no RunConfig
    quiet_libraries()
    from autodistil.cli.progress import TerminalProgress
    from autodistil.stages.adapting import adapt as adapt_student
    from autodistil.tasks.finetune import EvaluationSettings

    set_threads(options.pop("threads", None))
    options |= given(max_train=max_train, epochs=epochs, batch_size=batch_size, max_length=max_length)
    settings = EvaluationSettings(**{"device": "auto", **options, **given(learning_rates=learning_rate)})
    if run is not None:
        from autodistil import pipeline

        student, own = pipeline.student_to_adapt(open_existing(run, json), pick)
        teacher = teacher or [own]
    assert student is not None
    found = adapt_student(
        student,
        task,
        to,
        data_dir=data,
        teacher=teacher or None,
        teacher_weights=tuple(teacher_weight or ()),
        settings=settings,
        objective=objective,
        unlabelled=tuple(unlabelled or ()),
        balanced=balanced,
        seed=seed,
        plain=not no_plain,
        abstain=abstain,
        formats=tuple(formats or ()),
        progress=TerminalProgress(stderr=json),
    )
    if json:
        print_json(found.to_dict())
    else:
        _print(found)


def _print(found: Adaptation) -> None:
    metrics = list(found.metrics["student"])
    rows = [
        (_NAMES[who], *(f"{100 * scores[metric]:.1f}" for metric in metrics)) for who, scores in found.metrics.items()
    ]
    trust = ", trust_remote_code=True" if found.own_architecture else ""
    more = ("" if found.images else ', aggregation_strategy="first"' if found.words else ", truncation=True") + trust
    call = f'pipeline("{found.pipeline}", "{found.path}"{more})'
    if found.images and found.grey:  # of which a pipeline makes colours
        call = f'AutoModelForImageClassification.from_pretrained("{found.path}"{trust}), as its README.md shows'
    if found.spans:  # transformers has no pipeline for them
        call = f'AutoModelForQuestionAnswering.from_pretrained("{found.path}"{trust}), as its README.md shows'
    error = ", ".join(f"{name} {100 * value:.1f}" for name, value in found.standard_error.items())
    print_table(
        f"{found.task}, {found.split} ({found.rows:,} rows)",
        ("model", *metrics),
        rows,
        caption=f"times 100; nothing was chosen on these rows; their choice brings a standard error of: {error or '–'}",
        right=tuple(metrics),
    )
    _print_classes(found)
    print_lines(
        f"objective {found.objective}, learning rate {found.learning_rate:g}, epoch {found.epoch}",
        *([found.doubt] if found.doubt else []),
        *_abstention_lines(found),
        *(f"{one.format}: {one.line}" for one in found.more),
        *([f"teacher: {found.teacher}"] if found.teacher else []),
        f"use it: {call}",
    )


def _print_classes(found: Adaptation) -> None:
    """A row a class, where they are few."""
    rows = []
    for number, (name, scores, answers) in enumerate(found.class_rows):
        others = [(count, other) for other, count in enumerate(answers) if other != number and count]
        most, other = max(others, key=lambda one: one[0], default=(0, number))
        shares = (f"{100 * scores[metric]:.1f}" for metric in ("precision", "recall", "f1"))
        rows.append((name, f"{scores['support']:,}", *shares, f"{found.classes[other]} ({most:,})" if most else "–"))
    columns = ("class", "words" if found.words else "rows", "precision", "recall", "F1", "most often mistaken for")
    if rows:
        print_table("by class", columns, rows, right=columns[1:5])


def _abstention_lines(found: Adaptation) -> list[str]:
    rule = found.abstention
    if rule is None:
        return []
    asked = f"at most {100 * rule['risk']:g} % of answers wrong on {rule['chosen_rows']:,} rows that chose"
    if found.threshold is None:
        return [f"{asked}: no confidence holds that, so it always answers"]
    reported = rule["reported"]
    wrong = "" if reported["error"] is None else f", {100 * reported['error']:.1f} % of these answers wrong"
    there = f"on {found.split} {100 * reported['coverage']:.1f} % are answered{wrong}"
    return [f"do not answer below {found.threshold:.3f}: {asked}; {there}"]
