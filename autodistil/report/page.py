"""The page: rows and figures put into `page.html`, and that into `frame.html`: one file that needs no network."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from functools import cache
from html import escape
from importlib.resources import files
from pathlib import Path
from string import Template
from typing import Any

import numpy as np
import pandas as pd
from plotly.offline import get_plotlyjs

from autodistil.costs.units import share, three_digits
from autodistil.report import choose, devices, markup, trust
from autodistil.report.front import front_figure, hover_columns
from autodistil.report.markup import Column
from autodistil.report.rows import (
    ReportData,
    budget_rows,
    by_rank,
    front_rows,
    headline,
    key_figures,
    measure,
    sentences,
    sub_space_rows,
)
from autodistil.report.style import DARK, LIGHT, Spec, css_variables, training_figures
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


def page(data: ReportData) -> str:
    """The page as HTML."""
    training = training_figures(data)
    panels = {f"training-{i}": figure for i, figure in enumerate(training.values())}
    front = {cost: choose.never_dimmed(_without_points(front_figure(data, cost))) for cost in ("flops", "params")}
    on_devices = {key: _without_points(figure) for key, figure in devices.figures(data).items()}
    body = Template(resource("page.html")).substitute(
        key_figures=markup.key_figures(key_figures(data)),
        sentences=markup.paragraphs([*sentences(data), verdict(trust.certificate(data))]),
        budgets=markup.budgets(budget_rows(data)),
        choose=choose.controls(data),
        comparison=choose.comparison(data),
        seq_len=f"{data.seq_len:,}",
        **_MEASURED[measure(data).name],
        devices=devices.section(data),
        front=_front_table(data),
        everyone=_everyone_table(data),
        trust=trust.section(data),
        sub_spaces=markup.sub_spaces(sub_space_rows(data), measure(data).name),
        training=_training_panels(dict(zip(panels, training, strict=True))),
        provenance=markup.facts(data.provenance),
    )
    content = {
        "figures": {**front, **on_devices, **panels, **trust.figures(data)},
        "students": _facts(data),
        "choose": choose.facts(data),
    }
    return framed("search report", data.title, headline(data), body, content)


def framed(kind: str, title: str, headline: str, body: str, content: Mapping[str, Any]) -> str:
    """A page of ours: head, styles, `body`, plotly, what it draws, and the script that draws it.

    Args:
        kind: what sort of page it is, in words.
        title: text.
        headline: text.
        body: HTML.
        content: `figures` and `students`, and `choose` on a page with the controls of `choose.js`.
    """
    choosing = "choose" in content
    return Template(resource("frame.html")).substitute(
        kind=kind,
        title=escape(title),
        headline=escape(headline),
        body=body,
        light=css_variables(LIGHT),
        dark=css_variables(DARK),
        css=resource("page.css") + (resource("choose.css") if choosing else ""),
        script=(resource("choose.js") if choosing else "") + resource("page.js"),
        plotly=get_plotlyjs(),
        json=json_text(content),
    )


_MEASURED = {
    "loss": {
        "measure": "Held-out loss",
        "better": "Further down is closer to the teacher",
        "best_value": "lowest loss",
        "ranked_by": "They are by held-out loss.",
    },
    "score": {
        "measure": "Task score",
        "better": "Further up is better on the task",
        "best_value": "highest score",
        "ranked_by": "Those with a task score come first, by that; the others follow by held-out loss.",
    },
}
"""What the page says about what ranks."""


@cache
def resource(name: str) -> str:
    """A file of this package as text."""
    return files("autodistil.report").joinpath(name).read_text(encoding="utf-8")


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
    columns = data.candidates.reindex(columns=list(hover_columns(data))).astype(object)
    return [[_plain(value) for value in row] for row in columns.itertuples(index=False, name=None)]


def _plain(value: Any) -> Any:
    """A cell as JSON knows it, floats to six digits."""
    if pd.isna(value):
        return None
    if isinstance(value, (float, np.floating)):
        return float(f"{value:.6g}")
    return value.item() if isinstance(value, np.generic) else value


# ---- sections


def _front_table(data: ReportData) -> str:
    front = front_rows(data)
    if not len(front):
        return "<p>The front is empty: no student was scored within every budget.</p>"
    # The best is at the expensive end.
    shown = _student_table(data, front.tail(TABLE_ROWS), "The Pareto front, cheapest first")
    return shown + (_left_out(f"The {TABLE_ROWS} most expensive", len(front)) if len(front) > TABLE_ROWS else "")


def _everyone_table(data: ReportData) -> str:
    scored = by_rank(data)
    if not len(scored):
        return ""
    more = len(scored) > TABLE_ROWS
    title = (
        f"The {TABLE_ROWS} best of {len(scored):,} scored students" if more else f"All scored students ({len(scored)})"
    )
    note = _left_out(f"The {TABLE_ROWS} best", len(scored)) if more else ""
    shown = _student_table(data, scored.head(TABLE_ROWS), title)
    return f"<details><summary>{title}</summary>{shown}{note}</details>"


def _left_out(shown: str, total: int) -> str:
    return f'<p class="dim">{shown} of {total:,} are shown; candidates.csv in the run folder holds all.</p>'


def _training_panels(names: Mapping[str, str]) -> str:
    if not names:
        return "<p>There are no training metrics.</p>"
    panels = "".join(
        f'<div><h3>{escape(name)}</h3><div class="plot" data-figure="{key}" role="img" '
        f'aria-label="Training loss of {escape(name)} by step"></div></div>'
        for key, name in names.items()
    )
    return (
        f'<div class="panels">{panels}</div>\n<p class="dim">Line: mean over the students drawn in a step. '
        "Band: from the largest to the smallest student of the sub-space.</p>"
    )


def _student_table(data: ReportData, rows: pd.DataFrame, label: str) -> str:
    records = rows.to_dict("records")
    return markup.table(records, _columns(data), label, is_best=lambda row: row["id"] == data.best)


def _columns(data: ReportData) -> tuple[Column, ...]:
    teacher = data.teacher_costs.get("flops")
    optional = (
        (
            "embedding_size",
            Column("Embedding", lambda row: str(row["embedding_size"]), lambda row: row["embedding_size"]),
        ),
        ("vocab_size", Column("Tokens", lambda row: f"{row['vocab_size']:,}", lambda row: row["vocab_size"])),
    )
    return (
        Column("Student", lambda row: _name(data, row), lambda row: row["id"], text=True, wide=True),
        Column("Layers", lambda row: str(row["num_layers"]), lambda row: row["num_layers"]),
        Column("Hidden", lambda row: str(row["hidden_size"]), lambda row: row["hidden_size"]),
        Column("Heads", lambda row: f"{row['num_heads']} × {row['head_size']}", lambda row: row["num_heads"]),
        Column("FFN", lambda row: f"{row['intermediate_size']:,}", lambda row: row["intermediate_size"]),
        *(column for name, column in optional if name in data.candidates),
        Column("MFLOPs", lambda row: three_digits(row["flops"] / 1e6), lambda row: row["flops"]),
        Column("of teacher", lambda row: share(row["flops"], teacher) or "–", lambda row: row["flops"]),
        Column("M params", lambda row: three_digits(row["params"] / 1e6), lambda row: row["params"]),
        Column("MB", lambda row: three_digits(row["size_mb"]), lambda row: row["size_mb"]),
        *([Column("Score", lambda row: _score(row, "–"), _score)] if data.score_name is not None else ()),
        Column("Loss", lambda row: f"{row['loss']:.4f}", lambda row: row["loss"]),
        *([_REFINED] if "refined_loss" in data.candidates and data.candidates["refined_loss"].notna().any() else ()),
        Column("Rank", lambda row: _rank(row["rank"]), lambda row: _rank(row["rank"])),
        Column(
            "in sub-space", lambda row: _rank(row["rank_in_sub_space"]), lambda row: _rank(row["rank_in_sub_space"])
        ),
    )


def _name(data: ReportData, row: Mapping[str, Any]) -> str:
    picks = [label for label, student in (("best", data.best), ("knee", data.knee)) if row["id"] == student]
    return f"{markup.glyph(row['series'])}{markup.pick(str(row['id']))}{markup.badges(picks)}"


def _score(row: Mapping[str, Any], none: str = "") -> str:
    return none if pd.isna(row["score"]) else f"{row['score']:.4f}"


_REFINED = Column(
    "Refined alone",
    lambda row: "–" if pd.isna(row["refined_loss"]) else f"{row['refined_loss']:.4f}",
    lambda row: "" if pd.isna(row["refined_loss"]) else row["refined_loss"],
)


def _rank(value: Any) -> str:
    return "" if pd.isna(value) else str(int(value))
