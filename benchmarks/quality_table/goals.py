"""The stated goals of a search, worked out from the table: yes or no with the numbers, or not measured."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import pandas as pd

from autodistil.student_search.certificate.verdict import GOOD_TAU
from quality_table.cells import STS_MEAN, TASK_MEAN
from quality_table.settings import percent
from quality_table.table import value_of

MEASURES: Mapping[str, str] = MappingProxyType({"fine-tuned": TASK_MEAN, "STS without training": STS_MEAN})
"""What is compared, in points -> its column."""
STSB_SHARES: Mapping[float, float] = MappingProxyType({60.0: 99.5, 40.0: 98.0, 20.0: 96.0, 10.0: 93.0})
"""Budget -> percent of the teacher's STS-B that a pick should keep."""
PICKS = ("pick", "pick-refined", "pick-proxy")
"""Our own rows."""
CONTROLS = ("runner-up", "random-pick", "untrained", "untrained-leading", "truncated", "random-teacher")
"""Rows that a pick should be above."""
NEAR = 0.5
"""Points below the student trained alone that count as near."""
_SHARE_BETTER = 0.75
"""Share of the budgets at which the hand-made student should be beaten."""


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
    compared = [(pick, name, column) for pick in ours for name, column in MEASURES.items()]
    return [
        *(_beats(table, budgets, *of, "hand-made") for of in compared),
        *(_beats(table, budgets, *of, "hand-made-equal-compute") for of in compared),
        *(_near(table, budgets, *of) for of in compared),
        *(_keeps_stsb(table, budgets, pick) for pick in ours),
        *(_above(table, budgets, "pick", *measure, kind) for kind in CONTROLS for measure in MEASURES.items()),
        _tau(certificate),
    ]


def differences(
    table: pd.DataFrame, budgets: Sequence[float], kind: str, other: str, column: str
) -> dict[float, float | None]:
    """Budget -> points that a row is above another one, None where one of them is missing."""
    pairs = {budget: [value_of(table, of, budget, column) for of in (kind, other)] for budget in budgets}
    return {
        budget: None if ours is None or theirs is None else ours - theirs for budget, (ours, theirs) in pairs.items()
    }


def _compared(
    name: str, points: Mapping[float, float | None], floor: float = 0.0, strict: bool = False, better: int = 0
) -> Goal:
    """A goal over the points at all budgets; one budget that fails is a no, whatever is missing elsewhere.

    Args:
        name: of the goal.
        points: budget -> difference.
        floor: no budget may be below.
        strict: nor at it.
        better: budgets that must be above zero.
    """
    known = [value for value in points.values() if value is not None]
    failed = any(value < floor or (strict and value == floor) for value in known)
    complete = bool(known) and len(known) == len(points)
    holds = False if failed else sum(value > 0 for value in known) >= better if complete else None
    shown = ", ".join(f"{percent(b)} %: " + ("-" if d is None else f"{d:+.2f}") for b, d in points.items())
    return Goal(name, holds, shown)


def _beats(table: pd.DataFrame, budgets: Sequence[float], pick: str, name: str, column: str, other: str) -> Goal:
    better = math.ceil(_SHARE_BETTER * len(budgets))
    goal = f"{pick} at least as good as {other} at every budget and better at {better} of {len(budgets)}, {name}"
    return _compared(goal, differences(table, budgets, pick, other, column), better=better)


def _near(table: pd.DataFrame, budgets: Sequence[float], pick: str, name: str, column: str) -> Goal:
    goal = f"{pick} within {NEAR} points of the pick trained alone by our recipe, {name}"
    return _compared(goal, differences(table, budgets, pick, "alone", column), floor=-NEAR)


def _above(table: pd.DataFrame, budgets: Sequence[float], pick: str, name: str, column: str, kind: str) -> Goal:
    points = differences(table, budgets, pick, kind, column)
    there = {budget: value for budget, value in points.items() if value is not None} or points
    missing = "" if len(there) == len(points) else f" at {len(there)} of {len(points)} budgets, elsewhere not measured"
    return _compared(f"{pick} above {kind}{missing}, {name}", there, strict=True)


def _keeps_stsb(table: pd.DataFrame, budgets: Sequence[float], pick: str) -> Goal:
    asked = {budget: STSB_SHARES[budget] for budget in budgets if budget in STSB_SHARES}
    teacher = value_of(table, "teacher", None, "stsb")
    values = {budget: value_of(table, pick, budget, "stsb") for budget in asked}
    shares = {b: None if value is None or not teacher else 100 * value / teacher for b, value in values.items()}
    shown = ", ".join(
        f"{percent(b)} %: " + ("-" if share is None else f"{share:.2f} of {asked[b]:g}") for b, share in shares.items()
    )
    known = {budget: share for budget, share in shares.items() if share is not None}
    failed = any(share < asked[budget] for budget, share in known.items())
    holds = False if failed else True if asked and len(known) == len(asked) else None
    return Goal(f"{pick} keeps its share of the teacher's STS-B Spearman, in percent", holds, shown or "no such budget")


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
