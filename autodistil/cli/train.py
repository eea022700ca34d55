"""`autodistil train`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from autodistil.cli.app import app
from autodistil.cli.opening import open_run
from autodistil.cli.options import FLAGS, ConfigFile, RecipeFile, Resume, with_flags
from autodistil.cli.terminal import print_lines
from autodistil.config import SEARCH_OPTIONS


@app.command(
    epilog="Example: `autodistil train --run runs/mine --teacher bert-base-uncased --corpus wiki/ --train-minutes 600`"
)
@with_flags(*(name for name in FLAGS if name not in SEARCH_OPTIONS))
def train(
    run: Annotated[Path, typer.Option(help="Run folder.", metavar="DIR")],
    options: dict[str, Any],
    resume: Resume = False,
    config: ConfigFile = None,
    recipe: RecipeFile = None,
) -> None:
    """Train the SuperLMs of all sub-spaces."""
    opened = open_run(run, config, options, recipe=recipe)
    from autodistil import pipeline

    pipeline.train(opened, resume)
    print_lines(f"trained; search it with: autodistil search --run {run} --budget 500MFLOPs")
