"""The rows of the table, and the JSON file that each leaves. A row's file is written anew after every cell.

A file is named by the row and by a hash of what decides its student; a cell in it by the cell and by a hash of what
decides its value. So rows of other settings stay beside, and what is done is found again whatever else was changed.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

from autodistil.utils import write_text
from quality_table.settings import percent

KINDS: Mapping[str, str] = MappingProxyType(
    {
        "teacher": "the teacher itself",
        "pick": "our pick: lowest held-out loss in budget, a slice of its SuperLM as it is",
        "hand-made": "a person's choice: MiniLMv2 relations only, packed sequences, the teacher's leading dimensions "
        "and layers in its own order, trained alone on as many tokens as a SuperLM",
        "layer-reduction": "what users of sentence-transformers would do: as many of the teacher's layers as fit, at "
        "full width, trained on its embeddings by that library and as its example does, on the sentences of a SuperLM",
        "static": "a vector a token, made of the teacher by model2vec without text; no multiply-adds but a mean",
        "alone": "the pick's architecture trained alone by our whole recipe, as many steps as a SuperLM",
        "pick-refined": "our pick after `autodistil refine`",
        "pick-proxy": "the pick of a search by a labelled proxy task",
        "runner-up": "the student of the front with the next held-out loss",
        "random-pick": "a random student out of our trained SuperLMs that uses 80 % to 100 % of the budget",
        "untrained": "the pick's architecture sliced from the teacher in importance order, not trained",
        "untrained-leading": "the same without importance order",
        "truncated": "the teacher's first layers at full width, not trained",
        "random-teacher": "the pick's architecture distilled alone by our recipe from a random teacher of that shape",
        "hand-made-equal-compute": "hand-made, trained for the multiply-adds of all our SuperLMs by the number "
        "of budgets",
        "layer-reduction-our-rate": "layer-reduction at the learning rate of our recipe",
        "layer-reduction-equal-compute": "layer-reduction, trained for the multiply-adds of all our SuperLMs by the "
        "number of budgets, and of the pick's refinement",
    }
)
"""Kind of row -> what it is, in the order in which rows are made: what matters most first."""
SEEDS: Mapping[str, int] = MappingProxyType({"random-pick": 3})
"""Kinds with several rows a budget, one a seed."""
WITHOUT_BUDGET = ("teacher", "static")
"""Kinds that are one row."""


@dataclass(frozen=True)
class RowSpec:
    """One row."""

    kind: str
    budget: float | None = None
    """Percent of the teacher's FLOPs; None of `WITHOUT_BUDGET`."""
    seed: int | None = None

    @property
    def id(self) -> str:
        """Such as `random-pick-60-0`."""
        parts = [self.kind, *([] if self.budget is None else [percent(self.budget)])]
        return "-".join([*parts, *([] if self.seed is None else [str(self.seed)])])


def plan(kinds: Iterable[str], budgets: Iterable[float]) -> list[RowSpec]:
    """The rows of some kinds, kind by kind."""
    wanted, budgets = set(kinds), list(budgets)
    return [row for kind in KINDS if kind in wanted for row in _of_kind(kind, budgets)]


def _of_kind(kind: str, budgets: Iterable[float]) -> Iterator[RowSpec]:
    if kind in WITHOUT_BUDGET:
        yield RowSpec(kind)
        return
    for budget in budgets:
        if kind in SEEDS:
            yield from (RowSpec(kind, budget, seed) for seed in range(SEEDS[kind]))
        else:
            yield RowSpec(kind, budget)


@dataclass
class Row:
    """A row as it is kept."""

    spec: RowSpec
    key: str
    """Stands for what decides the student."""
    student: dict[str, Any] = field(default_factory=dict)
    """Its architecture, costs and training; empty until it is made."""
    cells: dict[str, dict[str, Any]] = field(default_factory=dict)
    """`<cell>@<key>` -> what was measured; the value is under `value`."""
    skipped: str | None = None
    """Why it is not there."""


@dataclass(frozen=True)
class RowStore:
    """The folder of rows."""

    folder: Path

    def path(self, spec: RowSpec, key: str) -> Path:
        """Of a row's file."""
        return self.folder / f"{spec.id}-{key}.json"

    def read(self, spec: RowSpec, key: str) -> Row:
        """The row as it was left; an empty one where there is none, or the file cannot be read."""
        try:
            content = json.loads(self.path(spec, key).read_text(encoding="utf-8"))
            return Row(spec, key, dict(content["student"]), dict(content["cells"]), content["skipped"])
        except (FileNotFoundError, ValueError, KeyError, TypeError):
            return Row(spec, key)

    def write(self, row: Row) -> Path:
        """Keep a row, whole or not at all."""
        content = {
            "row": {"id": row.spec.id, "kind": row.spec.kind, "budget": row.spec.budget, "seed": row.spec.seed},
            "what": KINDS[row.spec.kind],
            "key": row.key,
            "skipped": row.skipped,
            "student": row.student,
            "cells": row.cells,
        }
        return write_text(self.path(row.spec, row.key), json.dumps(content, indent=1) + "\n")
