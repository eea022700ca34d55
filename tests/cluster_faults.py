"""Faults that a test lets workers have, each once, and what must be as if they had not been."""

import os
import signal
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import pytest
from safetensors.torch import load_file

from autodistil.training.metrics import read_metrics

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
    waits_at: tuple[int, int] | None = None
    seconds: float = 600.0
    """That it waits: as good as for ever."""

    def __call__(self, rank, step):
        if (rank, step) == self.raises_at and self._first("raised"):
            raise ValueError("a fault of the test")
        if (rank, step) == self.killed_at and self._first("killed"):
            os.kill(os.getpid(), signal.SIGKILL)
        if (rank, step) == self.waits_at and self._first("waiting"):
            time.sleep(self.seconds)

    def _first(self, name):
        path = self.folder / name
        there = path.exists()
        path.touch()
        return not there


@dataclass(frozen=True)
class StopWhen:
    """A wish to stop, as by Ctrl-C, once a file is there."""

    path: Path

    @property
    def requested(self):
        return self.path.exists()

    def __enter__(self):
        return self

    def __exit__(self, *error):
        """The end of the block obeys at the latest, as `stop_on_interrupt` does."""
        if self.requested:
            raise KeyboardInterrupt


def with_faults(patch, faults):
    """Let workers of the trainings to come have faults."""
    from ray import cloudpickle

    from autodistil.stages import training

    cloudpickle.register_pickle_by_value(sys.modules[__name__])  # workers know no module of the tests
    original = training.train_on_cluster
    patch.setattr(training, "train_on_cluster", lambda *arguments: original(*arguments, after_step=faults))


def assert_same_training(run, expected):
    """Every step once, in order and on the same data; the same weights but for rounding, which AdamW may blow up."""
    ours, theirs = (
        sorted(read_metrics(r / "metrics.jsonl"), key=lambda row: (row["sub_space"], row["step"]))
        for r in (run, expected)
    )
    assert [(row["sub_space"], row["step"], row["tokens"]) for row in ours] == [
        (row["sub_space"], row["step"], row["tokens"]) for row in theirs
    ]
    for row, other in zip(ours, theirs, strict=True):
        # A divergence is a difference of sums near 1, so rounding is absolute; later AdamW enlarges it.
        assert row["loss"] == pytest.approx(other["loss"], rel=1e-4 if row["step"] == 1 else 3e-3, abs=2e-6)
    for name in ("tiny", "base"):
        weights, others = (load_file(r / "superlm" / name / "superlm.safetensors") for r in (run, expected))
        assert weights.keys() == others.keys()
        for key, value in others.items():
            assert float((weights[key] - value).abs().mean()) < 2e-5, (name, key)
    assert not list(run.glob("superlm/*/checkpoint*"))
