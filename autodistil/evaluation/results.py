"""Results of evaluations: values per seed with mean and spread, kept as JSON beside the model that they are of."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from statistics import mean, stdev
from typing import Any

from autodistil.errors import RunError
from autodistil.files import write_text
from autodistil.run import installed_versions

RESULTS = "evaluation.json"
_PACKAGES = ("autodistil", "torch", "transformers", "scikit-learn", "scipy", "numpy")


@dataclass(frozen=True)
class TaskResult:
    """What one method says of a model on one task. Metrics are fractions, in [-1, 1]."""

    task: str
    method: str
    """A key of `evaluate.METHODS`."""
    split: str
    """The split that was scored."""
    rows: int
    """Rows of it."""
    train_rows: int
    """Rows that were trained on, 0 without training."""
    metrics: Mapping[str, tuple[float, ...]]
    """Metric -> a value a seed; the headline first."""
    model: str
    """Fingerprint of configuration and weights."""
    data: Mapping[str, str]
    """`origin` and `fingerprint` of the data."""
    settings: Mapping[str, Any]
    details: Mapping[str, Any] = field(default_factory=dict)
    """What the method adds, such as the learning rate and the best epochs."""
    versions: Mapping[str, str] = field(default_factory=lambda: installed_versions(_PACKAGES))
    date: str = field(default_factory=lambda: datetime.now(UTC).isoformat(timespec="seconds"))

    @property
    def headline(self) -> str:
        """The metric that counts."""
        return next(iter(self.metrics))

    @property
    def seeds(self) -> int:
        """How many there were."""
        return len(self.metrics[self.headline])

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON; `std` is the sample standard deviation over seeds, null of one seed."""
        metrics = {name: summary(values) for name, values in self.metrics.items()}
        return {**self.__dict__, "metrics": metrics, "headline": self.headline, "seeds": self.seeds}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> TaskResult:
        """The result of `to_dict`.

        Raises:
            KeyError, TypeError, AttributeError: it is none.
        """
        fields = {name: values[name] for name in cls.__dataclass_fields__}
        fields["metrics"] = {name: tuple(map(float, m["values"])) for name, m in values["metrics"].items()}
        result = cls(**fields)
        assert result.metrics, "no metric"
        return result


def summary(values: Sequence[float]) -> dict[str, Any]:
    """Values of the seeds, their mean and sample standard deviation (None of one value)."""
    return {"values": list(values), "mean": mean(values), "std": stdev(values) if len(values) > 1 else None}


def read_results(folder: Path) -> list[TaskResult]:
    """The results kept in a folder, none where there is no file.

    Raises:
        RunError: the file is damaged.
    """
    path = folder / RESULTS
    if not path.is_file():
        return []
    try:
        return [TaskResult.from_dict(row) for row in json.loads(path.read_text(encoding="utf-8"))["results"]]
    except (OSError, ValueError, KeyError, TypeError, AttributeError, AssertionError) as error:
        raise RunError(
            f"{str(path)!r} is damaged ({type(error).__name__}: {error}); restore it, or remove it to begin anew"
        ) from error


def merge(old: Sequence[TaskResult], new: Sequence[TaskResult]) -> list[TaskResult]:
    """All results, in order of task and method; a newer one replaces that of the same task and method.

    Results of other weights than the newest result's are dropped.
    """
    by_key = {(result.task, result.method): result for result in (*old, *new)}
    kept = [result for _, result in sorted(by_key.items())]
    return [result for result in kept if not new or result.model == new[-1].model]


def write_results(folder: Path, results: Sequence[TaskResult]) -> Path:
    """Write `evaluation.json` atomically; returns its path."""
    content = {"format": 1, "results": [result.to_dict() for result in results]}
    return write_text(folder / RESULTS, json.dumps(content, indent=2, allow_nan=False) + "\n")


def check_writable(folder: Path) -> None:
    """Make sure, before hours of work, that the results can be kept.

    Raises:
        RunError: the folder cannot be written to, or holds damaged results.
    """
    if not os.access(folder, os.W_OK | os.X_OK):
        raise RunError(f"cannot write to {str(folder)!r}: permission denied; use --no-write, or a copy of the folder")
    read_results(folder)
