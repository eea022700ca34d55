"""The command line: parses, calls the pipeline, prints. Heavy imports happen in the commands, so that help is quick.

Exit status: 0 done, 1 a failure of ours, 2 wrong input (one line says what, got, allowed and the next step), 130
stopped by Ctrl-C, 143 by SIGTERM, which schedulers send (for both, the line that goes on is printed).
"""

from __future__ import annotations

import signal
import sys
import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from types import FrameType

_RESUMABLE = (["search"], ["train"], ["tune"], ["certify"], ["refine"])
"""Commands with --resume; the others are quick, or keep what is done."""


def main(arguments: list[str] | None = None) -> None:
    """Entry point of the console script. It answers signals before it imports anything, as that takes a while."""
    arguments = sys.argv[1:] if arguments is None else arguments
    here = threading.current_thread() is threading.main_thread()  # others cannot be told of a signal
    before = signal.signal(signal.SIGTERM, _terminate) if here else None
    try:
        from autodistil.cli.commands import run

        run(arguments)
    except KeyboardInterrupt:
        _stopped(arguments, signal.SIGINT)
    except SystemExit as end:
        if end.code == 128 + signal.SIGTERM:
            _stopped(arguments, signal.SIGTERM)
        raise
    finally:
        if here:
            signal.signal(signal.SIGTERM, before or signal.SIG_DFL)


def _terminate(number: int, frame: FrameType | None) -> None:
    sys.exit(128 + number)


def _stopped(arguments: list[str], number: int) -> None:
    """Say what goes on, as it has to be typed: everything that was done is kept, or done again."""
    import shlex

    from autodistil.cli.terminal import fail

    words = [argument for argument in arguments if argument != "--resume"]
    words += ["--resume"] * (words[:1] in _RESUMABLE)
    fail(f"stopped; go on with: {shlex.join(['autodistil', *words])}", 128 + number)
