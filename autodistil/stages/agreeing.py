"""The pick beside its teacher: how near it is on held-out text, and how near the untrained slice of its shape was.

agreement.json      what was found, by student; found again where the student was refined since, or the file is lost
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from autodistil.evaluation.agreement import TEXTS, Agreement, rsa_of
from autodistil.models.superlm import SuperLM
from autodistil.run.run import Run
from autodistil.space.student import Candidate
from autodistil.student_search.candidates import CandidateRow
from autodistil.student_search.teacher_row import TeacherRow
from autodistil.utils import write_text


def agreement_of(run: Run, candidate: Candidate, weights: Callable[[], SuperLM], loss: float) -> Agreement:
    """How near a student is to its teacher; looked up where that was asked before.

    Args:
        run: its SuperLMs are trained.
        candidate: the student.
        weights: gives the SuperLM with the weights that it is exported with; asked where that was not found before.
        loss: its held-out loss with these weights.
    """
    path = run.folder.agreement_path
    known = _read(path)
    if (found := known.get(candidate.id)) is not None and found.loss == loss:
        return found
    untrained = run.superlms.untrained(candidate)
    found = Agreement(loss, run.scorer.loss(untrained, candidate.config))
    if run.inputs.teacher.pooling is not None:
        heldout = run.inputs.read_embedded(candidate.config.vocab_size, TEXTS)
        if (texts := sum(map(len, heldout.rows))) > 2:
            ours, before = rsa_of(
                heldout, [heldout.forward_of(one, candidate.config) for one in (weights(), untrained)]
            )
            found = replace(found, rsa=ours, untrained_rsa=before, texts=texts)
    if math.isfinite(found.loss) and math.isfinite(found.untrained_loss):
        content = {name: asdict(one) for name, one in {**known, candidate.id: found}.items()}
        write_text(path, json.dumps(content, indent=1) + "\n")
    return found


def _read(path: Path) -> dict[str, Agreement]:
    """What was found before; nothing of a file that is damaged, as it is found again in seconds."""
    try:
        raw: dict[str, dict[str, Any]] = json.loads(path.read_text(encoding="utf-8"))
        return {name: Agreement(**one) for name, one in raw.items()}
    except (OSError, ValueError, TypeError, AttributeError):
        return {}


def beside_teacher(teacher: TeacherRow, row: CandidateRow, agreement: Agreement) -> str:
    """A student beside its teacher in a line: shares of its costs, and how near it is."""
    return f"{teacher.shares({**row.costs, **row.devices})}; {agreement.words}"
