"""What refining left: results in the run folder, and the finalists of a search that are ranked by them.

`refined/<id>/result.json` is the truth and is written once a student's refined weights are trained and scored;
`refined_loss` in `candidates.csv` and in reports repeats it. Held-out text and measure are those of the search.
"""

from __future__ import annotations

import json
import math
from dataclasses import asdict
from pathlib import Path

from autodistil.errors import RunError, one_line_named
from autodistil.student_search.candidates import Refinement
from autodistil.utils import write_text

RESULT = "result.json"


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
