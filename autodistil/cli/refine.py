"""`autodistil refine`."""

from __future__ import annotations

from typing import Annotated

import typer

from autodistil.cli.main import app
from autodistil.cli.opening import given, open_existing
from autodistil.cli.options import STEPS_HELP, ExistingRun, Pick, Resume


@app.command(epilog="Example: `autodistil refine --run runs/mine --pick knee --steps 2000`")
def refine(
    run: ExistingRun,
    pick: Pick = "best",
    steps: Annotated[int | None, typer.Option(help=STEPS_HELP, metavar="N")] = None,
    learning_rate: Annotated[
        float | None, typer.Option(help="Peak learning rate [default: a quarter of that of the training].", metavar="X")
    ] = None,
    resume: Resume = False,
) -> None:
    """Go on distilling a student alone; exports of it then have the refined weights."""
    options = {"refine_steps": steps, "refine_learning_rate": learning_rate}
    context = open_existing(run, options=given(options, skip=()))
    from autodistil import pipeline
    from autodistil.cli import terminal as console

    refinement, report = pipeline.refine(context, pick, resume)
    console.print_refined(refinement, report, run)
