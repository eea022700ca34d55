"""`autodistil compare`: runs as a table and what differs as lines, or both as JSON, and the page."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from autodistil.cli.app import app
from autodistil.cli.options import Json
from autodistil.cli.terminal import print_json, print_lines, print_table, quiet_libraries

if TYPE_CHECKING:
    from autodistil.report.comparison import Comparison


@app.command(epilog="Example: `autodistil compare runs/seed-0 runs/seed-1`")
def compare(
    runs: Annotated[list[Path], typer.Argument(help="Run folders of searches, two or more.", metavar="RUN RUN")],
    to: Annotated[Path, typer.Option("--to", help="The page to write.", metavar="FILE")] = Path("compare.html"),
    json: Json = False,
) -> None:
    """Lay the fronts of runs over one another and say what differs."""
    quiet_libraries()
    from autodistil.report.comparison import comparison_page, headline
    from autodistil.stages.comparing import compare_runs
    from autodistil.utils import write_text

    found = compare_runs(runs)
    page = write_text(to, comparison_page(found))
    if json:
        print_json({**found.to_dict(), "page": str(page)})
        return
    _print_runs(found)
    changes = [f"{change.group}: {change.option}: {' | '.join(change.values)}" for change in found.changes]
    same = "nothing differs: options, teacher, text, device and versions are the same"
    print_lines(headline(found), *found.notes, *(changes or [same]), f"page: {page}")


def _print_runs(found: Comparison) -> None:
    from autodistil.costs.units import cost_of
    from autodistil.report.comparison import best_value

    volumes = [f"hv {cost_of(cost).name}" for cost in found.costs]
    right = ["scored", found.measure, "MFLOPs", *volumes, "joint front"]
    rows = []
    for run in found.runs:
        flops = "–" if run.best is None else f"{run.students.loc[run.best, 'flops'] / 1e6:,.1f}"
        shares = [f"{run.hypervolume[cost]:.4f}" if run.hypervolume else "–" for cost in found.costs]
        best = (run.best or "–", best_value(run, "value", ".4f"), flops)
        joint = "–" if run.on_joint_front is None else f"{run.on_joint_front:,}"
        rows.append((run.name, f"{len(run.students):,}", *best, *shares, joint))
    for teacher in found.teachers:
        loss = teacher.loss_text if found.measure == "loss" else "–"
        none = ["–" for _ in (*volumes, "joint front")]
        rows.append((f"{teacher.name} (teacher)", "–", "–", loss, f"{teacher.value('flops') / 1e6:,.1f}", *none))
    print_table(
        "Runs compared",
        ("run", "scored", "best", found.measure, "MFLOPs", *volumes, "joint front"),
        rows,
        caption="hypervolume: share of the largest possible, on one scale for these runs, log costs; more is better",
        right=right,
    )
