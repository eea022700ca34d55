"""`autodistil search`: trains, searches, reports, and prints the front as a table or as JSON."""

from __future__ import annotations

import math
from collections.abc import Container, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from autodistil.cli.app import app
from autodistil.cli.opening import open_run
from autodistil.cli.options import FLAGS, ConfigFile, Json, RecipeFile, ReportDir, Resume, with_flags
from autodistil.cli.plan import plan_json, print_plan
from autodistil.cli.terminal import print_json, print_lines, print_table

if TYPE_CHECKING:
    from autodistil.pipeline import SearchResult
    from autodistil.student_search.candidates import CandidateRow
    from autodistil.student_search.teacher_row import TeacherRow

_FRONT_ROWS = 20
"""Rows of the front that a terminal shows at most; all are in candidates.csv."""


@app.command(epilog="Example: `autodistil search --budget 500MFLOPs --budget 12Mparams --train-minutes 30`")
@with_flags(*FLAGS)
def search(
    options: dict[str, Any],
    run: Annotated[Path | None, typer.Option(help="Run folder [default: runs/TEACHER-SPACE].", metavar="DIR")] = None,
    resume: Resume = False,
    config: ConfigFile = None,
    recipe: RecipeFile = None,
    report: ReportDir = None,
    keep: Annotated[
        str | None,
        typer.Option(
            help="Find the cheapest student (by FLOPs) that keeps this share of the teacher's agreement, or with "
            "--proxy of its score.",
            metavar="SHARE",
        ),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what the search would be and take, and do none of it.")
    ] = False,
    json: Json = False,
) -> None:
    """Train what is not trained yet, search under the budgets, report, and export the best student."""
    if keep is not None:
        from autodistil.stages.keeping import read_share

        read_share(keep)
    opened = open_run(run, config, options, quiet=json, recipe=recipe, anew=() if keep is None else ("budgets",))
    if not opened.config.budgets and keep is None:
        from autodistil.errors import BudgetError

        raise BudgetError(
            "no budget is given; allowed: --budget 5GFLOPs, 300MFLOPs@256, 12Mparams, 25MB, 12KBkv or 8ms@cpu, or "
            "--keep 85%; add one"
        )
    from autodistil import pipeline
    from autodistil.stages.ranking_by_task import check_options

    check_options(options, opened.config.proxy)
    if dry_run:
        plan = pipeline.plan(opened)
        print_json(plan_json(plan)) if json else print_plan(plan)
        return
    result = pipeline.search(opened, resume, report, keep=keep)
    if json:
        print_json(search_json(result))
    else:
        print_search(result)


def print_search(result: SearchResult) -> None:
    """The answer where the teacher will do, the front as a table, where the report lies and how to export."""
    if result.answer is not None:
        print_lines(f"{result.answer} Students under it, should you want them smaller:")
    _print_front(result)
    best = result.table[result.best]
    score = "" if best.score is None else f"score {best.score:.4f}, "
    refined = "" if best.refined_loss is None else f" -> {best.refined_loss:.4f} refined alone"
    suggested = [
        ("half", "the best at half its cost", result.half),
        ("near", "the cheapest within 1 %", result.near),
        ("knee", "the knee", result.knee),
    ]
    others = [(*one, _faster(result, one[2])) for one in suggested if one[2] not in (None, result.best)]
    speed = result.speeds.get(result.best)
    student, title = result.student, "best" if result.answer is None else "best student"
    print_lines(
        f"{title}: {best.id}: {score}loss {best.loss:.4f}{refined}, {best.costs['flops'] / 1e6:,.1f} MFLOPs, "
        f"{best.costs['params'] / 1e6:.2f} M parameters, {best.costs['size_mb']:.1f} MB",
        f"beside {result.teacher.name}: {result.beside_teacher}",
        *([] if speed is None else [f"{speed.of(result.teacher.name)}, {speed.inputs} ({speed.where})"]),
        *([] if result.kept is None else [result.kept.words]),
        *([result.agreement.warning] if result.agreement.warning else []),
        f"exported: {student.path} (reloaded and compared with the SuperLM: "
        f"largest difference {student.max_difference:.1e})",
        *(f"{one.format}: {one.line}" for one in student.more),
        f"report: {result.report}",
        f"candidates: {result.run / 'candidates.csv'}",
        *(
            f"export {words}, {student_id}{faster}: {result.export_command(pick)}"
            for pick, words, student_id, faster in others
        ),
        f"export: {result.export_command('best')}",
    )


def _faster(result: SearchResult, student_id: str | None) -> str:
    speed = result.speeds.get(student_id or "")
    return "" if speed is None else f", {speed.factor} as fast as the teacher"


def _print_front(result: SearchResult) -> None:
    from autodistil.costs.units import SHOWN, beside_shown

    front = result.table.front.cheapest_first.ids
    marks = {result.knee: " ~", result.best: " *"}
    shown = [result.table[student_id] for student_id in thinned(front, {*marks, result.half, result.near})]
    more = f", {len(shown)} of {len(front)}" if len(front) > len(shown) else ""
    scores = ["score"] if result.table.ranking.column == "score" else []
    scored = "score on the proxy task's train split; " if scores else ""
    asked = beside_shown(result.budget_columns)
    heads = [column.replace("_bytes", "") for column in asked]
    columns = [*heads, "MFLOPs", "M params", "MB", *scores, "loss", "rank", "in sub-space"]
    teacher, none = result.teacher, ["–" for _ in scores]
    costs = [teacher.value(column) for column in SHOWN]
    theirs = (
        *_amounts(asked, teacher),
        f"{costs[0] / 1e6:,.1f}",
        f"{costs[1] / 1e6:.2f}",
        f"{costs[2]:.1f}",
        *none,
        teacher.loss_text,
        "–",
        "–",
    )
    print_table(
        f"Pareto front under {' and '.join(result.budgets)}{more}",
        ["student", *columns],
        [
            [
                f"{row.id}{marks.get(row.id, '')}",
                *_amounts(asked, row),
                f"{row.costs['flops'] / 1e6:,.1f}",
                f"{row.costs['params'] / 1e6:.2f}",
                f"{row.costs['size_mb']:.1f}",
                *(f"{row.value(column):.4f}" for column in (*scores, "loss")),
                str(row.rank),
                str(row.rank_in_sub_space),
            ]
            for row in shown
        ]
        + [[f"{teacher.name} (teacher)", *theirs]],
        caption=f"* best{', ~ knee' * (result.knee not in (None, result.best))}; {scored}loss: held-out"
        f"{', the teacher’s 0 by definition' * (teacher.loss == 0)}; FLOPs are multiply-adds, batch 1",
        right=columns,
        no_wrap=True,
        first_to_go=("in sub-space", "MB", "rank", "M params"),
    )


def _amounts(columns: Sequence[str], row: CandidateRow | TeacherRow) -> list[str]:
    """Costs with their units; `–` where one is not known."""
    from autodistil.costs.units import cost_of

    values = {column: row.value(column) for column in columns}
    return ["–" if math.isnan(value) else cost_of(column).text(value) for column, value in values.items()]


def thinned(front: Sequence[str], kept: Container[str | None]) -> list[str]:
    """At most `_FRONT_ROWS` students of a front in their order: those that are kept, and others spread evenly."""
    others = [student for student in front if student not in kept]
    count = min(len(others), max(0, _FRONT_ROWS - (len(front) - len(others))))
    chosen = {others[number * len(others) // count] for number in range(count)}
    return [student for student in front if student in kept or student in chosen]


def search_json(result: SearchResult) -> dict[str, Any]:
    """A search result as plain values."""
    from dataclasses import asdict

    return {
        "run": str(result.run),
        "budgets": list(result.budgets),
        "teacher": {**result.teacher.to_dict(), "meets_budgets": result.teacher_meets_budgets},
        "best": result.table[result.best].to_dict(),
        **{
            pick: None if student is None else result.table[student].to_dict()
            for pick, student in (("half", result.half), ("near", result.near), ("knee", result.knee))
        },
        "agreement": asdict(result.agreement),
        "kept": None if result.kept is None else asdict(result.kept),
        "speeds": {student_id: asdict(speed) for student_id, speed in result.speeds.items()},
        "pareto": [result.table[student_id].to_dict() for student_id in result.table.front.cheapest_first.ids],
        "report": str(result.report),
        "student": str(result.student.path),
        "notes": list(result.notes),
        "seconds": round(result.seconds, 1),
    }
