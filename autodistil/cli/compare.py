"""`autodistil compare`: runs, or fine-tuned students, as a table and lines or as JSON, and the page."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from autodistil.cli.app import app
from autodistil.cli.options import Json
from autodistil.cli.terminal import print_json, print_lines, print_table, quiet_libraries

if TYPE_CHECKING:
    from autodistil.report.adapted import AdaptedComparison
    from autodistil.report.comparison import Comparison


@app.command(epilog="Example: `autodistil compare runs/seed-0 runs/seed-1`")
def compare(
    runs: Annotated[
        list[Path],
        typer.Argument(help="Run folders of searches, or students that adapt made; two or more.", metavar="RUN RUN"),
    ],
    to: Annotated[Path, typer.Option("--to", help="The page to write.", metavar="FILE")] = Path("compare.html"),
    json: Json = False,
) -> None:
    """Lay the fronts of runs over one another and say what differs; of fine-tuned students their figures."""
    quiet_libraries()
    from autodistil.export.adapted_folder import is_adapted

    if any(map(is_adapted, runs)):
        _compare_adapted(runs, to, json)
        return
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


def _compare_adapted(folders: list[Path], to: Path, json: bool) -> None:
    from autodistil.errors import ConfigError
    from autodistil.export.adapted_folder import is_adapted
    from autodistil.report.adapted import adapted_page, lead
    from autodistil.stages.comparing_adapted import compare_adapted
    from autodistil.utils import write_text

    adapted = [folder for folder in folders if is_adapted(folder)]
    other = next((folder for folder in folders if folder not in adapted), None)
    if other is not None and not other.is_dir():
        raise ConfigError(f"{str(other)!r} is not there; give folders of fine-tuned students, or of runs")
    if other is not None:
        raise ConfigError(
            f"{str(adapted[0])!r} is a fine-tuned student, {str(other)!r} is none; give runs, or fine-tuned students"
        )
    if len(folders) < 2:
        raise ConfigError(f"compare got one student; give two or more, or use: autodistil report {folders[0]}")
    found = compare_adapted(folders)
    page = write_text(to, adapted_page(found))
    if json:
        print_json({**found.to_dict(), "page": str(page)})
        return
    _print_adapted(found)
    print_lines(lead(found), *found.doubts, f"page: {page}")


def _print_adapted(found: AdaptedComparison) -> None:
    from autodistil.report.adapted import answered_text, metric_name

    metrics = list(found.models[0].metrics)
    asked = any(model.abstention for model in found.models)
    rows = []
    for model in found.models:
        error = model.standard_error.get(found.headline)
        costs = (model.costs.get(name) for name in ("params", "flops"))
        cells = [f"{100 * model.metrics[metric]:.1f}" for metric in metrics]
        cells.insert(1, "–" if error is None else f"{100 * error:.1f}")
        cells += ["–" if cost is None else f"{cost / 1e6:,.1f}" for cost in costs]
        rows.append((model.label, *cells, *([answered_text(model)] if asked else [])))
    first, *others = map(metric_name, metrics)
    right = (first, "± error", *others, "M params", "MFLOPs")
    print_table(
        f"{found.task}, {found.split} ({found.rows:,} rows)",
        ("model", *right, *(["answers"] if asked else [])),
        rows,
        caption="times 100; differences below twice the standard error say little; of ECE less is better",
        right=right,
    )


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
