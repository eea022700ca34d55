"""Peak memory of a piece of work, measured in a fresh process, as memory once had is never given back whole."""

from __future__ import annotations

import multiprocessing
import resource
import sys
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

_UNIT = 1 if sys.platform == "darwin" else 1024
"""Bytes of a unit of `ru_maxrss`."""


def peak_rss() -> int:
    """Largest resident set of this process so far, in bytes.

    Linux hands `ru_maxrss` down to a child from the parent that forked it; `VmHWM` is the process's own.
    """
    status = Path("/proc/self/status")
    if status.is_file():
        line = next(line for line in status.read_text(encoding="utf-8").splitlines() if line.startswith("VmHWM"))
        return int(line.split()[1]) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * _UNIT


def peak_of(work: Callable[..., Any], *arguments: Any) -> int:
    """Peak resident memory in bytes of `work(*arguments)` in a process of its own, its imports included.

    Args:
        work: a function of a module (it is named to the new process, not copied).
        *arguments: what can be pickled.

    Raises:
        RuntimeError: the process failed.
    """
    context = multiprocessing.get_context("spawn")
    receiving, sending = context.Pipe(duplex=False)
    process = context.Process(target=_measure, args=(sending, work, arguments))
    process.start()
    sending.close()
    try:
        return int(receiving.recv())
    except EOFError:
        raise RuntimeError(f"{work.__name__} failed in a process of its own; see above") from None
    finally:
        process.join()


def _measure(connection: Connection, work: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
    work(*arguments)
    connection.send(peak_rss())
