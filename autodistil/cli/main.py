"""The Typer application that commands register with, and its run: every error is one line and an exit status."""

from __future__ import annotations

import os
import sys

import typer

from autodistil.errors import AutodistilError

app = typer.Typer(
    name="autodistil",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    help="Find the best small student of a Transformer encoder for your budget, without re-training.",
    epilog="Start with: `autodistil search --budget 500MFLOPs`",
)

_INTERRUPTED = 130
"""Exit status after Ctrl-C."""

_RESUMABLE = (["search"], ["train"], ["tune"], ["certify"], ["refine"])
"""Commands with --resume; the others are quick, or keep what is done."""


def main(arguments: list[str] | None = None) -> None:
    """Entry point of the console script."""
    arguments = sys.argv[1:] if arguments is None else arguments
    try:
        if app(arguments, standalone_mode=False) == _INTERRUPTED:  # typer turns a KeyboardInterrupt into this
            raise KeyboardInterrupt
        sys.exit(0)
    except AutodistilError as error:
        _fail(str(error), error.exit_code)
    except (KeyboardInterrupt, typer.Abort):
        words = [argument for argument in arguments if argument != "--resume"]
        words += ["--resume"] * (words[:1] in _RESUMABLE)
        _fail(f"stopped; go on with: autodistil {' '.join(words)}", _INTERRUPTED)
    except BrokenPipeError:
        os._exit(141)
    except Exception as error:
        if hasattr(error, "format_message"):  # click's usage errors
            _fail(f"{error.format_message()}; see: autodistil --help", 2)
        if os.environ.get("AUTODISTIL_DEBUG"):
            raise
        text = " ".join(f"{type(error).__name__}: {error}".split())
        _fail(f"internal error: {text[:300]}; set AUTODISTIL_DEBUG=1 for the trace and report it", 1)


def _fail(message: str, status: int) -> None:
    typer.echo(f"autodistil: {' '.join(message.split())}", err=True)
    sys.exit(status)
