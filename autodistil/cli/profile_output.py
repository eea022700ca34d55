"""What `autodistil profile` prints: the table, how far to trust it, and where it lies."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from rich.console import Console
from rich.table import Table

from autodistil.profiling.profile import Profile
from autodistil.profiling.table import LatencyEntry, LatencyTable

_COLUMNS = ("student", "batch", "length", "median ms", "95 % interval", "peak MB", "file MB", "")
_PLAIN_WIDTH = 120
"""Columns of the table where stdout is no terminal."""


def print_profile(profile: Profile, path: Path) -> None:
    """The entries, and in words what was measured."""
    table = profile.table
    unit = "thread" if table.threads == 1 else "threads"
    rows = Table(title=f"{table.device}; {table.runtime}, {table.threads} {unit}", title_justify="left")
    for column in _COLUMNS:
        rows.add_column(column, justify="left" if column == "student" else "right", no_wrap=True)
    for entry in table.entries:
        rows.add_row(*_cells(entry))
    console = Console(highlight=False, soft_wrap=True, width=None if sys.stdout.isatty() else _PLAIN_WIDTH)
    console.print(rows)
    for line in notes(profile):
        console.print(line, markup=False)
    console.print(f"table: {path}", markup=False)


def _cells(entry: LatencyEntry) -> tuple[str, ...]:
    peak = "-" if entry.peak_memory_mb is None else f"{entry.peak_memory_mb:,.1f}"
    interval = f"{entry.low_ms:.2f} - {entry.high_ms:.2f}"
    sizes = (f"{entry.median_ms:.2f}", interval, peak, f"{entry.file_mb:,.1f}")
    return (entry.student.label, str(entry.batch), str(entry.seq_len), *sizes, "busy" if entry.busy else "")


def notes(profile: Profile) -> list[str]:
    """What to say about neighbour load and about quantised outputs."""
    found = [busy_note(profile.table)] if profile.table.busy else []
    if profile.table.runtime == "onnx-int8":
        found.append(
            f"cosine of quantised outputs with PyTorch's: {profile.mean_cosine:.3f} (the lowest student's mean)"
        )
    return found


def busy_note(table: LatencyTable) -> str:
    """That the machine was busy, and what to do."""
    busy = sum(entry.busy for entry in table.entries)
    return (
        f"the machine was busy: {busy} of {len(table.entries)} entries were disturbed by other work in spite of three "
        "repetitions, and their times are too long or scatter; close other programs and profile again"
    )


def print_profile_json(profile: Profile, path: Path) -> None:
    """One JSON object on stdout: the table and where it lies."""
    content = {**profile.table.to_dict(), "mean_cosine": profile.mean_cosine, "table": str(path)}
    sys.stdout.write(json.dumps(content) + "\n")


def print_emitted(runner: Path) -> None:
    """Where the set lies and how to run it."""
    console = Console(highlight=False, soft_wrap=True)
    console.print(f"set: {runner.parent}; copy it to the device, then there, with onnxruntime and numpy:", markup=False)
    console.print(f"python {runner.name}, which writes table.json to bring back", markup=False)
