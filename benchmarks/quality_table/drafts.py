"""A student that is not exported yet, as the makers of rows hand it on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from autodistil.models.superlm import SuperLM
from autodistil.run.run import Run
from autodistil.space.student import Candidate
from quality_table.rows import RowSpec


@dataclass(frozen=True)
class Draft:
    """A student that is not exported yet."""

    run: Run
    """Whose teacher gives the tokenizer and the costs."""
    superlm: SuperLM
    candidate: Candidate
    facts: Mapping[str, Any]
    """How it was trained."""


def budget_of(spec: RowSpec) -> float:
    """The budget of a row that has one."""
    assert spec.budget is not None
    return spec.budget
