"""AutoDistil-style search for the best small student of a Transformer encoder under hard budgets.

    import autodistil

    result = autodistil.search(budgets=["500MFLOPs"], train_steps=60)
    print(result.best, result.report)

The parts are importable on their own: `autodistil.pipeline` shows the method, `autodistil.models.superlm` the weight
sharing.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from autodistil.pipeline import SearchResult

__version__ = "0.1.0"


def search(
    run: str | Path | None = None, *, resume: bool = False, report_dir: str | Path | None = None, **options: Any
) -> SearchResult:
    """Train what is not trained yet, search under the budgets, report, and export the best student.

    Args:
        run: run folder, `runs/<teacher>-<space>` unless given.
        resume: go on with an interrupted training.
        report_dir: also leave the report there, under the run's name.
        **options: fields of `autodistil.config.RunConfig`, such as `budgets`, `teacher`, `corpus`, `train_steps`.

    Returns:
        The front, the best student (exported) and the report. FLOPs are multiply-adds, batch 1, at `seq_len`.

    Raises:
        AutodistilError: wrong input, in one line.
    """
    from autodistil import pipeline
    from autodistil.run.run import Run

    context = Run.open(Path(run) if run is not None else None, options)
    return pipeline.search(context, resume, Path(report_dir) if report_dir is not None else None)
