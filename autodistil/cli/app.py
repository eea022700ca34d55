"""The Typer application that commands register with."""

from __future__ import annotations

from importlib.metadata import version
from typing import Annotated

import typer

app = typer.Typer(
    name="autodistil",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    help="Find the best small student of a Transformer encoder for your budget, without re-training.",
    epilog="Start with: `autodistil search --budget 500MFLOPs`",
)


def _version(asked: bool) -> None:
    if asked:
        typer.echo(f"autodistil {version('autodistil')}")
        raise typer.Exit


@app.callback()
def options(
    _: Annotated[
        bool, typer.Option("--version", help="Print the version and exit.", callback=_version, is_eager=True)
    ] = False,
) -> None:
    """Options of all commands."""
