"""How far to trust the search: the certificate as tables and a figure of losses in the SuperLM against alone."""

from __future__ import annotations

import pandas as pd

from autodistil.report.rows import ReportData, series_of
from autodistil.report.style import (
    NAME,
    TEXT,
    Cell,
    Scale,
    Spec,
    as_text,
    identity_line,
    or_dash,
    series_points,
    small_layout,
)
from autodistil.student_search.certificate.assess import Certificate, assess
from autodistil.student_search.certificate.measured import CertificateLosses


def certificate(data: ReportData) -> Certificate:
    """The certificate of a report; what the candidates alone say where it has none."""
    return data.certificate or assess(data.table, CertificateLosses(), data.best)


def figures(data: ReportData) -> dict[str, Spec]:
    """Loss in the SuperLM over loss alone; empty where no student was trained alone."""
    trials = pd.DataFrame([vars(trial) for trial in certificate(data).trials])
    if not len(trials):
        return {}
    losses = [*trials["in_superlm"], *trials["alone"]]
    scale = Scale.over(losses, pad_low=0.06, pad_high=0.06)
    layout = small_layout(
        scale.axis("Loss alone", nticks=5),
        scale.axis("Loss in the SuperLM", nticks=5),
        showlegend=trials["sub_space"].nunique() > 1,
    )
    points = [
        series_points(
            rows["alone"],
            rows["in_superlm"],
            name,
            series_of(data, str(name)),
            10,
            customdata=[[as_text(student)] for student in rows["id"]],
            hovertemplate="<b>%{customdata[0]}</b><br>alone %{x:.4g} · in the SuperLM %{y:.4g}<extra></extra>",
        )
        for name, rows in trials.groupby("sub_space", sort=False)
    ]
    return {"trust": {"data": [identity_line(losses), *points], "layout": layout}}


# ---- tables


def sub_space_table(data: ReportData) -> list[list[Cell]]:
    """How far to trust each sub-space."""
    return [
        [
            Cell("Sub-space", row.name, kind=TEXT, series=series_of(data, row.name)),
            Cell("Scored", f"{row.monotonicity.scored:,}"),
            Cell("Nested pairs", f"{row.monotonicity.pairs:,}"),
            Cell("in order", _percent(row.monotonicity.share)),
            Cell("Largest over best", or_dash(row.monotonicity.largest_excess)),
            Cell("Trained alone", row.agreement.n),
            Cell("tau", or_dash(row.agreement.tau, ".2f")),
            Cell("p", or_dash(row.agreement.p_value, ".2g")),
            Cell("tau by FLOPs", or_dash(row.by_flops.tau, ".2f")),
            Cell("untrained", or_dash(row.untrained.tau, ".2f")),
            Cell("Cost of sharing", or_dash(row.interference.mean if row.interference else None)),
        ]
        for row in certificate(data).sub_spaces
    ]


def trial_table(data: ReportData) -> list[list[Cell]]:
    """The students that were trained alone."""
    found = certificate(data)
    ours, alone = (_ranks(found, value) for value in ("in_superlm", "alone"))
    return [
        [
            Cell("Student", trial.id, trial.id, NAME, series_of(data, trial.sub_space)),
            Cell("untrained", or_dash(trial.start), _sortable(trial.start)),
            Cell("in SuperLM", or_dash(trial.in_superlm), trial.in_superlm),
            Cell("alone", or_dash(trial.alone), trial.alone),
            Cell("Cost of sharing", f"{trial.interference:+.4f}", trial.interference),
            Cell("Rank in SuperLM", ours[trial.id], ours[trial.id]),
            Cell("alone", alone[trial.id], alone[trial.id]),
            *([Cell("in one SuperLM", or_dash(trial.in_one), _sortable(trial.in_one))] if found.one else []),
            Cell("Steps drawn", _percent(trial.draws), _sortable(trial.draws)),
        ]
        for trial in found.trials
    ]


def _percent(share: float | None) -> str:
    return "–" if share is None else f"{100 * share:.0f} %"


def _sortable(value: float | None) -> float | str:
    return "" if value is None else value


def _ranks(found: Certificate, value: str) -> dict[str, int]:
    """Ranks within the sample of each sub-space, from 1."""
    trials = pd.DataFrame([vars(trial) for trial in found.trials], columns=["id", "sub_space", value]).set_index("id")
    return trials.groupby("sub_space")[value].rank(method="min").astype(int).to_dict()
