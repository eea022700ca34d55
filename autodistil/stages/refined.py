"""What refining left: results in the run folder, and the finalists of a search that are ranked by them.

`refined/<id>/result.json` is the truth and is written once a student's refined weights are trained and scored;
`refined_loss` in `candidates.csv` and in reports repeats it. Held-out text and measure are those of the search.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import pandas as pd

from autodistil.errors import RunError, one_line_named
from autodistil.files import write_text
from autodistil.student_search.pick import finalists, front_order, ranks_flipped

RESULT = "result.json"


@dataclass(frozen=True)
class Refinement:
    """A student that went on training alone."""

    student: str
    steps: int
    """Optimiser steps taken alone."""
    learning_rate: float
    """Their peak."""
    loss_before: float
    """Held-out loss as a slice of its SuperLM."""
    loss_after: float
    """Held-out loss after it; NaN where training diverged."""

    @property
    def settings(self) -> tuple[int, float]:
        """What two refinements must have in common to be compared."""
        return self.steps, self.learning_rate

    @property
    def helped(self) -> bool:
        """Whether the refined weights are the better ones."""
        return self.loss_after < self.loss_before

    def __str__(self) -> str:
        return (
            f"alone for {self.steps} steps at learning rate {self.learning_rate:g}: "
            f"loss {self.loss_before:.4f} -> {self.loss_after:.4f}"
        )


def write_refinement(refinement: Refinement, folder: Path) -> None:
    """Write `result.json` atomically."""
    content = {key: _to_json(value) for key, value in asdict(refinement).items()}
    write_text(folder / RESULT, json.dumps(content, indent=1, allow_nan=False) + "\n")


def read_refinements(refined: Path) -> dict[str, Refinement]:
    """Student id -> its result, of all students below the folder `refined`.

    Raises:
        RunError: a file is damaged.
    """
    found = (_read(path) for path in sorted(refined.glob(f"*/{RESULT}")))
    return {refinement.student: refinement for refinement in found}


def _read(path: Path) -> Refinement:
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
        losses = {key: math.nan if raw[key] is None else float(raw[key]) for key in ("loss_before", "loss_after")}
        found = Refinement(str(raw["student"]), int(raw["steps"]), float(raw["learning_rate"]), **losses)
        if found.student != path.parent.name:
            raise ValueError(f"it is of student {found.student!r}")
        return found
    except (OSError, ValueError, KeyError, TypeError) as error:
        reason = one_line_named(error, 120)
        raise RunError(f"{str(path)!r} is damaged ({reason}); remove it to score the refined student again") from error


def _to_json(value: object) -> object:
    return None if isinstance(value, float) and not math.isfinite(value) else value


# ---- ranks


def choose_finalists(ranked: pd.DataFrame, count: int) -> list[str]:
    """Ids of the `count` students of the front with the lowest held-out loss, best first, cheaper ones of equals."""
    return [str(student_id) for student_id in front_order(ranked).index[:count]]


def with_refinements(ranked: pd.DataFrame, known: Mapping[str, Refinement], count: int) -> pd.DataFrame:
    """Add `refined_loss` (NaN where never refined) and `finalist` to ranked candidates.

    Args:
        ranked: see `student_search.pick.rank_candidates`.
        known: results by student id.
        count: finalists that the search re-ranks. They are marked only where all of them were refined alike:
            otherwise their losses do not compare.
    """
    result = ranked.copy()
    losses = {student_id: refinement.loss_after for student_id, refinement in known.items()}
    result["refined_loss"] = pd.Series(losses, dtype=float).reindex(result.index)
    chosen = choose_finalists(ranked, count)
    result["finalist"] = result.index.isin(chosen if _comparable(chosen, known) else [])
    return result


def _comparable(chosen: Iterable[str], known: Mapping[str, Refinement]) -> bool:
    settings = [known[student_id].settings if student_id in known else None for student_id in chosen]
    return None not in settings and len(set(settings)) == 1


def rank_notes(ranked: pd.DataFrame) -> list[str]:
    """What re-ranking the finalists did, in words; nothing where there are none."""
    after = finalists(ranked)
    if not len(after):
        return []
    losses = "; ".join(f"{row['id']} {row['loss']:.4f} -> {row['refined_loss']:.4f}" for _, row in after.iterrows())
    verdict = "and their ranks flipped" if ranks_flipped(ranked) else "which left their ranks as they were"
    return [f"The {len(after)} best students of the front were refined alone, {verdict}; now, best first: {losses}."]
