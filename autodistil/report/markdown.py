"""The report as Markdown, for READMEs and issues: the pick, the front as a table, how far to trust it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from autodistil.costs.units import three_digits
from autodistil.report import trust
from autodistil.report.choose import device_columns
from autodistil.report.rows import ReportData, budget_rows, front_rows, headline, key_figures, sentences, student
from autodistil.student_search.certificate.verdict import sentences as certificate_sentences
from autodistil.student_search.certificate.verdict import verdict
from autodistil.utils import write_text


def write_markdown(data: ReportData, path: Path) -> Path:
    """Write the report, whole or not at all. Returns `path`.

    Raises:
        RunError: the disk refuses; an older file is untouched.
    """
    return write_text(path, markdown(data))


def markdown(data: ReportData) -> str:
    """The report as Markdown; every name in it is text."""
    parts = [
        f"# {literal(headline(data))}",
        literal(data.title),
        *_pick(data),
        *map(literal, sentences(data)),
        *_budgets(data),
        "## The Pareto front",
        *_front(data),
        "## How far to trust this",
        f"**{literal(verdict(trust.certificate(data)))}**",
        *map(literal, certificate_sentences(trust.certificate(data))),
        "## Where it comes from",
        "\n".join(f"- {literal(name)}: {literal(value)}" for name, value in data.provenance.items()),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def literal(text: object) -> str:
    """Text that Markdown shows as it is, on one line: no markup, no HTML, no cell border."""
    line = " ".join(str(text).split())
    return re.sub(r"([\\`*_\[\]<>|#~$])", r"\\\1", line).replace("&", "&amp;")


def code_block(text: str) -> str:
    """A fenced block with a fence longer than any in the text."""
    fence = "`" * max(3, 1 + max((len(run) for run in re.findall("`+", text)), default=0))
    return f"{fence}\n{text}\n{fence}"


def _pick(data: ReportData) -> list[str]:
    if student(data, data.best) is None:
        return []
    rows = [(figure.label, figure.value, figure.note) for figure in key_figures(data)]
    return [_table(("", literal(data.best), "beside"), rows), code_block(data.export_command)]


def _budgets(data: ReportData) -> list[str]:
    rows = [(row.text, row.limit, row.best, row.verdict) for row in budget_rows(data)]
    return [_table(("Budget", "Limit", "Best student", "Verdict"), rows)] if rows else []


def _front(data: ReportData) -> list[str]:
    front = front_rows(data)
    if not len(front):
        return ["The front is empty: no student was scored within every budget."]
    on_devices = device_columns(front)
    score = ["Score"] if data.score_name is not None else []
    head = (
        "Student",
        "Layers",
        "Hidden",
        "Heads",
        "FFN",
        "MFLOPs",
        "M params",
        "MB",
        *on_devices,
        *score,
        "Loss",
        "Rank",
    )
    rows = [_front_row(data, row, on_devices) for row in front.to_dict("records")]
    note = f"FLOPs are multiply-adds, batch 1, at sequence length {data.seq_len:,}; MB are 1,000,000 bytes."
    return [_table(map(literal, head), rows), note]


def _front_row(data: ReportData, row: Mapping[str, Any], on_devices: Iterable[str]) -> tuple[str, ...]:
    picks = [label for label, name in (("best", data.best), ("knee", data.knee)) if row["id"] == name]
    return (
        f"{row['id']} ({', '.join(picks)})" if picks else str(row["id"]),
        *(str(row[name]) for name in ("num_layers", "hidden_size", "num_heads", "intermediate_size")),
        three_digits(row["flops"] / 1e6),
        three_digits(row["params"] / 1e6),
        three_digits(row["size_mb"]),
        *(three_digits(row[name]) for name in on_devices),
        *([f"{row['score']:.4f}"] if data.score_name is not None else []),
        f"{row['loss']:.4f}",
        str(int(row["rank"])),
    )


def _table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """A table of cells that are names and numbers; the head is Markdown already."""
    head = tuple(head)
    lines = [head, ("---",) * len(head), *(tuple(map(literal, row)) for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
