"""`autodistil certify`."""

from __future__ import annotations

from typing import Annotated

import typer

from autodistil.cli.main import app
from autodistil.cli.opening import open_existing
from autodistil.cli.options import ExistingRun, Json, Resume


@app.command(epilog="Example: `autodistil certify --run runs/mine --one`")
def certify(
    run: ExistingRun,
    sample: Annotated[
        int, typer.Option(help="Students of each sub-space to train alone; they tell how far to trust the search.")
    ] = 5,
    one: Annotated[bool, typer.Option("--one", help="Also train one SuperLM over all sub-spaces to compare.")] = False,
    resume: Resume = False,
    json: Json = False,
) -> None:
    """Train a few students alone, and report how far the ranks of the search can be trusted."""
    context = open_existing(run, quiet=json)
    from autodistil import pipeline
    from autodistil.cli import terminal as console

    certified = pipeline.certify(context, sample, one, resume)
    if json:
        console.print_certified_json(certified)
    else:
        console.print_certified(certified)
