"""Training metrics: one JSON object a line in `metrics.jsonl`, and the same numbers for TensorBoard."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Mapping, Sequence
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
                for name, value in figures.items():
                    self._writer.add_scalar(f"{row.sub_space}/{name}", value, row.step)

    def close(self) -> None:
        """Flush."""
        if self._writer is not None:
            self._writer.close()


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """All rows; a last line that a crash cut short is left out."""
    rows = []
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            rows.append(json.loads(line))
        except json.JSONDecodeError:
            logger.warning("left out a damaged line of %s", path)
    return rows


def _summary_writer(folder: Path, first_step: int) -> Any:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        logger.info("tensorboard is not installed; metrics go to metrics.jsonl only")
        return None
    return SummaryWriter(str(folder), purge_step=first_step + 1)
