"""Progress that a person sees: bars on a terminal, lines elsewhere."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.progress import Progress as RichProgress

from autodistil.cli.terminal import printable
from autodistil.utils import Advance, Progress


class TerminalProgress(Progress):
    """Bars with ETA on a terminal, plain lines elsewhere."""

    def __init__(self, stderr: bool = False) -> None:
        self.console = Console(stderr=stderr, highlight=False, soft_wrap=True)

    def say(self, message: str) -> None:
        """Print a line."""
        self.console.print(printable(message), markup=False)

    @contextmanager
    def track(self, description: str, total: int) -> Iterator[Advance]:
        """Draw a bar, or print a line at every tenth."""
        if not self.console.is_terminal:
            yield _plain_lines(self, description, total)
            return
        columns = (
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            *((MofNCompleteColumn(),) if total else ()),
            TimeElapsedColumn(),
            *((TextColumn("eta"), TimeRemainingColumn()) if total else ()),
            TextColumn("{task.fields[status]}", markup=False),
        )
        with RichProgress(*columns, console=self.console, transient=True) as bars:
            task = bars.add_task(description, total=total or None, status="")

            def advance(steps: int = 1, status: str = "") -> None:
                bars.update(task, advance=steps)
                if status:
                    bars.update(task, status=printable(status))

            yield advance


def _plain_lines(progress: TerminalProgress, description: str, total: int) -> Advance:
    done = 0

    def advance(steps: int = 1, status: str = "") -> None:
        nonlocal done
        before, done = done, done + steps
        if total and done * 10 // total > before * 10 // total:
            progress.say(f"{description}: {done}/{total} {status}".rstrip())

    return advance
