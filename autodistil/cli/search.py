"""`autodistil search`: trains, searches, reports, and prints the front as a table or as JSON."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from autodistil.cli.main import app
from autodistil.cli.opening import open_run
from autodistil.cli.options import FLAGS, ConfigFile, Json, RecipeFile, ReportDir, Resume, with_flags
from autodistil.cli.terminal import print_json, print_table

if TYPE_CHECKING:
    import pandas as pd

    from autodistil.pipeline import SearchResult

_FRONT_ROWS = 20
"""Rows of the front that a terminal shows; all are in candidates.csv."""


@app.command(epilog="Example: `autodistil search --budget 500MFLOPs --budget 12Mparams --train-minutes 30`")
@with_flags(*FLAGS)
def search(
    options: dict[str, Any],
    run: Annotated[Path | None, typer.Option(help="Run folder [default: runs/TEACHER-SPACE].", metavar="DIR")] = None,
    resume: Resume = False,
    config: ConfigFile = None,
    recipe: RecipeFile = None,
    report: ReportDir = None,
    json: Json = False,
) -> None:
    """Train what is not trained yet, search under the budgets, report, and export the best student."""
    context = open_run(run, config, options, quiet=json, recipe=recipe)
    if not context.config.budgets:
        from autodistil.errors import BudgetError

        raise BudgetError(
            "no budget is given; allowed: --budget 5GFLOPs, 300MFLOPs@256, 12Mparams, 25MB, 12KBkv or 8ms@cpu; add one"
        )
    from autodistil import pipeline
    from autodistil.stages.ranking_by_task import check_options

    check_options(options, context.config.proxy)
    result = pipeline.search(context, resume, report)
    if json:
        print_json(search_json(result))
    else:
        print_search(result)


def print_search(result: SearchResult) -> None:
    """The front as a table, where the report lies and how to export."""
    _print_front(result)
    best = result.candidates.loc[result.best]
    student = result.student
    for line in (
        f"best: {result.best}: {_score(best)}loss {best['loss']:.4f}{_refined(best)}, "
        f"{best['flops'] / 1e6:,.1f} MFLOPs, {best['params'] / 1e6:.2f} M parameters, {best['size_mb']:.1f} MB",
        f"best student: {student.path} (reloaded and compared with the SuperLM: "
        f"largest difference {student.max_difference:.1e})",
        f"report: {result.report}",
        f"candidates: {result.run / 'candidates.csv'}",
        f"export another: {result.export_command('knee')}",
        f"export: {result.export_command('best')}",
    ):
        typer.echo(line)


def _score(row: pd.Series) -> str:
    return f"score {row['score']:.4f}, " if "score" in row else ""


def _refined(row: pd.Series) -> str:
    loss = row.get("refined_loss", math.nan)
    return f" -> {loss:.4f} refined alone" if math.isfinite(loss) else ""


def _print_front(result: SearchResult) -> None:
    front = result.pareto
    shown = front if len(front) <= _FRONT_ROWS else front.iloc[-_FRONT_ROWS:]
    more = f", the last {_FRONT_ROWS} of {len(front)}" if len(front) > len(shown) else ""
    scores = ["score"] if "score" in front else []
    scored = "score on the proxy task's train split; " if scores else ""
    columns = ["MFLOPs", "M params", "MB", *scores, "loss", "rank", "in sub-space"]
    print_table(
        f"Pareto front under {' and '.join(result.budgets)}{more}",
        ["student", *columns],
        [
            [
                f"{student_id}{' *' if student_id == result.best else ' ~' if student_id == result.knee else ''}",
                f"{row['flops'] / 1e6:,.1f}",
                f"{row['params'] / 1e6:.2f}",
                f"{row['size_mb']:.1f}",
                *(f"{row[column]:.4f}" for column in (*scores, "loss")),
                str(row["rank"]),
                str(row["rank_in_sub_space"]),
            ]
            for student_id, row in shown.iterrows()
        ],
        caption=f"{scored}loss on held-out text; FLOPs are multiply-adds, batch 1",
        right=columns,
        no_wrap=True,
    )


def search_json(result: SearchResult) -> dict[str, Any]:
    """A search result as plain values."""
    return {
        "run": str(result.run),
        "budgets": list(result.budgets),
        "best": candidate_json(result.candidates.loc[result.best]),
        "knee": candidate_json(result.candidates.loc[result.knee]),
        "pareto": [candidate_json(row) for _, row in result.pareto.iterrows()],
        "report": str(result.report),
        "student": str(result.student.path),
        "notes": list(result.notes),
        "seconds": round(result.seconds, 1),
    }


def candidate_json(row: pd.Series) -> dict[str, Any]:
    """A row of the candidates as plain values: id, sub_space, config, costs, loss, ranks."""
    from autodistil.costs.closed_form import COST_COLUMNS, KV_BYTES
    from autodistil.space.student import DIMENSIONS, OPTIONAL_AXES

    loss = float(row["loss"])
    costs = [cost for cost in (*COST_COLUMNS, KV_BYTES) if cost in row]
    return {
        "id": row["id"],
        "sub_space": row["sub_space"],
        "config": {axis: int(row[axis]) for axis in (*DIMENSIONS, *OPTIONAL_AXES) if axis in row},
        "costs": {cost: float(row[cost]) if cost == "size_mb" else int(row[cost]) for cost in costs},
        **({"refined_loss": refined} if math.isfinite(refined := float(row.get("refined_loss", math.nan))) else {}),
        **({"score": float(row["score"])} if "score" in row else {}),
        **({"devices": devices} if (devices := _device_costs(row)) else {}),
        "loss": loss if math.isfinite(loss) else None,
        "rank": int(row["rank"]),
        "rank_in_sub_space": int(row["rank_in_sub_space"]),
    }


def _device_costs(row: pd.Series) -> dict[str, float | None]:
    """What a student takes on the devices of budgets, such as `ms@laptop`, `ms@laptop measured` (null: not)."""
    columns = [str(name) for name in row.index if "@" in str(name)]
    return {name: float(row[name]) if math.isfinite(float(row[name])) else None for name in columns}
