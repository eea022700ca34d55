"""The SuperLMs whose students are scored: the quick start's teacher, text and recipe."""

from __future__ import annotations

from pathlib import Path

from autodistil import pipeline
from autodistil.run.run import Run
from autodistil.utils import Progress

HOME = Path("runs") / "benchmarks" / "search"
QUICK = {"heldout_sequences": 12, "batch_size": 4}
"""Options of a run that is there to see that a benchmark runs."""


def trained_run(home: Path, steps: int, threads: int | None, budget: str, quick: bool) -> Run:
    """An open run with trained SuperLMs; trains them where that was not done yet, and goes on where interrupted."""
    options = {"train_steps": steps, "threads": threads, "budgets": [budget], **(QUICK if quick else {})}
    run = Run.open(home / f"steps{steps}{'-quick' * quick}", options, progress=Said())
    pipeline.train(run, resume=True)
    return run


class Said(Progress):
    """Progress that says what it does, and draws no bars."""

    def say(self, message: str) -> None:
        """One line."""
        print(f"   {message}", flush=True)
