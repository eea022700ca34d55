"""The pick beside its teacher: how near it is on held-out text, and how near what takes no training comes.

That is the untrained slice of its shape, and the teacher cut to as many of its layers as the student's FLOPs pay for.

agreement.json      what was found, by student; found again where the student was refined since, or the file is lost
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from autodistil.costs.closed_form import cost_table
from autodistil.evaluation.agreement import TEXTS, Agreement, Rsa, rsa_of
from autodistil.evaluation.heldout import HeldOut
from autodistil.models.superlm import SuperLM
from autodistil.run.run import Run
from autodistil.space.student import Candidate, StudentConfig
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
    similarity = Similarity(run)
    if similarity.texts > 2:
        ours, before = (similarity.of(one, candidate.config) for one in (weights(), untrained))
        layers, cut = similarity.of_cut_teacher(candidate)
        found = replace(
            found,
            rsa=ours.value,
            untrained_rsa=before.value,
            texts=similarity.texts,
            rsa_error=None if math.isnan(ours.error) else ours.error,
            cut_layers=layers,
            cut_rsa=cut,
        )
    if math.isfinite(found.loss) and math.isfinite(found.untrained_loss):
        content = {name: asdict(one) for name, one in {**known, candidate.id: found}.items()}
        write_text(path, json.dumps(content, indent=1) + "\n")
    return found


@dataclass(frozen=True)
class Similarity:
    """Compares embeddings with the teacher's, whose forward is run once."""

    run: Run
    _heldout: dict[int | None, HeldOut] = field(default_factory=dict, init=False, repr=False)

    @property
    def texts(self) -> int:
        """Held-out texts that are compared; 0 where the teacher has no embeddings."""
        inputs = self.run.inputs
        return 0 if inputs.teacher.pooling is None else min(TEXTS, len(inputs.heldout_texts))

    def of(self, superlm: SuperLM, student: StudentConfig) -> Rsa:
        """RSA of a student of any SuperLM."""
        size = student.vocab_size
        if size not in self._heldout:
            self._heldout[size] = self.run.inputs.read_embedded(size, TEXTS)
        return rsa_of(self._heldout[size], self._heldout[size].forward_of(superlm, student))

    def of_cut_teacher(self, candidate: Candidate) -> tuple[int, float | None]:
        """Layers of the teacher that a student's FLOPs pay for, and RSA of the teacher cut to them: 0, None of none."""
        inputs, dims = self.run.inputs, self.run.inputs.teacher.dims
        cut = [Candidate("cut", replace(dims, num_layers=layers)) for layers in range(1, dims.num_layers)]
        flops = cost_table([candidate, *cut], inputs.teacher.encoder_shape, inputs.seq_len)["flops"].tolist()
        paid = [one for one, cost in zip(cut, flops[1:], strict=True) if cost <= flops[0]]
        if not paid:
            return 0, None
        layers = paid[-1].config
        return layers.num_layers, self.of(self.run.superlms.untrained(paid[-1]), layers).value


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
