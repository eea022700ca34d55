"""The report: one self-contained HTML page with the Pareto front, and a static picture of it. Only importer of plotly.

`front_rows` and `summary_lines` compute; the `*_figure` functions draw; `write_html` and `write_png` put it on disk.
Everything that comes from a user is escaped: names are shown as text, whatever they hold.
"""

from __future__ import annotations

import logging
import math
import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go
import plotly.io
import plotly.offline

from autodistil.files import atomic_path, write_text

logger = logging.getLogger(__name__)

_COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")
"""Okabe and Ito's palette: told apart by the colour-blind too."""
_SYMBOLS = ("circle", "square", "diamond", "triangle-up", "cross", "star")
_WEBGL_FROM = 1_500
"""Points of a figure from which it is drawn by WebGL."""
_TICKS = [digit * 10.0**power for power in range(-2, 7) for digit in (1, 2, 5)]
_TABLE_ROWS = 200
"""Rows of a table; more are in candidates.csv."""


@dataclass(frozen=True)
class Axis:
    """A cost to draw the front over."""

    column: str
    title: str
    scale: float


AXES: Mapping[str, Axis] = MappingProxyType(
    {
        "flops": Axis("flops", "MFLOPs (multiply-adds, batch 1)", 1e6),
        "params": Axis("params", "million parameters", 1e6),
    }
)


@dataclass(frozen=True)
class BudgetLine:
    """A budget to draw."""

    text: str
    cost: str
    """`flops`, `params` or `size_mb`."""
    limit: float


@dataclass(frozen=True)
class ReportData:
    """What a report shows; see `search.pick.rank_candidates` for the columns of `candidates`."""

    title: str
    candidates: pd.DataFrame
    training: pd.DataFrame
    budgets: tuple[BudgetLine, ...]
    best: str | None
    knee: str | None
    teacher_costs: Mapping[str, float]
    seq_len: int
    objective: str
    provenance: Mapping[str, str]
    notes: tuple[str, ...]
    export_command: str


# ---- compute


def front_rows(data: ReportData) -> pd.DataFrame:
    """The Pareto front, cheapest first."""
    return data.candidates[data.candidates["pareto"]].sort_values(["flops", "loss"], kind="stable")


def summary_lines(data: ReportData) -> list[str]:
    """The result in plain words."""
    table = data.candidates
    run = int(table["loss"].notna().sum())
    lines = [f"{run:,} of {len(table):,} students were scored, {int(table['feasible'].sum()):,} meet every budget."]
    chosen = table[table["id"] == data.best]
    if len(chosen):
        best = chosen.iloc[0]
        lines.insert(
            0,
            f"The best student under {' and '.join(b.text for b in data.budgets) or 'no budget'} is {data.best}: "
            f"{best['flops'] / 1e6:,.0f} MFLOPs ({best['flops'] / data.teacher_costs['flops']:.0%} of the teacher's), "
            f"{best['params'] / 1e6:.1f} M parameters ({best['params'] / data.teacher_costs['params']:.0%}), "
            f"held-out loss {best['loss']:.4f}.",
        )
    return [*lines, *data.notes]


# ---- draw


def front_figure(data: ReportData, axis: Axis) -> go.Figure:
    """Held-out loss over a cost: students by sub-space, the front, budgets, the teacher, best and knee."""
    figure = go.Figure()
    scored = data.candidates[data.candidates["loss"].notna()]
    trace = go.Scattergl if len(scored) >= _WEBGL_FROM else go.Scatter
    for i, (name, rows) in enumerate(scored.groupby("sub_space", sort=False)):
        figure.add_trace(
            trace(
                x=_small(rows[axis.column] / axis.scale),
                y=_small(rows["loss"]),
                mode="markers",
                name=escape(str(name)),
                marker={
                    "color": _COLOURS[i % len(_COLOURS)],
                    "symbol": _SYMBOLS[i % len(_SYMBOLS)],
                    "size": 7,
                    "opacity": 0.85 if rows["feasible"].all() else np.where(rows["feasible"], 0.85, 0.25),
                },
                **_hover(rows),
            )
        )
    front = front_rows(data).sort_values([axis.column, "loss"])
    figure.add_trace(
        go.Scatter(
            x=_small(front[axis.column] / axis.scale),
            y=_small(front["loss"].cummin()),
            mode="lines",
            name="front",
            line={"color": "#888888", "width": 1.5, "shape": "hv"},
            hoverinfo="skip",
        )
    )
    _mark(figure, data, axis, "best", data.best, "star")
    if data.knee != data.best:
        _mark(figure, data, axis, "knee", data.knee, "hexagram")
    _draw_limits(figure, data, axis)
    figure.update_xaxes(
        title=axis.title + (f" at length {data.seq_len}" if axis.column == "flops" else ""), type="log", tickvals=_TICKS
    )
    figure.update_yaxes(title=f"held-out loss ({escape(data.objective)})")
    return _styled(figure, height=460)


_HOVER_COLUMNS = (
    "head_size",
    "flops",
    "params",
    "params_no_embeddings",
    "size_mb",
    "loss",
    "rank",
    "rank_in_sub_space",
)
_HOVER = (
    "<b>%{text}</b><br>(L layers, H hidden size, A heads of %{customdata[0]:d}, F FFN size)<br>"
    "%{customdata[1]:.4s}FLOPs, %{customdata[2]:.4s} parameters (%{customdata[3]:.4s} without embeddings), "
    "%{customdata[4]:.1f} MB<br>loss %{customdata[5]:.4f}, rank %{customdata[6]:d}, "
    "in its sub-space %{customdata[7]:d}<extra></extra>"
)


def _small(values: pd.Series) -> np.ndarray:
    """Single precision: half the bytes of the page, more digits than a screen shows."""
    return values.to_numpy(dtype=np.float32)


def _hover(rows: pd.DataFrame) -> dict[str, Any]:
    """What a point tells under the pointer; numbers travel as an array, which keeps 5,000 students small."""
    numbers = rows[list(_HOVER_COLUMNS)].astype("Float64").to_numpy(dtype=np.float32, na_value=0)
    return {"text": [escape(str(i)) for i in rows["id"]], "customdata": numbers, "hovertemplate": _HOVER}


def _mark(figure: go.Figure, data: ReportData, axis: Axis, label: str, student: str | None, symbol: str) -> None:
    rows = data.candidates[data.candidates["id"] == student]
    if len(rows):
        figure.add_trace(
            go.Scatter(
                x=rows[axis.column] / axis.scale,
                y=rows["loss"],
                mode="markers",
                name=label,
                marker={"symbol": symbol, "size": 16, "color": "#f0e442", "line": {"color": "#333333", "width": 1.5}},
                **_hover(rows),
            )
        )


def _draw_limits(figure: go.Figure, data: ReportData, axis: Axis) -> None:
    """Vertical lines at the budgets on this axis and at the teacher's cost."""
    lines = [(b.text, b.limit, "#d62728", "dash") for b in data.budgets if b.cost == axis.column]
    lines.append(("teacher", data.teacher_costs[axis.column], "#888888", "dot"))
    for i, (text, value, colour, dash) in enumerate(sorted(lines, key=lambda line: line[1])):
        x = value / axis.scale
        figure.add_shape(
            type="line", x0=x, x1=x, yref="paper", y0=0, y1=1, line={"color": colour, "dash": dash, "width": 1.5}
        )
        figure.add_annotation(
            x=math.log10(x),  # annotations on a logarithmic axis take the exponent, shapes do not
            yref="paper",
            y=1 + 0.05 * (i % 2),
            yanchor="bottom",
            text=escape(text),
            font={"color": colour},
            showarrow=False,
        )


def training_figure(data: ReportData) -> go.Figure:
    """Training loss of each SuperLM: mean over the drawn students, and those of the largest and the smallest."""
    figure = go.Figure()
    styles = (("loss", "solid", 2.0), ("largest_loss", "dot", 1.0), ("smallest_loss", "dash", 1.0))
    for i, (name, rows) in enumerate(data.training.groupby("sub_space", sort=False)):
        for column, dash, width in styles:
            label = str(name) if column == "loss" else f"{name}, {column.removesuffix('_loss')}"
            figure.add_trace(
                go.Scatter(
                    x=rows["step"],
                    y=rows[column],
                    mode="lines",
                    name=escape(label),
                    line={"color": _COLOURS[i % len(_COLOURS)], "dash": dash, "width": width},
                )
            )
    figure.update_xaxes(title="step")
    figure.update_yaxes(title="training loss")
    return _styled(figure, height=360)


def _styled(figure: go.Figure, height: int) -> go.Figure:
    figure.update_layout(
        height=height,
        margin={"l": 64, "r": 16, "t": 64, "b": 56},
        modebar={"bgcolor": "rgba(0,0,0,0)", "color": "#999999"},
        paper_bgcolor="rgba(0,0,0,0)",
        plot_bgcolor="rgba(0,0,0,0)",
        font={"family": "system-ui, sans-serif", "size": 13, "color": "#777777"},
        legend={"orientation": "v"},
    )
    grid = {"gridcolor": "rgba(128,128,128,0.22)", "zeroline": False, "linecolor": "#888888"}
    figure.update_xaxes(**grid)
    figure.update_yaxes(**grid)
    return figure


# ---- page

_CSS = """
:root { color-scheme: light dark; --ink: #1c2126; --dim: #5c6670; --paper: #fcfcfb; --line: #d9dde1; --card: #f2f4f5; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e6e8ea; --dim: #a0a8b0; --paper: #16191c; --line: #343a40; --card: #20252a; }
}
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 1120px; padding: 2rem 1.25rem 4rem; color: var(--ink); background: var(--paper);
  font: 16px/1.55 system-ui, sans-serif; }
h1 { font-size: 1.7rem; line-height: 1.2; margin: 0 0 .25rem; overflow-wrap: anywhere; }
h2 { font-size: 1.15rem; margin: 2.25rem 0 .5rem; }
.dim, caption { color: var(--dim); font-size: .9rem; }
.summary { background: var(--card); border-radius: 8px; padding: .75rem 1.25rem; overflow-wrap: anywhere; }
.summary p { margin: .4rem 0; }
pre { background: var(--card); border-radius: 8px; padding: .75rem 1rem; overflow-x: auto; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; font-size: .9rem; font-variant-numeric: tabular-nums; }
caption { text-align: left; padding-bottom: .4rem; }
th, td { padding: .3rem .6rem; text-align: right; border-bottom: 1px solid var(--line); white-space: nowrap; }
th:first-child, td:first-child { text-align: left; }
tr.best td { font-weight: 600; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .25rem 1rem; font-size: .9rem; }
dt { color: var(--dim); } dd { margin: 0; overflow-wrap: anywhere; }
"""
# Axis text follows the colour scheme; figures are drawn for both.
_SCRIPT = """
const ink = () => getComputedStyle(document.body).getPropertyValue('--dim').trim();
const figures = () => document.querySelectorAll('.js-plotly-plot');
const paint = () => figures().forEach(p => Plotly.relayout(p, {'font.color': ink()}));
matchMedia('(prefers-color-scheme: dark)').addEventListener('change', paint); paint();
"""
_COLUMNS = {
    "id": "student",
    "flops": "MFLOPs",
    "params": "M params",
    "size_mb": "MB",
    "loss": "loss",
    "rank": "rank",
    "rank_in_sub_space": "rank in sub-space",
}


def page(data: ReportData) -> str:
    """The whole page."""
    front = front_rows(data)
    everyone = data.candidates[data.candidates["loss"].notna()].sort_values("loss").head(_TABLE_ROWS)
    sections = [
        f"<h1>{escape(data.title)}</h1>",
        '<p class="dim">Students of a weight-sharing SuperLM search. FLOPs are multiply-adds of one sequence, batch 1, '
        f"length {data.seq_len}, as fvcore counts them.</p>",
        f'<div class="summary">{"".join(f"<p>{escape(line)}</p>" for line in summary_lines(data))}</div>',
        "<h2>Loss over FLOPs</h2>",
        _figure_html(front_figure(data, AXES["flops"])),
        "<h2>Loss over parameters</h2>",
        _figure_html(front_figure(data, AXES["params"])),
        f"<h2>The Pareto front</h2>{_table(front.tail(_TABLE_ROWS), data.best, _front_caption(len(front)))}",
        f"<h2>Take it</h2><pre>{escape(data.export_command)}</pre>",
        '<p class="dim">Ranks compare held-out losses. Losses of different SuperLMs are on one scale, but these '
        "are not equally well trained: trust ranks within a sub-space more than across.</p>",
        "<h2>Training</h2>",
        _figure_html(training_figure(data)) if len(data.training) else "<p>No training metrics.</p>",
        f"<details><summary>The {len(everyone):,} best scored students</summary>"
        f"{_table(everyone, data.best, '')}</details>",
        f"<h2>Where it comes from</h2>{_definitions(data.provenance)}",
    ]
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(data.title)}</title><style>{_CSS}</style>"
        f"<script>{plotly.offline.get_plotlyjs()}</script></head>"
        f"<body><main>{''.join(sections)}</main><script>{_SCRIPT}</script></body></html>"
    )


def _front_caption(size: int) -> str:
    more = f" The last {_TABLE_ROWS} of {size:,}; all are in candidates.csv." if size > _TABLE_ROWS else ""
    return f"Cheapest first; the best is bold.{more}"


def _figure_html(figure: go.Figure) -> str:
    options = {"responsive": True, "displaylogo": False}
    return str(plotly.io.to_html(figure, include_plotlyjs=False, full_html=False, config=options))


def _table(rows: pd.DataFrame, best: str | None, caption: str) -> str:
    head = "".join(f'<th scope="col">{title}</th>' for title in _COLUMNS.values())
    body = "".join(_table_row(row, row["id"] == best) for _, row in rows.iterrows())
    return (
        f'<div class="scroll"><table><caption>{escape(caption)}</caption>'
        f"<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>"
    )


def _table_row(row: pd.Series, best: bool) -> str:
    cells = "".join(f"<td>{cell}</td>" for cell in _cells(row))
    return f'<tr class="best">{cells}</tr>' if best else f"<tr>{cells}</tr>"


def _cells(row: pd.Series) -> list[str]:
    return [
        escape(str(row["id"])),
        f"{row['flops'] / 1e6:,.1f}",
        f"{row['params'] / 1e6:.2f}",
        f"{row['size_mb']:.1f}",
        f"{row['loss']:.4f}",
        "" if pd.isna(row["rank"]) else str(row["rank"]),
        "" if pd.isna(row["rank_in_sub_space"]) else str(row["rank_in_sub_space"]),
    ]


def _definitions(pairs: Mapping[str, str]) -> str:
    return f"<dl>{''.join(f'<dt>{escape(key)}</dt><dd>{escape(value)}</dd>' for key, value in pairs.items())}</dl>"


# ---- disk


def write_html(data: ReportData, path: Path) -> Path:
    """Write the page; it needs no network. Returns `path`.

    Raises:
        RunError: the disk refuses; an older page is untouched.
    """
    return write_text(path, page(data))


def find_chrome() -> Path | None:
    """A Chrome or Chromium: `$BROWSER_PATH`, or one on the path."""
    names: Sequence[str] = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
    candidates = [os.environ.get("BROWSER_PATH"), *(shutil.which(name) for name in names)]
    return next((Path(found) for found in candidates if found and Path(found).is_file()), None)


def write_png(data: ReportData, path: Path) -> Path | None:
    """Write the front over FLOPs as a picture; None (and a logged reason) where there is no Chrome or kaleido."""
    chrome = find_chrome()
    if chrome is None:
        logger.info("no Chrome is found: no PNG")
        return None
    figure = front_figure(data, AXES["flops"])
    figure.update_layout(
        paper_bgcolor="white",
        font={"size": 16, "color": "#333333"},
        title={"text": escape(data.title), "y": 0.98},
        margin={"t": 110},
    )
    os.environ.setdefault("BROWSER_PATH", str(chrome))
    try:
        picture = figure.to_image("png", width=1200, height=700, scale=1.25)
    except Exception as error:  # kaleido missing, Chrome refusing to start: a page without picture is still a report
        logger.info("no PNG: %s", error)
        return None
    with atomic_path(path) as temporary:
        temporary.write_bytes(picture)
    return path
