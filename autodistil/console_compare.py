"""What `compare` prints: runs as a table, what differs as lines, or both as JSON."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from rich.table import Table

from autodistil.console import output
from autodistil.report.comparison import Comparison, best_value, headline
from autodistil.report.units import cost_of


def print_comparison(found: Comparison, page: Path, as_json: bool) -> None:
    """The comparison for people, or one JSON object on stdout."""
    if as_json:
        sys.stdout.write(json.dumps({**found.to_dict(), "page": str(page)}) + "\n")
        return
    console = output()
    console.print(_runs_table(found))
    for line in (headline(found), *found.notes, *_change_lines(found), f"page: {page}"):
        console.print(line, markup=False)


def _runs_table(found: Comparison) -> Table:
    table = Table(
        title="Runs compared",
        caption="hypervolume: share of the largest possible, on one scale for these runs, log costs; more is better",
        title_justify="left",
        caption_justify="left",
    )
    volumes = [f"hv {cost_of(cost).name}" for cost in found.costs]
    for name in ("run", "scored", "best", found.measure, "MFLOPs", *volumes, "joint front"):
        table.add_column(name, justify="left" if name in ("run", "best") else "right", overflow="fold")
    for run in found.runs:
        flops = "–" if run.best is None else f"{run.students.loc[run.best, 'flops'] / 1e6:,.1f}"
        shares = [f"{run.hypervolume[cost]:.4f}" for cost in found.costs]
        cells = (f"{len(run.students):,}", run.best or "–", best_value(run, "value", ".4f"), flops, *shares)
        table.add_row(_literal(run.name), *map(_literal, cells), f"{run.on_joint_front:,}")
    return table


def _literal(text: str) -> str:
    """Text that rich must not read as markup."""
    return text.replace("[", "\\[")


def _change_lines(found: Comparison) -> list[str]:
    if not found.changes:
        return ["nothing differs: options, teacher, text, device and versions are the same"]
    return [f"{change.group}: {change.option}: {' | '.join(change.values)}" for change in found.changes]
