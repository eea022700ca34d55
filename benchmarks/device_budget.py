"""A budget in milliseconds against one in FLOPs: what each picks, and what the picks take when measured afresh.

Searches under `--budget Xms@cpu,threads=1,runtime=onnx`, then, with the same SuperLMs and scores, under the FLOPs that
stand for X on this machine by the mean of the measured students; exports both picks and measures them side by side in a
new process. Last, the FLOPs budget is lowered until its pick holds X: what FLOPs cost at the same latency.

    python benchmarks/device_budget.py                          a quick look: 16 toy students, 1 ms
    python benchmarks/device_budget.py --size real              the default space, 6 ms; on idle cores
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from typing import Any

import pandas as pd
from bench_common.options import arguments, common_settings, parse, record_path
from bench_common.record import Row, print_table, write_record

from autodistil import pipeline
from autodistil.profiling.latency_table import LatencyEntry
from autodistil.profiling.profile import profile_students
from autodistil.profiling.session import Plan
from autodistil.run.run import Run
from autodistil.stages.profiling import folder_sources

SIZES = {
    "quick": {"space": "smoke", "train_steps": 8, "ms": 1.0},
    "real": {"space": "minilm-l6-h384", "train_steps": 24, "ms": 6.0},
}


def main() -> None:
    """Search twice, export, measure, and print."""
    options = _options()
    with tempfile.TemporaryDirectory() as folder:
        options.run = options.run or Path(folder) / "run"
        rows = _compare(options)
    print_table(rows)
    settings = common_settings(options) | {"ms": options.ms, "space": options.space, "train_steps": options.train_steps}
    print(write_record(record_path(options, "device_budget"), rows, settings))


def _compare(options: argparse.Namespace) -> list[Row]:
    budget = f"{options.ms:g}ms@cpu,threads=1,runtime=onnx"
    column = f"ms@{budget.partition('@')[2]}"
    aware = pipeline.search(_context(options, budget))
    for note in aware.notes:
        print(note)
    flops = _flops_for(aware.candidates, column, options.ms)
    blind = pipeline.search(_context(options, f"{flops / 1e6:.4g}MFLOPs"))
    same = _same_latency(aware.candidates, blind.candidates, column, options.ms)
    picks = {"ms": aware.best, "FLOPs": blind.best}
    folders = [aware.run / "students" / student for student in dict.fromkeys(picks.values())]
    entries = dict(zip(dict.fromkeys(picks.values()), _afresh(folders, options.seq_len), strict=True))
    scored = blind.candidates.combine_first(aware.candidates)  # the same SuperLMs and texts, other students in budget
    rows = [_row(f"budget in {unit}", scored.loc[one], entries[one], options.ms) for unit, one in picks.items()]
    return [*rows, {**_known("FLOPs lowered to this latency", same), "ms by model": float(same[column])}]


def _row(what: str, student: pd.Series, entry: LatencyEntry, limit: float) -> Row:
    interval = f"{entry.low_ms:.3g} to {entry.high_ms:.3g}"
    verdict = "within" if entry.high_ms <= limit else "over"
    afresh = {"ms afresh": entry.median_ms, "interval": interval, "budget": verdict, "busy": entry.busy}
    return _known(what, student) | afresh


def _known(what: str, student: pd.Series) -> dict[str, Any]:
    cost = {"loss": float(student["loss"]), "MFLOPs": float(student["flops"]) / 1e6}
    return {"what": what, "student": student["id"], **cost}


def _flops_for(candidates: pd.DataFrame, column: str, limit: float) -> float:
    """FLOPs in this time, by the mean rate of all students."""
    return limit * float((candidates["flops"] / candidates[column]).mean())


def _same_latency(aware: pd.DataFrame, blind: pd.DataFrame, column: str, limit: float) -> pd.Series:
    """The pick of the largest FLOPs budget whose pick is within the limit."""
    scored = blind.assign(**{column: aware[column]}).dropna(subset=["loss"]).sort_values("flops")
    picks = scored[scored["loss"] < scored["loss"].cummin().shift(fill_value=float("inf"))]
    slow = picks[column] > limit
    return picks[~slow.cummax()].iloc[-1]


def _afresh(folders: list[Path], seq_len: int) -> tuple[LatencyEntry, ...]:
    sources, header = folder_sources(folders)
    return profile_students(sources, Plan(shapes=((1, seq_len),), memory=False), header).table.entries


def _context(options: argparse.Namespace, budget: str) -> Run:
    given = {"space": options.space, "train_steps": options.train_steps, "seq_len": options.seq_len}
    given |= {"corpus": options.corpus, "budgets": [budget], "threads": options.threads}
    given |= {"batch_size": options.batch_size, "heldout_sequences": 8}
    return Run.open(options.run, {key: value for key, value in given.items() if value is not None})


def _options() -> argparse.Namespace:
    parser = arguments(__doc__)
    parser.set_defaults(threads=1)
    add = parser.add_argument
    add("--run", type=Path, metavar="DIR", help="a run folder, used again [a temporary one]")
    add("--ms", type=float, metavar="MS", help="the budget [1; real: 6]")
    add("--space", help="[smoke; real: minilm-l6-h384]")
    add("--corpus", action="append", metavar="TEXT", help="[python-docs]")
    add("--train-steps", type=int, metavar="N", help="[8; real: 24]")
    add("--batch-size", type=int, default=8, metavar="N", help="[%(default)s]")
    add("--seq-len", type=int, default=64, metavar="N", help="[%(default)s]")
    return parse(parser, SIZES)


if __name__ == "__main__":
    main()
