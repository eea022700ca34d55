"""The report as one HTML page that needs no network, and as Markdown: rows and figures put into `templates`."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Mapping
from functools import cache
from html import escape
from importlib.resources import files
from itertools import chain
from pathlib import Path
from typing import Any

import jinja2
import pandas as pd
from plotly.offline import get_plotlyjs

from autodistil.costs.units import cost_of, share, significant
from autodistil.evaluation.results import baseline_words, figure, mean_and_spread, method_words
from autodistil.report import certificate_tables, choose, devices, layers
from autodistil.report.front import front_figure, hover_columns
from autodistil.report.rows import (
    ReportData,
    budget_rows,
    by_rank,
    front_rows,
    further_costs,
    key_figures,
    lead,
    sentences,
    speed_rows,
    sub_space_rows,
)
from autodistil.report.style import (
    DARK,
    LIGHT,
    NAME,
    TEXT,
    Cell,
    Spec,
    css_variables,
    or_dash,
    rounded,
    series_colour,
    series_glyph,
    training_figures,
)
from autodistil.space.axes import axis_of
from autodistil.space.student import OPTIONAL_AXES
from autodistil.student_search.certificate.verdict import sentences as certificate_sentences
from autodistil.student_search.certificate.verdict import verdict
from autodistil.utils import write_text

TABLE_ROWS = 300
"""Most rows of a table; all students are in candidates.csv."""


def write_html(data: ReportData, path: Path) -> Path:
    """Write the page, whole or not at all. Returns `path`.

    Raises:
        RunError: the disk refuses; an older page is untouched.
    """
    return write_text(path, page(data))


def write_markdown(data: ReportData, path: Path) -> Path:
    """Write the report as Markdown, whole or not at all. Returns `path`.

    Raises:
        RunError: the disk refuses; an older file is untouched.
    """
    return write_text(path, markdown(data))


def page(data: ReportData) -> str:
    """The report as HTML: words and tables in the page, figures and students as JSON that its script draws."""
    training = training_figures(data)
    further = [cost_of(column) for column in further_costs(data)]
    costs = ["flops", *(cost.column for cost in further), "params"]
    front = {cost: choose.never_dimmed(_without_points(front_figure(data, cost))) for cost in costs}
    on_devices = {key: _without_points(figure) for key, figure in devices.figures(data).items()}
    panels = {f"training-{i}": figure for i, figure in enumerate(training.values())}
    content = {
        "figures": {**front, **on_devices, **panels, **certificate_tables.figures(data)},
        "students": _facts(data),
        "choose": choose.facts(data),
    }
    on_front, scored = front_rows(data), by_rank(data)
    return rendered(
        "report.html",
        content,
        **_words(data),
        title=data.title,
        measure=data.table.ranking.name,
        most=TABLE_ROWS,
        dials=choose.dials(data),
        further=further,
        on_front=len(on_front),
        front=_student_table(data, on_front.tail(TABLE_ROWS)),  # the best is at the expensive end
        scored=len(scored),
        everyone=_student_table(data, scored.head(TABLE_ROWS)),
        devices=devices.sections(data),
        certified=certificate_tables.sub_space_table(data),
        trials=certificate_tables.trial_table(data),
        sub_spaces=_sub_space_table(data),
        training=list(training),
    )


def markdown(data: ReportData) -> str:
    """The report as Markdown, for READMEs and issues: the pick, the front as a table, how far to trust it."""
    rows = front_rows(data)
    front = [_markdown_cells(data, row) for row in [*rows.to_dict("records"), *_teacher_record(data, rows)]]
    return _templates().get_template("report.md").render(**_words(data), front=front)


def _words(data: ReportData) -> dict[str, Any]:
    """What page and Markdown say alike."""
    certificate = certificate_tables.certificate(data)
    return {
        "data": data,
        "headline": lead(data),
        "key_figures": key_figures(data),
        "sentences": sentences(data),
        "budgets": _budget_table(data),
        "speeds": _speed_table(data),
        "tasks": _task_table(data),
        "baseline": baseline_words(chain.from_iterable(data.tasks.values())),
        "layers": layers.table(data),
        "of_layers": list(layers.sentences(data)),
        "verdict": verdict(certificate),
        "certificate": certificate_sentences(certificate),
    }


# ---- templates


def rendered(template: str, content: Mapping[str, Any], **values: Any) -> str:
    """A page of ours from a template that extends `base.html`.

    Args:
        template: name of its file.
        content: `figures` and `students`, and `choose` on a page with the controls of `choose.js`.
        values: what the template names; all have `title` and `headline`.
    """
    ours = {"light": css_variables(LIGHT), "dark": css_variables(DARK), "plotly": get_plotlyjs()}
    return _templates().get_template(template).render(values, **ours, json=json_text(content))


@cache
def _templates() -> jinja2.Environment:
    """HTML is escaped as it is filled in, but for what a template says is safe; Markdown by its filter `literal`."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("autodistil.report"),
        autoescape=jinja2.select_autoescape(["html"]),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    for filter_ in (series_colour, series_glyph, literal, code_block):
        environment.filters[filter_.__name__] = filter_
    folder = files("autodistil.report") / "templates"
    environment.globals["file"] = lambda name: (folder / name).read_text(encoding="utf-8")
    return environment


def literal(text: object) -> str:
    """Text that Markdown shows as it is, on one line: no markup, no HTML, no cell border."""
    line = " ".join("".join(char if char.isprintable() else " " for char in str(text)).split())
    return escape(re.sub(r"([\\`*_\[\]|#~$])", r"\\\1", line), quote=False)


def code_block(text: str) -> str:
    """A fenced block with a fence longer than any in the text."""
    fence = "`" * max(3, 1 + max((len(run) for run in re.findall("`+", text)), default=0))
    return f"{fence}\n{text}\n{fence}"


# ---- what the page's script reads


def json_text(value: Any) -> str:
    """JSON that can stand inside a script element: no `<`, and no NaN."""
    text = json.dumps(_without_nan(value), ensure_ascii=True, allow_nan=False, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _without_nan(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_nan(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_without_nan(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _without_points(figure: Spec) -> Spec:
    """The figure less the coordinates of students, which the page finds in their facts: 5,000 take megabytes."""
    traces = [
        {key: value for key, value in trace.items() if "meta" not in trace or key not in ("x", "y")}
        for trace in figure["data"]
    ]
    return {**figure, "data": traces}


def _facts(data: ReportData) -> list[list[Any]]:
    """The students, a list of `hover_columns` each, once for all figures."""
    table = data.candidates.reindex(columns=list(hover_columns(data)))
    columns = [
        rounded(column) if column.dtype.kind == "f" else column.astype(object).where(column.notna(), None)
        for _, column in table.items()
    ]
    return [list(row) for row in zip(*columns, strict=True)]


# ---- tables


def _budget_table(data: ReportData) -> list[list[Cell]]:
    return [
        [
            Cell("Budget", row.text, kind=TEXT),
            Cell("Limit", row.limit),
            Cell("Best student", row.best),
            Cell("Teacher", row.teacher),
            Cell("Verdict", row.verdict, kind=TEXT),
        ]
        for row in budget_rows(data)
    ]


def _speed_table(data: ReportData) -> list[list[Cell]]:
    return [
        [
            _named_cell("Timed here", data, row.name, row.is_teacher),
            Cell("ms", significant(row.milliseconds[0])),
            Cell("95 % interval", " to ".join(map(significant, row.milliseconds[1:]))),
            Cell("As fast as the teacher", row.factor),
        ]
        for row in speed_rows(data)
    ]


def _task_table(data: ReportData) -> list[list[Cell]]:
    return [
        [
            _named_cell("On labelled tasks", data, student, is_teacher=False),
            Cell("Task", f"{result.task}, {result.split}", kind=TEXT),
            Cell("Method", method_words(result), kind=TEXT),
            Cell("Metric", metric, kind=TEXT),
            Cell("Value", mean_and_spread(values, 100, 1)),
            Cell("± error", figure(result.standard_error.get(metric), 100, 1)),
            Cell("Baseline", figure(result.baseline.get(metric), 100, 1)),
        ]
        for student, results in data.tasks.items()
        for result in results
        for metric, values in result.metrics.items()
    ]


def _sub_space_table(data: ReportData) -> list[list[Cell]]:
    return [
        [
            Cell("Sub-space", row.name, kind=TEXT, series=row.series),
            Cell("Students", f"{row.students:,}"),
            Cell("In budget", f"{row.feasible:,}"),
            Cell("Scored", f"{row.scored:,}"),
            Cell("FLOPs", row.flops),
            Cell(f"Best {data.table.ranking.name}", or_dash(row.value)),
            Cell("Its best student", row.best, kind=TEXT),
        ]
        for row in sub_space_rows(data)
    ]


def _student_table(data: ReportData, rows: pd.DataFrame) -> list[list[Cell]]:
    refined = "refined_loss" in rows and data.candidates["refined_loss"].notna().any()
    shown = [*rows.to_dict("records"), *_teacher_record(data, rows)]
    return [list(_student_cells(data, row, refined)) for row in shown]


def _teacher_record(data: ReportData, rows: pd.DataFrame) -> list[dict[str, Any]]:
    """The teacher as the last of some rows; none where there are none, or its costs are not known."""
    if not (len(rows) and data.teacher.costs):
        return []
    known = {column: value for column, value in data.teacher.row.items() if column in rows}
    return [{**dict.fromkeys(rows, math.nan), **known, "series": None}]


def _student_cells(data: ReportData, row: Mapping[str, Any], refined: bool) -> Iterable[Cell]:
    flops = row["flops"]
    name, is_teacher = row["id"], row["series"] is None
    yield _named_cell("Student", data, name, is_teacher, row["series"], name)
    yield Cell("Layers", row["num_layers"], row["num_layers"])
    yield Cell("Hidden", row["hidden_size"], row["hidden_size"])
    yield Cell("Heads", f"{layers.sizes_text(row, 'num_heads')} × {row['head_size']}", row["num_heads"])
    yield Cell("FFN", layers.sizes_text(row, "intermediate_size"), row["intermediate_size"])
    for axis in (axis_of(size) for size in OPTIONAL_AXES if size in row):
        yield Cell(axis.heading.removesuffix(" size"), format(row[axis.size], axis.format), row[axis.size])
    yield Cell("MFLOPs", significant(flops / 1e6), flops)
    yield Cell("of teacher", share(flops, data.teacher.costs.get("flops")) or "–", flops)
    yield Cell("M params", significant(row["params"] / 1e6), row["params"])
    yield Cell("MB", significant(row["size_mb"]), row["size_mb"])
    if data.score_name is not None:
        yield Cell("Score", or_dash(row["score"]), or_dash(row["score"], none=""))
    yield Cell("Loss", data.teacher.loss_text if is_teacher else f"{row['loss']:.4f}", row["loss"])
    if refined:
        yield Cell("Refined alone", or_dash(row["refined_loss"]), or_dash(row["refined_loss"], "", none=""))
    for head, column in (("Rank", "rank"), ("in sub-space", "rank_in_sub_space")):
        rank = or_dash(row[column], ".0f", none="")
        yield Cell(head, rank, rank)


def _named_cell(
    head: str, data: ReportData, name: str, is_teacher: bool, series: int | None = None, value: object = None
) -> Cell:
    """The name of a student, to choose it by a click, or of the teacher."""
    marks = ("teacher",) if is_teacher else picks(data, name)
    return Cell(head, name, value, f"{NAME} teacher" if is_teacher else NAME, series, marks)


def picks(data: ReportData, student: str) -> tuple[str, ...]:
    """Whether a student is `best` or `knee`, or both, or `no gain` against the teacher."""
    marks = tuple(label for label, name in (("best", data.best), ("knee", data.knee)) if student == name)
    return (*marks, "no gain") if student in data.no_gain else marks


def _markdown_cells(data: ReportData, row: Mapping[str, Any]) -> list[Cell]:
    is_teacher = row["series"] is None
    picked = "teacher" if is_teacher else ", ".join(picks(data, row["id"]))
    return [
        Cell("Student", f"{row['id']} ({picked})" if picked else row["id"]),
        Cell("Layers", row["num_layers"]),
        Cell("Hidden", row["hidden_size"]),
        Cell("Heads", layers.sizes_text(row, "num_heads", "")),
        Cell("FFN", layers.sizes_text(row, "intermediate_size", "")),
        Cell("MFLOPs", significant(row["flops"] / 1e6)),
        Cell("M params", significant(row["params"] / 1e6)),
        Cell("MB", significant(row["size_mb"])),
        *(Cell(name, "–" if math.isnan(row[name]) else significant(row[name])) for name in data.table.devices),
        *(Cell(f"M{name}", significant(row[name] / 1e6)) for name in data.table.at_lengths),
        *([Cell("Score", or_dash(row["score"]))] if data.score_name is not None else []),
        Cell("Loss", data.teacher.loss_text if is_teacher else f"{row['loss']:.4f}"),
        Cell("Rank", or_dash(row["rank"], ".0f")),
    ]
