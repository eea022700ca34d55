"""Held-out losses text by text, of every student that meets a run's budgets."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from autodistil.data.batch import PADDING
from autodistil.evaluation.heldout import block_sizes
from autodistil.run.run import Run
from autodistil.space.student import Candidate
from autodistil.stages.costing import search_problem
from autodistil.utils import atomic_path


@dataclass(frozen=True)
class TextTable:
    """Losses of students on texts."""

    ids: list[str]
    losses: NDArray[np.float64]
    """(students, texts), in the order of the held-out text."""
    tokens: NDArray[np.int64]
    """Tokens of each text, (texts,)."""
    flops: NDArray[np.int64]
    """Multiply-adds of each student at the run's length, (students,)."""


def text_table(run: Run, path: Path) -> TextTable:
    """The table of all students within the run's budgets, computed once and kept at `path` (.npz)."""
    problem = search_problem(run.inputs, run.config.budgets)
    table = problem.table[problem.feasible]
    if not path.is_file():
        losses = [_losses(run, problem.candidates[student_id]) for student_id in table.index]
        with atomic_path(path) as temporary, open(temporary, "wb") as file:
            np.savez(file, losses=np.array(losses))
    losses = np.load(path)["losses"]
    tokens = (run.inputs.heldout_texts != PADDING).sum(1)
    return TextTable(list(table.index), losses, tokens, table["flops"].to_numpy())


def _losses(run: Run, candidate: Candidate) -> NDArray[np.float64]:
    heldout = run.scorer.heldout_for(candidate.config)
    forward = heldout.forward_of(run.superlms.of(candidate), candidate.config)
    blocks = range(len(block_sizes(run.inputs.heldout_texts)))
    return np.concatenate([heldout.losses_of(forward, block) for block in blocks])
