"""`autodistil spaces` and `autodistil doctor`."""

from __future__ import annotations

from typing import Annotated

import typer

from autodistil.cli.main import app


@app.command(epilog="Example: `autodistil spaces minilm-l6-h384`")
def spaces(
    name: Annotated[
        str | None, typer.Argument(help="A shipped space or a YAML file; all shipped ones if left out.")
    ] = None,
) -> None:
    """List search spaces, or check and describe one: axes, students, range of parameters and FLOPs."""
    from autodistil.cli import terminal as console

    console.print_spaces(name)


@app.command()
def doctor() -> None:
    """Versions, threads, accelerators, where the defaults come from, and what is missing."""
    from autodistil.cli import terminal as console

    console.print_doctor()
