"""`autodistil compare`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from autodistil.cli.main import app
from autodistil.cli.options import Json


@app.command(epilog="Example: `autodistil compare runs/seed-0 runs/seed-1`")
def compare(
    runs: Annotated[list[Path], typer.Argument(help="Run folders of searches, two or more.", metavar="RUN RUN")],
    to: Annotated[Path, typer.Option("--to", help="The page to write.", metavar="FILE")] = Path("compare.html"),
    json: Json = False,
) -> None:
    """Lay the fronts of runs over one another and say what differs."""
    from autodistil.cli.terminal import print_comparison, quiet_libraries

    quiet_libraries()
    from autodistil.report.comparison import write_comparison
    from autodistil.stages.comparing import compare_runs

    found = compare_runs(runs)
    print_comparison(found, write_comparison(found, to), as_json=json)
