"""All commands, and the run of one: every error is one line and an exit status."""

from __future__ import annotations

import os
import sys

import typer

# Commands register when they are imported: in the order in which help lists them.
from autodistil.cli import search, train, report, compare, refine, tune, export, push  # noqa: F401  # isort: skip
from autodistil.cli import evaluate, adapt, profile, certify, spaces, doctor, teachers  # noqa: F401  # isort: skip
from autodistil.cli.app import app
from autodistil.cli.terminal import fail
from autodistil.errors import AutodistilError, one_line_named
from autodistil.utils import DISK_REASONS

_INTERRUPTED = 130
"""What typer returns after Ctrl-C, in the place of the KeyboardInterrupt."""


def run(arguments: list[str]) -> None:
    """Run a command and exit with its status.

    Raises:
        KeyboardInterrupt: Ctrl-C.
    """
    try:
        if app(arguments, standalone_mode=False) == _INTERRUPTED:
            raise KeyboardInterrupt
        sys.exit(0)
    except AutodistilError as error:
        fail(str(error), error.exit_code)
    except typer.Abort:
        raise KeyboardInterrupt from None
    except BrokenPipeError:
        os._exit(141)
    except MemoryError:
        fail("the memory is too small for this; ask for smaller batches, lengths, or fewer texts or students", 2)
    except Exception as error:
        if isinstance(error, OSError) and error.filename and error.errno in DISK_REASONS:
            fail(f"{str(error.filename)[:200]!r}: {DISK_REASONS[error.errno]}", 2)
        if hasattr(error, "format_message"):  # click's usage errors; that of no command at all has printed the help
            message = error.format_message()
            fail(f"{message}; see: autodistil --help", 2) if message else sys.exit(2)
        if os.environ.get("AUTODISTIL_DEBUG"):
            raise
        fail(f"internal error: {one_line_named(error, 300)}; set AUTODISTIL_DEBUG=1 for the trace and report it", 1)
