"""A student that is not exported yet, as the makers of rows hand it on, and what the table says of its costs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from autodistil.costs.closed_form import COST_COLUMNS, cost_table
from autodistil.models.superlm import SuperLM
from autodistil.run.facts import teacher_costs
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


def student_facts(run: Run, candidate: Candidate) -> dict[str, Any]:
    """Label, id and costs of a student, in closed form."""
    row = cost_table([candidate], run.inputs.teacher.encoder_shape, run.config.seq_len).iloc[0]
    costs = {name: row[name].item() for name in COST_COLUMNS}
    share = costs["flops"] / teacher_costs(run.inputs)["flops"]
    return {"label": candidate.config.label, "id": candidate.id, **costs, "flops_share": share}
