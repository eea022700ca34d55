"""The page of a tuning: figures, one below the other, with all that they need inside."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from autodistil.utils import write_text

_HEAD = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>Tuning</title></head>
<body style="font-family: sans-serif"><h1>Recipes that were tried</h1>
<p>Trials that took all steps, all in trials.csv; a lower loss is better. What mattered is told of eight or more.</p>
"""


def write_page(figures: Sequence[Any], path: Path) -> Path:
    """Write Plotly figures as a page that needs no network, whole or not at all. Returns `path`.

    Raises:
        RunError: the disk refuses; an older page is untouched.
    """
    parts = [figure.to_html(full_html=False, include_plotlyjs=not number) for number, figure in enumerate(figures)]
    return write_text(path, "\n".join([_HEAD, *parts, "</body></html>\n"]))
