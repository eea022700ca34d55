"""Stage four: a student of the search as an ordinary Hugging Face model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd

from autodistil.certificate import verdict
from autodistil.context import RunContext
from autodistil.export import ExportedStudent, check_flops, export_student
from autodistil.run_certificate import certificate_of
from autodistil.stages.reporting import provenance
from autodistil.stages.searching import superlm_of
from autodistil.student_search.study import SearchProblem


def export_candidate(
    context: RunContext,
    problem: SearchProblem,
    ranked: pd.DataFrame,
    student_id: str,
    to: Path,
    replace_existing: bool = False,
) -> ExportedStudent:
    """Export a student, its FLOPs counted again, with what a model card says about it."""
    candidate = problem.candidates[student_id]
    superlm = superlm_of(context, candidate)
    row = ranked.loc[student_id]
    check_flops(superlm, candidate, int(row["flops"]), context.config.seq_len)
    costs: dict[str, Any] = {**row.to_dict(), "teacher": context.teacher_costs(), "seq_len": context.config.seq_len}
    trust = verdict(certificate_of(context, ranked, student_id))
    loss = f"{row['loss']:.4f} ({context.objective.name})"
    facts = {
        "held-out loss": loss,
        "how far to trust it": trust,
        **context.vocabulary_facts(candidate.config),
        **provenance(context),
    }
    return export_student(superlm, candidate, context.teacher, costs, facts, to, replace_existing)
