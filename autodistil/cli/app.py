"""The Typer application that commands register with."""

from __future__ import annotations

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
