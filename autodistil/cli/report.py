"""`autodistil report`."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from autodistil.cli.app import app
from autodistil.cli.opening import open_existing
from autodistil.cli.options import ExistingRun, ReportDir, with_flags
from autodistil.cli.terminal import print_lines


@app.command(epilog="Example: `autodistil report --run runs/mine --format pdf --format md`")
@with_flags("trust_remote_code")
def report(
    *,
    run: ExistingRun,
    options: dict[str, Any],
    report_dir: ReportDir = None,
    static: Annotated[
        bool,
        typer.Option("--static", help="Add model2vec's static model of the teacher: what no Transformer would bring."),
    ] = False,
    form: Annotated[
        list[str] | None,
        typer.Option(
            "--format",
            help="html, png, pdf or md; the pictures need a Chrome. Repeatable [default: html, and png if it can].",
            metavar="NAME",
        ),
    ] = None,
) -> None:
    """Write the report of the last search again."""
    opened = open_existing(run, options=options)
    from autodistil import pipeline

    first = [pipeline.report(opened, report_dir, static)] if static or not form else []
    files = [*first, *(pipeline.report_as(opened, form, report_dir) if form else [])]
    print_lines(*(f"report: {file}" for file in files))
