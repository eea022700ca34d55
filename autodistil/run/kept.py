"""What refining leaves in the run folder: what each student was refined with, and its result.

`refined/<id>/result.json` is the truth and is written once a student's refined weights are trained and scored;
`refined_loss` in `candidates.csv` and in reports repeats it. Held-out text and measure are those of the search.
"""

from __future__ import annotations

import json
import math
from dataclasses import asdict
from pathlib import Path
from typing import Any

from autodistil.config import rate_words
from autodistil.errors import RunError, one_line_named
from autodistil.student_search.candidates import Refinement
from autodistil.training.checkpoint import CHECKPOINT, WEIGHTS
from autodistil.training.recipe import Recipe
from autodistil.utils import check_sum, write_text

SETTINGS, RESULT = "settings.json", "result.json"


def begin_refinement(folder: Path, recipe: Recipe) -> None:
    """Say in `settings.json` what a student is refined with, before anything is trained in its folder."""
    if not _has_weights(folder):
        settings = {"steps": recipe.steps, "learning_rate": recipe.learning_rate}
        write_text(folder / SETTINGS, json.dumps(settings) + "\n", summed=True)


def check_settings(folder: Path, recipe: Recipe) -> None:
    """Refuse a folder whose weights were trained otherwise.

    Raises:
        RunError: names both settings, or the file that is damaged.
    """
    path = folder / SETTINGS
    if not _has_weights(folder):
        return
    try:
        check_sum(path)
        found = json.loads(path.read_text(encoding="utf-8"))
        steps, rate = int(found["steps"]), _rate(found["learning_rate"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise RunError(
            f"{str(path)!r} is damaged ({error}); remove {str(folder)!r} to refine the student anew"
        ) from error
    if (steps, rate) != settings_of(recipe):
        raise RunError(
            f"student {folder.name!r} was refined with {steps} steps at learning rate {rate_words(rate)}, "
            f"not {recipe.steps} at {rate_words(recipe.learning_rate)}; give these, or remove {str(folder)!r} to "
            "refine it anew"
        )


def settings_of(recipe: Recipe) -> tuple[int, float | None]:
    """What a refinement with a recipe has as its `Refinement.settings`."""
    return recipe.steps, recipe.learning_rate


def _has_weights(folder: Path) -> bool:
    return any((folder / name).is_file() for name in (CHECKPOINT, WEIGHTS))


def write_refinement(refinement: Refinement, folder: Path) -> None:
    """Write `result.json` atomically."""
    losses = {"loss_before": refinement.loss_before, "loss_after": refinement.loss_after}
    known = {name: loss if math.isfinite(loss) else None for name, loss in losses.items()}
    content = {**asdict(refinement), **known}
    write_text(folder / RESULT, json.dumps(content, indent=1, allow_nan=False) + "\n", summed=True)


def read_refinements(refined: Path) -> dict[str, Refinement]:
    """Student id -> its result, of all students below the folder `refined`.

    Raises:
        RunError: a file is damaged.
    """
    found = (_read(path) for path in sorted(refined.glob(f"*/{RESULT}")))
    return {refinement.student: refinement for refinement in found}


def _read(path: Path) -> Refinement:
    try:
        check_sum(path)
        raw = json.loads(path.read_text(encoding="utf-8"))
        losses = {key: math.nan if raw[key] is None else float(raw[key]) for key in ("loss_before", "loss_after")}
        found = Refinement(str(raw["student"]), int(raw["steps"]), _rate(raw["learning_rate"]), **losses)
        if found.student != path.parent.name:
            raise ValueError(f"it is of student {found.student!r}")
        return found
    except (OSError, ValueError, KeyError, TypeError) as error:
        reason = one_line_named(error, 120)
        raise RunError(f"{str(path)!r} is damaged ({reason}); remove it to score the refined student again") from error


def _rate(value: Any) -> float | None:
    return None if value is None else float(value)
