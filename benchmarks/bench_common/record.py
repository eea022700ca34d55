"""The outcome of a benchmark: rows of measured numbers, as a JSON file and as a table on the screen."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from autodistil.utils import write_text
from bench_common.machine import conditions
from bench_common.timing import Spread

Row = Mapping[str, Any]
"""Column -> text, number or `Spread`. The first column names the row."""


def write_record(path: Path, rows: Sequence[Row], settings: Mapping[str, Any], **more: Any) -> Path:
    """Write rows with machine, versions, command and settings, whole or not at all; returns `path`."""
    content = {**conditions(), "settings": dict(settings), "rows": [_plain(row) for row in rows], **more}
    return write_text(path, json.dumps(content, indent=1, default=str) + "\n")


def _plain(row: Row) -> dict[str, Any]:
    return {name: value.as_json() if isinstance(value, Spread) else value for name, value in row.items()}


def print_table(rows: Sequence[Row]) -> None:
    """Columns aligned; spreads as `median (min to max)`."""
    columns = list(dict.fromkeys(name for row in rows for name in row))
    lines = [columns, *([_cell(row.get(name, "")) for name in columns] for row in rows)]
    widths = [max(len(line[i]) for line in lines) for i in range(len(columns))]
    for line in lines:
        print("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())


def _cell(value: Any) -> str:
    if isinstance(value, Spread):
        return f"{value.median:.3g} ({value.low:.3g} to {value.high:.3g})"
    return f"{value:.4g}" if isinstance(value, float) else str(value)
