"""The SuperLMs whose students are scored: the quick start's teacher, text and recipe."""

from __future__ import annotations

from pathlib import Path

from autodistil import pipeline
from autodistil.context import RunContext
from autodistil.progress import Progress

HOME = Path("runs") / "benchmarks" / "search"
BUDGET = "500MFLOPs"


def trained_run(home: Path, steps: int, threads: int) -> RunContext:
    """An open run with trained SuperLMs; trains them where that was not done yet, and goes on where interrupted."""
    options = {"train_steps": steps, "threads": threads, "budgets": [BUDGET]}
    context = RunContext.open(home / f"steps{steps}", options, progress=Said())
    pipeline.train(context, resume=True)
    return context


class Said(Progress):
    """Progress that says what it does, and draws no bars."""

    def say(self, message: str) -> None:
        """One line."""
        print(f"   {message}", flush=True)
