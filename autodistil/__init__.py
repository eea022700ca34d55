"""AutoDistil-style search for the best small student of a Transformer under hard budgets.

    import autodistil

    result = autodistil.search(budgets=["500MFLOPs"], train_steps=60)
    run = autodistil.open_run(result.run)
    model, tokenizer = run.student("best")

The parts are importable on their own: `autodistil.pipeline` shows the method, `autodistil.models.superlm` the weight
sharing. Nothing heavy is imported before it is used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from autodistil.api import Plan, SearchedRun, adapt, open_run, plan, search
    from autodistil.pipeline import SearchResult

__version__ = "0.1.0"
__all__ = ["Plan", "SearchResult", "SearchedRun", "__version__", "adapt", "open_run", "plan", "search"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from autodistil import api

    return getattr(api, name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
