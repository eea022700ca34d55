"""The stated goals of a search, worked out from the table: yes or no with the numbers, or not measured."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import pandas as pd

from autodistil.student_search.certificate.verdict import GOOD_TAU
from quality_table.cells import PROBE_MEAN, RERANK_MEAN, RETRIEVAL_MEAN, STS_MEAN, TASK_MEAN
from quality_table.settings import percent
from quality_table.table import value_of

STSB = "stsb-test"
MEASURES: Mapping[str, str] = MappingProxyType(
    {"STS-B test": STSB, "STS mean": STS_MEAN, "retrieval mean": RETRIEVAL_MEAN}
)
"""What is compared, in points -> its column."""
ALL_MEANS: Mapping[str, str] = MappingProxyType(
    {**MEASURES, "rerank mean": RERANK_MEAN, "probe mean": PROBE_MEAN, "fine-tuned mean": TASK_MEAN}
)
"""On which no student may be below the slice that it started from; those that the table has."""
STSB_SHARES: Mapping[float, float] = MappingProxyType({60.0: 99.8, 40.0: 99.3, 20.0: 98.5, 10.0: 96.5})
"""Budget -> percent of the teacher's STS-B test that a pick should keep."""
PICKS = ("pick", "pick-refined")
"""Our own rows."""
STRONG = ("layer-reduction", "layer-reduction-our-rate", "layer-reduction-equal-compute", "static")
"""What users would take instead: a pick should be at or above."""
CONTROLS = ("runner-up", "random-pick", "untrained-leading", "truncated", "random-teacher")
"""Rows that a pick should be above."""
NEAR = 0.3
"""Points below the student trained alone that count as near."""


@dataclass(frozen=True)
class Goal:
    """One goal."""

    name: str
    holds: bool | None
    """None where a number is missing."""
    numbers: str

    @property
    def line(self) -> str:
        """As Markdown."""
        answer = {True: "**yes**", False: "**no**", None: "not measured"}[self.holds]
        return f"- {self.name}: {answer} ({self.numbers})"


def goals(table: pd.DataFrame, budgets: Sequence[float], certificate: Mapping[str, Any] | None) -> list[Goal]:
    """All goals, of a collapsed table.

    Args:
        table: see `table.collapsed`.
        budgets: percent of the teacher's FLOPs.
        certificate: content of the run's `certificate.json`, None where there is none.
    """
    ours = [pick for pick in PICKS if pick == "pick" or (table["kind"] == pick).any()]
    means = {name: column for name, column in ALL_MEANS.items() if name in MEASURES or column in table}
    measures, pick = MEASURES.items(), "pick"
    return [
        *(_not_below(table, budgets, one, *m, kind) for kind in STRONG for one in ours for m in measures),
        *(_keeps_stsb(table, budgets, one) for one in ours),
        *(_not_below(table, budgets, one, *m, "untrained") for one in ours for m in means.items()),
        *(_not_below(table, budgets, pick, *m, "alone", NEAR) for m in measures),
        *(_not_below(table, budgets, pick, *m, kind, above=True) for kind in CONTROLS for m in measures),
        _tau(certificate),
    ]


def differences(
    table: pd.DataFrame, budgets: Sequence[float], kind: str, other: str, column: str
) -> dict[float, float | None]:
    """Budget -> points that a row is above another one, None where one of them is missing."""

    def value(of: str, budget: float) -> float | None:
        own = value_of(table, of, budget, column)
        return value_of(table, of, None, column) if own is None else own  # one that has no budget stands at all

    pairs = {budget: [value(of, budget) for of in (kind, other)] for budget in budgets}
    return {
        budget: None if ours is None or theirs is None else ours - theirs for budget, (ours, theirs) in pairs.items()
    }


def _not_below(
    table: pd.DataFrame,
    budgets: Sequence[float],
    pick: str,
    name: str,
    column: str,
    other: str,
    near: float = 0.0,
    above: bool = False,
) -> Goal:
    """A row is at least as good as another one; a budget that fails is a no, whatever is missing elsewhere.

    Args:
        table: see `goals`.
        budgets: likewise; those at which the other row does not exist are left out and named.
        pick: the row.
        name: of the measure.
        column: of the measure.
        other: the other row.
        near: points that it may be below.
        above: it has to be above.
    """
    there = [b for b in budgets if ((table["kind"] == other) & (table["budget"].isna() | (table["budget"] == b))).any()]
    points = differences(table, there or budgets, pick, other, column)
    known = [value for value in points.values() if value is not None]
    failed = any(value < -near or (above and value == 0) for value in known)
    holds = False if failed else True if known and len(known) == len(points) else None
    missing = (
        f" at {len(there)} of {len(budgets)} budgets, elsewhere not there" if 0 < len(there) < len(budgets) else ""
    )
    relation = f"within {near} points of" if near else "above" if above else "at or above"
    shown = ", ".join(f"{percent(b)} %: " + ("-" if d is None else f"{d:+.2f}") for b, d in points.items())
    return Goal(f"{pick} {relation} {other}{missing}, {name}", holds, shown)


def _keeps_stsb(table: pd.DataFrame, budgets: Sequence[float], pick: str) -> Goal:
    asked = {budget: STSB_SHARES[budget] for budget in budgets if budget in STSB_SHARES}
    teacher = value_of(table, "teacher", None, STSB)
    values = {budget: value_of(table, pick, budget, STSB) for budget in asked}
    shares = {b: None if value is None or not teacher else 100 * value / teacher for b, value in values.items()}
    shown = ", ".join(
        f"{percent(b)} %: " + ("-" if share is None else f"{share:.2f} of {asked[b]:g}") for b, share in shares.items()
    )
    known = {budget: share for budget, share in shares.items() if share is not None}
    failed = any(share < asked[budget] for budget, share in known.items())
    holds = False if failed else True if asked and len(known) == len(asked) else None
    return Goal(f"{pick} keeps its share of the teacher's STS-B test, in percent", holds, shown or "no such budget")


def _tau(certificate: Mapping[str, Any] | None) -> Goal:
    name = f"Kendall tau of SuperLM losses with losses alone, {GOOD_TAU} or more in every sub-space"
    found = [] if certificate is None else certificate["findings"]["sub_spaces"]
    taus = {sub["name"]: sub["agreement"] for sub in found if sub["agreement"]["tau"] is not None}
    if not taus:
        return Goal(name, None, "no certificate; run: autodistil certify --run <the run folder>")
    shown = ", ".join(f"{sub} {agreement['tau']:.2f}, n = {agreement['n']}" for sub, agreement in taus.items())
    missing = [sub["name"] for sub in found if sub["name"] not in taus]
    holds = all(agreement["tau"] >= GOOD_TAU for agreement in taus.values())
    return Goal(name, None if holds and missing else holds, ", ".join([shown, *(f"{one} -" for one in missing)]))
