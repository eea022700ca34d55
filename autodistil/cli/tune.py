"""`autodistil tune`: trains with recipes, and prints them as a table."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from autodistil.cli.app import app
from autodistil.cli.opening import open_run
from autodistil.cli.options import FLAGS, ConfigFile, Resume, given, with_flags
from autodistil.cli.terminal import print_lines, print_table
from autodistil.config import SEARCH_OPTIONS

_FIXED = ("metric", "assistant", "train_steps", "train_minutes", "threads", "layout", "max_failures", "track")
"""Options of a training that a tuning decides itself, or does without."""


@app.command(epilog="Example: `autodistil tune --run runs/tuning --corpus texts/ --samples 30 --workers 4`")
@with_flags(*(name for name in FLAGS if name not in SEARCH_OPTIONS.union(_FIXED)))
def tune(
    *,
    run: Annotated[Path, typer.Option(help="Run folder of the tuning, not of a search.", metavar="DIR")],
    samples: Annotated[int, typer.Option(help="Recipes to try.", metavar="N", min=1, max=10_000)] = 12,
    options: dict[str, Any],
    train_steps: Annotated[int | None, typer.Option(help="Steps of a trial [default: 90].", metavar="N")] = None,
    or_objective: Annotated[
        list[str] | None,
        typer.Option(help="Objective to try too, with weights around its own (repeatable).", metavar="TEXT"),
    ] = None,
    resume: Resume = False,
    config: ConfigFile = None,
) -> None:
    """Find learning rate, relation heads, layer map and random students by short trainings on Ray Tune."""
    opened = open_run(run, config, options | given(train_steps=train_steps))
    from autodistil.stages.tuning import tune_recipe

    tuned = tune_recipe(opened, samples, resume, or_objective or ())
    trials = tuned.trials if tuned.trials["error"].any() else tuned.trials.drop(columns="error")
    names = [name.replace("_", " ") for name in trials.columns]
    cells = trials.map(lambda value: f"{value:.4g}" if isinstance(value, float) else str(value))
    right = set(names) - {"objective", "layer map", "error"}
    print_table("Recipes by held-out loss after equal steps", names, cells.itertuples(index=False), right=right)
    mattered = ", ".join(f"{name.replace('_', ' ')} {100 * share:.0f} %" for name, share in tuned.importances.items())
    said = [f"what decided (fANOVA): {mattered}"] if mattered else []
    best = f"train with the best: autodistil train --recipe {tuned.recipe_path} --run NEW"
    print_lines(*said, f"trials: {tuned.trials_path}", f"page: {tuned.page_path}", best)
