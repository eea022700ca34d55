"""`autodistil refine`."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from autodistil.cli.app import app
from autodistil.cli.opening import open_existing
from autodistil.cli.options import ExistingRun, Pick, Resume, given, with_flags
from autodistil.cli.terminal import print_lines


@app.command(epilog="Example: `autodistil refine --run runs/mine --pick half --steps 2000`")
@with_flags("trust_remote_code")
def refine(
    *,
    run: ExistingRun,
    pick: Pick = "best",
    options: dict[str, Any],
    steps: Annotated[
        int | None, typer.Option(help="Steps alone [default: six times those of the training].", metavar="N")
    ] = None,
    learning_rate: Annotated[
        float | None, typer.Option(help="Peak learning rate [default: as of the training].", metavar="X")
    ] = None,
    resume: Resume = False,
) -> None:
    """Go on distilling a student alone; exports of it then have the refined weights."""
    opened = open_existing(run, options=options | given(refine_steps=steps, refine_learning_rate=learning_rate))
    from autodistil import pipeline
    from autodistil.stages.reporting import export_command

    refinement, report = pipeline.refine(opened, pick, resume)
    print_lines(
        f"refined {refinement.student} {refinement}",
        *([] if refinement.helped else ["that is no better: its slice of the SuperLM is what export writes"]),
        f"report: {report}",
        f"export: {export_command(run, refinement.student)}",
    )
