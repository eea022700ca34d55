"""Make the rows that are missing, and the table of all that are there."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from autodistil.errors import AutodistilError
from autodistil.utils import Progress, atomic_path, write_text
from quality_table.bench import Bench, Skip
from quality_table.cells import HELDOUT, Cell, cells, known_tasks, measured
from quality_table.goals import goals
from quality_table.latency import latencies
from quality_table.page import page
from quality_table.picture import write_picture
from quality_table.rows import KINDS, Row, RowSpec, RowStore, plan
from quality_table.settings import Settings
from quality_table.students import Made, make, row_key
from quality_table.table import collapsed, records

TABLE = "quality.md"


@dataclass(frozen=True)
class MadeTable:
    """What a command leaves behind."""

    path: Path
    """The Markdown; `quality.csv` and, where a Chrome is found, `quality.png` beside it."""
    failed: tuple[str, ...]
    """Rows that an error stopped; the same command tries them again."""


def make_table(settings: Settings, progress: Progress) -> MadeTable:
    """Make what is missing of the settings' rows, and write the table.

    Raises:
        AutodistilError: a setting is wrong; nothing was trained.
    """
    bench = Bench(settings, progress)
    columns = cells(bench, settings.tasks, settings.collections)
    store = RowStore(settings.out / "rows")
    failed = []
    specs = plan(settings.rows, settings.budgets)
    for number, spec in enumerate(specs, 1):
        progress.say(f"row {number} of {len(specs)}: {spec.id}")
        try:
            make_row(bench, store, spec, columns)
        except AutodistilError as error:  # the other rows need not wait for somebody to read this
            progress.say(f"row {spec.id} failed: {error}")
            failed.append(spec.id)
        write_table(bench, store, final=False)
    return MadeTable(write_table(bench, store), tuple(failed))


def make_row(bench: Bench, store: RowStore, spec: RowSpec, columns: Sequence[Cell]) -> Row:
    """A row with its student and the columns' cells; what is there is not made again."""
    row = store.read(spec, row_key(bench, spec))
    fitting = [cell for cell in columns if cell.of_embeddings or spec.kind != "static"]
    missing = [cell for cell in fitting if cell.id not in row.cells]
    if row.student and not missing:
        return row
    try:
        made = make(bench, spec)
    except Skip as reason:
        row.skipped = str(reason)
        bench.progress.say(f"row {spec.id} is not there: {reason}")
        store.write(row)
        return row
    row.student, row.skipped = made.facts, None
    store.write(row)
    for cell in missing:
        bench.progress.say(f"row {spec.id}: {cell.name}")
        row.cells[cell.id] = measured(cell, made.folder)
        store.write(row)
    return row


def write_table(bench: Bench, store: RowStore, final: bool = True) -> Path:
    """Write what is there.

    Args:
        bench: settings.
        store: rows.
        final: also measure latencies and draw the picture.
    """
    rows = [store.read(spec, row_key(bench, spec)) for spec in plan(KINDS, bench.settings.budgets)]
    found = [row for row in rows if row.student and not row.skipped]
    out = bench.settings.out
    if not found:
        return write_text(out / TABLE, "No row is there yet.\n")
    known = cells(bench, known_tasks(bench), bench.settings.collections)
    columns = [cell for cell in known if any(cell.id in row.cells for row in found)]
    tasks = [cell.name for cell in columns if cell.name != HELDOUT]
    table = records(rows, columns, _latencies(bench, found, final))
    with atomic_path(out / "quality.csv") as temporary:
        table.to_csv(temporary, index=False)
    short = collapsed(table)
    picture = write_picture(short, out / "quality.png") if final else None
    answers = goals(short, bench.settings.budgets, _certificate(bench))
    return write_text(out / TABLE, page(bench, rows, short, tasks, answers, picture))


def _latencies(bench: Bench, rows: Sequence[Row], final: bool) -> dict[str, dict[str, float]]:
    """Of the architectures whose student is still there; a static model runs no forward of transformers."""
    if not final:
        return {}
    made = {row.student["label"]: _made(bench, row) for row in rows if row.spec.kind != "static"}
    folders = {label: student.folder for label, student in made.items() if student is not None}
    with bench.progress.track("measuring latency", 0):
        settings = bench.settings
        return latencies(folders, settings.out / "latency.json", settings.latency_rounds, bench.run.config.seq_len)


def _made(bench: Bench, row: Row) -> Made | None:
    """The student of a row that was made before, None where its folder is gone: that is no reason to train again."""
    folder = bench.folder / "students" / f"{row.spec.id}-{row.key}"
    return make(bench, row.spec) if row.spec.kind == "teacher" or folder.is_dir() else None


def _certificate(bench: Bench) -> dict[str, Any] | None:
    path = bench.folder / "run" / "certificate.json"
    return dict(json.loads(path.read_text(encoding="utf-8"))) if path.is_file() else None
