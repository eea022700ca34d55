"""What of the teacher's layers students keep whose layers have sizes of their own: what the teacher does not need."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import pandas as pd

from autodistil.costs.closed_form import LAYERS
from autodistil.report.rows import ReportData, staircase
from autodistil.report.style import TEXT, Cell
from autodistil.space.student import LayerSizes, read_layers

_SHOWN = 8
"""Students of the front in the table at most, spread over it."""
_BLOCKS = {"num_heads": "attention", "intermediate_size": "FFN"}


def sizes_text(row: Mapping[str, Any], size: str, form: str = ",") -> str:
    """Heads or FFN units of a student in a cell: of all its layers, or from the least to the most of one."""
    known = row.get(LAYERS)
    sizes = [getattr(layer, size) for layer in read_layers(known)] if isinstance(known, str) and known else []
    low, high = min(sizes, default=row[size]), row[size]
    return f"{low:{form}}–{high:{form}}" if low < high else f"{high:{form}}"


def table(data: ReportData) -> list[list[Cell]]:
    """A row for each block of the teacher, the last layer first; a column for each student, the cheapest first."""
    front = _front(data)
    if front.empty:
        return []
    chosen = np.unique(np.linspace(0, len(front) - 1, min(_SHOWN, len(front))).round().astype(int))
    heads = [f"{flops / 1e6:,.0f} MFLOPs" for flops in front["flops"].iloc[chosen]]
    return [
        [
            Cell("Of the teacher", name, kind=TEXT),
            *(Cell(head, f"{n:,}" if n else "–") for head, n in zip(heads, own, strict=True)),
        ]
        for name, own in ((name, sizes.iloc[chosen]) for name, sizes in _kept(front).items())
    ]


def sentences(data: ReportData) -> Iterator[str]:
    """What the front leaves out, and what it keeps most of."""
    front, best = _front(data), data.table.get(data.best)
    if front.empty:
        return
    shares = pd.Series({name: float((sizes / max(1, sizes.max())).mean()) for name, sizes in _kept(front).items()})
    without = [] if best is None else list(_left_out(best.layers))
    if without:
        yield f"{data.best} leaves out the {', the '.join(without)}."
    yield (
        f"Over the front, least is kept of the {shares.idxmin()} ({shares.min():.0%} of the most that a student has), "
        f"most of the {shares.idxmax()} ({shares.max():.0%})."
    )


def _front(data: ReportData) -> pd.DataFrame:
    """The students of the front whose layers have sizes of their own, cheapest first."""
    front = staircase(data, "flops")
    return front[front[LAYERS].fillna("") != ""] if LAYERS in front else front[:0]


def _kept(front: pd.DataFrame) -> dict[str, pd.Series]:
    """Block of the teacher, from the last layer on -> its heads or units in the students of the front."""
    layers = [read_layers(text) for text in front[LAYERS]]
    return {
        f"{block} of layer {layer + 1}": pd.Series([getattr(own[layer], size) for own in layers], dtype=int)
        for layer in reversed(range(len(layers[0])))
        for size, block in _BLOCKS.items()
    }


def _left_out(layers: tuple[LayerSizes, ...]) -> Iterator[str]:
    for number, layer in enumerate(layers, start=1):
        lacking = [block for size, block in _BLOCKS.items() if not getattr(layer, size)]
        if lacking:
            yield f"{' and '.join(lacking)} of layer {number}"
