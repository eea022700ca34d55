"""How far to trust the search: the certificate as words, tables and a figure of losses in the SuperLM against alone."""

from __future__ import annotations

from html import escape

import pandas as pd

from autodistil.report import markup
from autodistil.report.markup import Column
from autodistil.report.rows import ReportData, sub_spaces
from autodistil.report.style import SYMBOLS, Scale, Spec, as_text, base_layout, rounded, series_colour
from autodistil.student_search.certificate.assess import Certificate, Trial, assess
from autodistil.student_search.certificate.measured import Measured
from autodistil.student_search.certificate.verdict import sentences, verdict

FIGURE = "trust"
"""Key of the figure in the page."""


def certificate(data: ReportData) -> Certificate:
    """The certificate of a report; what the candidates alone say where it has none."""
    return data.certificate or assess(data.candidates, Measured(), data.best)


def section(data: ReportData) -> str:
    """The certificate as HTML, words first."""
    found = certificate(data)
    words = f"<p><strong>{escape(verdict(found))}</strong></p>\n{markup.paragraphs(sentences(found))}"
    parts = [
        f'<div class="prose">{words}</div>',
        markup.table(found.sub_spaces, _sub_space_columns(data), "Certificate by sub-space") * bool(found.sub_spaces),
        _trials(data, found) if found.trials else "",
    ]
    return "\n".join(part for part in parts if part)


def _trials(data: ReportData, found: Certificate) -> str:
    label = "Students in their SuperLM and trained alone"
    plot = (
        f'<div class="plot" data-figure="{FIGURE}" role="img" aria-label="{label}; the table holds the numbers"></div>'
    )
    return (
        f'<div class="panels"><div><h3>{label}</h3>{plot}</div></div>\n'
        '<p class="dim">On the line a student is as good in its SuperLM as alone; above it, sharing costs loss. '
        "Ranks agree where the points rise from left to right.</p>\n"
        f"{markup.table(found.trials, _trial_columns(data, found), label, is_best=lambda trial: trial.id == data.best)}"
    )


def figures(data: ReportData) -> dict[str, Spec]:
    """Loss in the SuperLM over loss alone; empty where no student was trained alone."""
    trials = pd.DataFrame([vars(trial) for trial in certificate(data).trials])
    if not len(trials):
        return {}
    losses = [*trials["in_superlm"], *trials["alone"]]
    x = Scale.over(losses, pad_low=0.06, pad_high=0.06)
    layout = base_layout(
        margin={"l": 62, "r": 12, "t": 10, "b": 50},
        xaxis=x.axis("Loss alone", nticks=5),
        yaxis=x.axis("Loss in the SuperLM", nticks=5),
        showlegend=trials["sub_space"].nunique() > 1,
        legend={"orientation": "h", "x": 0, "y": 1, "yanchor": "bottom", "font": {"color": "var(--ink)"}},
    )
    points = [_points(data, str(name), rows) for name, rows in trials.groupby("sub_space", sort=False)]
    return {FIGURE: {"data": [_identity(losses), *points], "layout": layout}}


def _identity(losses: list[float]) -> Spec:
    ends = [min(losses), max(losses)]
    line = {"color": "var(--faint)", "width": 1.5, "dash": "dot"}
    return {"type": "scatter", "mode": "lines", "x": ends, "y": ends, "line": line, "hoverinfo": "skip"} | _UNNAMED


_UNNAMED: Spec = {"showlegend": False}


def _points(data: ReportData, name: str, rows: pd.DataFrame) -> Spec:
    series = _series(data, name)
    return {
        "type": "scatter",
        "mode": "markers",
        "x": rounded(rows["alone"]),
        "y": rounded(rows["in_superlm"]),
        "name": as_text(name, 28),
        "marker": {"symbol": SYMBOLS[series % len(SYMBOLS)], "size": 10, "color": series_colour(series)},
        "customdata": [[as_text(student)] for student in rows["id"]],
        "hovertemplate": "<b>%{customdata[0]}</b><br>alone %{x:.4g} · in the SuperLM %{y:.4g}<extra></extra>",
    }


def _series(data: ReportData, name: str) -> int:
    names = sub_spaces(data)
    return names.index(name) if name in names else len(names)


# ---- tables


def _number(value: float | None, form: str = ".4f") -> str:
    return "–" if value is None else format(value, form)


def _percent(share: float | None) -> str:
    return "–" if share is None else f"{100 * share:.0f} %"


def _sortable(value: float | None) -> float | str:
    return "" if value is None else value


def _sub_space_columns(data: ReportData) -> tuple[Column, ...]:
    return (
        Column("Sub-space", lambda row: markup.glyph(_series(data, row.name)) + escape(row.name), text=True),
        Column("Scored", lambda row: f"{row.monotonicity.scored:,}"),
        Column("Nested pairs", lambda row: f"{row.monotonicity.pairs:,}"),
        Column("in order", lambda row: _percent(row.monotonicity.share)),
        Column("Largest over best", lambda row: _number(row.monotonicity.largest_excess)),
        Column("Trained alone", lambda row: str(row.agreement.n)),
        Column("tau", lambda row: _number(row.agreement.tau, ".2f")),
        Column("p", lambda row: _number(row.agreement.p_value, ".2g")),
        Column("tau by FLOPs", lambda row: _number(row.by_flops.tau, ".2f")),
        Column("untrained", lambda row: _number(row.untrained.tau, ".2f")),
        Column("Cost of sharing", lambda row: _number(row.interference and row.interference.mean)),
    )


def _trial_columns(data: ReportData, found: Certificate) -> tuple[Column, ...]:
    ours, alone = (_ranks(found, value) for value in ("in_superlm", "alone"))
    one = Column("in one SuperLM", lambda trial: _number(trial.in_one), lambda trial: _sortable(trial.in_one))
    return (
        Column("Student", lambda trial: _name(data, trial), lambda trial: trial.id, text=True, wide=True),
        Column("untrained", lambda trial: _number(trial.start), lambda trial: _sortable(trial.start)),
        Column("in SuperLM", lambda trial: _number(trial.in_superlm), lambda trial: trial.in_superlm),
        Column("alone", lambda trial: _number(trial.alone), lambda trial: trial.alone),
        Column("Cost of sharing", lambda trial: f"{trial.interference:+.4f}", lambda trial: trial.interference),
        Column("Rank in SuperLM", lambda trial: str(ours[trial.id]), lambda trial: ours[trial.id]),
        Column("alone", lambda trial: str(alone[trial.id]), lambda trial: alone[trial.id]),
        *([one] if found.one else []),
        Column("Steps drawn", lambda trial: _percent(trial.draws), lambda trial: _sortable(trial.draws)),
    )


def _ranks(found: Certificate, value: str) -> dict[str, int]:
    """Ranks within the sample of each sub-space, from 1."""
    trials = pd.DataFrame([vars(trial) for trial in found.trials]).set_index("id")
    return trials.groupby("sub_space")[value].rank(method="min").astype(int).to_dict()


def _name(data: ReportData, trial: Trial) -> str:
    return f"{markup.glyph(_series(data, trial.sub_space))}{escape(trial.id)}"
