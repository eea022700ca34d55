"""`autodistil export`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from autodistil.cli.main import app
from autodistil.cli.opening import open_existing
from autodistil.cli.options import Budgets, ExistingRun, Pick


@app.command(epilog="Example: `autodistil export --run runs/mine --pick knee --to my-student`")
def export(
    run: ExistingRun,
    to: Annotated[Path, typer.Option(help="New folder for the student.", metavar="DIR")],
    pick: Pick = "best",
    budget: Budgets = None,
    unrefined: Annotated[
        bool, typer.Option("--unrefined", help="The slice of the SuperLM, though the student was refined.")
    ] = False,
    formats: Annotated[
        list[str] | None,
        typer.Option(
            "--format",
            help="hf, sentence-transformers (if the teacher is one); beside: onnx, onnx-int8, openvino. Repeatable.",
            metavar="FORMAT",
        ),
    ] = None,
) -> None:
    """Write a student as an ordinary Hugging Face folder, and for other runtimes."""
    context = open_existing(run)
    from autodistil import pipeline
    from autodistil.cli import terminal as console

    student_id, exported = pipeline.export(context, pick, to, tuple(budget or ()), unrefined, tuple(formats or ()))
    console.print_export(student_id, exported)
