"""A budget in milliseconds against one in FLOPs: what each picks, and what the picks take when measured afresh.

Searches under `--budget Xms@cpu,threads=1,runtime=onnx`, then, with the same SuperLMs and scores, under the FLOPs that
stand for X on this machine by the mean of the measured students; exports both picks and measures them side by side in a
new process. Last, the FLOPs budget is lowered until its pick holds X: what FLOPs cost at the same latency.

    python benchmarks/device_budget.py                                              a quick look: 16 toy students
    python benchmarks/device_budget.py --space minilm-l6-h384 --ms 6 --train-steps 24    the real thing, on idle cores
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import pandas as pd
import torch

from autodistil import pipeline
from autodistil.context import RunContext
from autodistil.profiling.profile import profile_students
from autodistil.profiling.session import Plan
from autodistil.profiling.table import LatencyEntry
from autodistil.stages.profiling import folder_sources


def main() -> None:
    """Search twice, export, measure, and print."""
    options = _options()
    torch.set_num_threads(options.threads)
    with tempfile.TemporaryDirectory() as folder:
        options.run = options.run or Path(folder) / "run"
        _compare(options)


def _compare(options: argparse.Namespace) -> None:
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
    for name, student in picks.items():
        print(_line(name, scored.loc[student], entries[student], options.ms))
    print(f"FLOPs alone at this latency: {same['id']}, loss {same['loss']:.4f}, {same[column]:.3g} ms by model")


def _line(name: str, row: pd.Series, entry: LatencyEntry, limit: float) -> str:
    verdict = "within" if entry.high_ms <= limit else "over"
    interval = f"{entry.low_ms:.3g} to {entry.high_ms:.3g}{', busy' * entry.busy}"
    return (
        f"{name}: {row['id']}, loss {row['loss']:.4f}, {row['flops'] / 1e6:.4g} MFLOPs, "
        f"afresh {entry.median_ms:.3g} ms ({interval}): {verdict} {limit:g} ms"
    )


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


def _context(options: argparse.Namespace, budget: str) -> RunContext:
    given = {"space": options.space, "train_steps": options.train_steps, "seq_len": options.seq_len}
    given |= {"corpus": options.corpus, "budgets": [budget], "threads": options.threads}
    given |= {"batch_size": options.batch_size, "heldout_sequences": 8}
    return RunContext.open(options.run, {key: value for key, value in given.items() if value is not None})


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", type=Path, help="a run folder, used again [a temporary one]")
    parser.add_argument("--ms", type=float, default=1.0, help="the budget [%(default)g]")
    parser.add_argument("--space", default="smoke", help="[%(default)s]")
    parser.add_argument("--corpus", action="append")
    parser.add_argument("--train-steps", type=int, default=8)
    parser.add_argument("--batch-size", type=int, default=8)
    parser.add_argument("--seq-len", type=int, default=64)
    parser.add_argument("--threads", type=int, default=1)
    return parser.parse_args()


if __name__ == "__main__":
    main()
