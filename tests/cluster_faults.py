"""Faults that a test lets workers have, each once, and what must be as if they had not been."""

import os
import signal
from dataclasses import dataclass
from pathlib import Path

SPACE = """
sub_spaces:
  tiny: {num_layers: [2], hidden_size: [16, 64], head_size: 16, mlp_ratio: [2.0]}
  base: {num_layers: [2, 3], hidden_size: [48], head_size: 16, mlp_ratio: [2.0]}
"""
STEPS = 6


@dataclass(frozen=True)
class Faults:
    """Called after each step in each worker."""

    folder: Path
    raises_at: tuple[int, int] | None = None
    """(rank, step)."""
    killed_at: tuple[int, int] | None = None

    def __call__(self, rank, step):
        if (rank, step) == self.raises_at and self._first("raised"):
            raise ValueError("a fault of the test")
        if (rank, step) == self.killed_at and self._first("killed"):
            os.kill(os.getpid(), signal.SIGKILL)

    def _first(self, name):
        path = self.folder / name
        there = path.exists()
        path.touch()
        return not there
