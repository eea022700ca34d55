"""`autodistil report`."""

from __future__ import annotations

import typer

from autodistil.cli.app import app
from autodistil.cli.opening import open_existing
from autodistil.cli.options import ExistingRun, ReportDir


@app.command(epilog="Example: `autodistil report --run runs/mine`")
def report(run: ExistingRun, report_dir: ReportDir = None) -> None:
    """Write the report of the last search again."""
    context = open_existing(run)
    from autodistil import pipeline

    typer.echo(f"report: {pipeline.report(context, report_dir)}")
