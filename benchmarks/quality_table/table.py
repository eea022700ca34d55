"""Rows as one table: every number in the CSV, what a person compares in the Markdown. Qualities are points."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from statistics import mean
from typing import Any

import pandas as pd

from quality_table.cells import HELDOUT, MEANS, Cell
from quality_table.rows import KINDS, Row
from quality_table.settings import percent

_KEYS = ["kind", "budget"]


def records(rows: Iterable[Row], cells: Sequence[Cell], latency: Mapping[str, Mapping[str, float]]) -> pd.DataFrame:
    """One line a row that is there; a cell that was not measured is missing.

    Args:
        rows: in any order.
        cells: the columns; only values under their keys count.
        latency: label of an architecture -> milliseconds.
    """
    lines = [_record(row, cells, latency) for row in rows if row.student and not row.skipped]
    order = list(KINDS)
    lines.sort(key=lambda line: (-(line["budget"] or 1000), order.index(line["kind"]), line["seed"] or 0))
    return pd.DataFrame(lines)


def _record(row: Row, cells: Sequence[Cell], latency: Mapping[str, Mapping[str, float]]) -> dict[str, Any]:
    student, spec = row.student, row.spec
    line: dict[str, Any] = {"row": spec.id, "kind": spec.kind, "budget": spec.budget, "seed": spec.seed}
    line |= {key: student.get(key) for key in ("label", "id", "flops", "flops_share", "params", "size_mb")}
    line |= {key: student.get(key) for key in ("steps", "tokens", "training_flops", "search_loss")}
    line |= {key: latency.get(student["label"], {}).get(key) for key in ("median_ms", "q1_ms", "q3_ms")}
    for cell in cells:
        found = row.cells.get(cell.id, {})
        scale = 1.0 if cell.name == HELDOUT else 100.0
        line[cell.name] = _scaled(found.get("value"), scale)
        if "std" in found:
            line[f"{cell.name}_std"] = _scaled(found["std"], scale)
    for name in MEANS:
        values = [line[cell.name] for cell in cells if cell.mean == name]
        line[name] = mean(values) if values and None not in values else None
    return line


def _scaled(value: float | None, scale: float) -> float | None:
    return None if value is None else scale * value


def collapsed(table: pd.DataFrame) -> pd.DataFrame:
    """Rows of several seeds as one, with the means of their numbers; `n` says how many there were."""
    lines = []
    for _, group in table.groupby(_KEYS, sort=False, dropna=False):
        line = group.iloc[0].to_dict()
        if len(group) > 1:
            line |= group.select_dtypes("number").mean(skipna=False).to_dict()
            line["label"] = f"{len(group)} students"
        lines.append({**line, "n": len(group)})
    return pd.DataFrame(lines)


def value_of(table: pd.DataFrame, kind: str, budget: float | None, column: str) -> float | None:
    """A number of a collapsed table, None where it is missing."""
    if column not in table:
        return None
    at = table["budget"].isna() if budget is None else table["budget"] == budget
    found = table.loc[at & (table["kind"] == kind), column]
    return None if found.empty or pd.isna(found.iloc[0]) else float(found.iloc[0])


# ---- Markdown


def markdown(table: pd.DataFrame, tasks: Sequence[str]) -> list[str]:
    """The collapsed table as lines of Markdown."""
    head = ["budget", "row", "student", "FLOPs", "params", "latency ms", "held-out", "search loss"]
    names = [name for name in (*MEANS, *tasks) if name in table and table[name].notna().any()]
    teacher = {name: value_of(table, "teacher", None, name) for name in names}
    lines = [[*head, *names, "steps", "compute"]]
    for row in table.to_dict("records"):
        lines.append([*_facts(row), *(_points(row, name, teacher[name]) for name in names), *_training(row)])
    rule = ["---" if i < 3 else "---:" for i in range(len(lines[0]))]
    return [f"| {' | '.join(line)} |" for line in (lines[0], rule, *lines[1:])]


def _facts(row: Mapping[str, Any]) -> list[str]:
    budget = "" if pd.isna(row["budget"]) else f"{percent(row['budget'])} %"
    name = f"{row['kind']} (mean of {row['n']})" if row["n"] > 1 else row["kind"]
    latency = _number(row["median_ms"], ".2f")
    if latency != "-":
        latency += f" ({row['q1_ms']:.2f}-{row['q3_ms']:.2f})"
    costs = [f"{row['flops'] / 1e6:,.0f} M ({100 * row['flops_share']:.1f} %)", f"{row['params'] / 1e6:.1f} M", latency]
    return [budget, name, row["label"], *costs, _number(row.get(HELDOUT), ".3f"), _number(row["search_loss"], ".3f")]


def _points(row: Mapping[str, Any], name: str, teacher: float | None) -> str:
    """Such as `85.1 ±0.2 (98.2 %)`, with the share of the teacher's value that is kept."""
    points, spread = _number(row.get(name), ".1f"), _number(row.get(f"{name}_std"), ".1f")
    kept = f" ({100 * row[name] / teacher:.1f} %)" if teacher and points != "-" else ""
    return points + ("" if spread == "-" else f" ±{spread}") + kept


def _training(row: Mapping[str, Any]) -> list[str]:
    compute = row["training_flops"]
    return [_number(row["steps"], ",.0f"), "-" if compute is None or pd.isna(compute) else f"{compute / 1e12:,.3g} T"]


def _number(value: Any, form: str) -> str:
    return "-" if value is None or pd.isna(value) else format(value, form)
