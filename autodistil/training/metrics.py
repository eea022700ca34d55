"""Training metrics: one JSON object a line in `metrics.jsonl`, and the same numbers for TensorBoard."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from autodistil.training.trainer import StepMetrics
from autodistil.utils import disk_errors, write_text

logger = logging.getLogger(__name__)

FIGURES = ("loss", "largest_loss", "smallest_loss", "lr", "grad_norm")
"""Fields of a step that are drawn over steps."""


class MetricsLog:
    """Appends step metrics; opening one for a resumed training drops what comes after the steps it resumes from.

    Args:
        path: of `metrics.jsonl`.
        steps_done: of each SuperLM, where it goes on.
        tensorboard: folder for TensorBoard's event files.
        also: told the name of a SuperLM, its step and the figures too.
    """

    def __init__(
        self,
        path: Path,
        steps_done: Mapping[str, int],
        tensorboard: Path | None = None,
        also: Callable[[str, int, Mapping[str, float]], None] = lambda group, step, values: None,
    ) -> None:
        self.path = path
        self._also = also
        if path.is_file():
            kept = [row for row in read_metrics(path) if row["step"] <= steps_done.get(row["sub_space"], row["step"])]
            write_text(path, "".join(json.dumps(row) + "\n" for row in kept))
        self._writer = _summary_writer(tensorboard, max(steps_done.values(), default=0)) if tensorboard else None

    def append(self, rows: Sequence[StepMetrics]) -> None:
        """Write the rows of one step."""
        lines = "".join(json.dumps(asdict(row)) + "\n" for row in rows)
        with disk_errors(self.path), open(self.path, "a", encoding="utf-8") as file:
            file.write(lines)
        for row in rows:
            figures = {name: getattr(row, name) for name in FIGURES}
            self._also(row.sub_space, row.step, figures)
            if self._writer is not None:
                with disk_errors(self.path):
                    for name, value in figures.items():
                        self._writer.add_scalar(f"{row.sub_space}/{name}", value, row.step)

    def close(self) -> None:
        """Flush."""
        if self._writer is not None:
            with disk_errors(self.path):
                self._writer.close()


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """All rows; a last line that a crash cut short is left out, as is any other that is damaged."""
    rows = []
    lines = path.read_bytes().splitlines()
    for line in lines:
        try:
            row = json.loads(line)
            _ = str(row["sub_space"]), int(row["step"]), [float(row[name]) for name in FIGURES if name in row]
            rows.append(row)
        except (ValueError, KeyError, TypeError, RecursionError):
            continue
    if damaged := len(lines) - len(rows):
        logger.warning("left out %d damaged lines of %s", damaged, path)
    return rows


def missing_steps(rows: Sequence[Mapping[str, Any]], trained: Collection[str], steps: int) -> dict[str, int]:
    """Name of a SuperLM that was trained for so many steps -> how many of them the rows lack, where they lack some."""
    found: dict[str, set[int]] = {name: set() for name in trained}
    for row in rows:
        found.get(row["sub_space"], set()).add(row["step"])
    lacking = {name: steps - len(there & set(range(1, steps + 1))) for name, there in found.items()}
    return {name: lacks for name, lacks in lacking.items() if lacks}


def training_seconds(rows: Sequence[Mapping[str, Any]]) -> float:
    """Seconds that went into SuperLMs in these steps, less what the teacher took; 0 where rows do not say."""
    return sum(float(row.get("seconds", 0.0)) for row in rows)


def _summary_writer(folder: Path, first_step: int) -> Any:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        logger.info("tensorboard is not installed; metrics go to metrics.jsonl only")
        return None
    return SummaryWriter(str(folder), purge_step=first_step + 1)
