"""The task-agnostic proxy: a student's distillation loss on held-out text (AutoDistil, section 3.4)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from autodistil.attention import ModelStates
from autodistil.evaluation.retokenised import Reading, Spellings, fitting_length, read
from autodistil.inputs import Batch, as_batch, real_tokens
from autodistil.objectives import Objective
from autodistil.spaces import StudentConfig
from autodistil.superlm import SuperLM
from autodistil.teacher import Teacher

BATCH_SIZE = 64
"""Texts per forward; a part of the measure where an objective compares the texts of a batch."""


@dataclass(frozen=True)
class HeldOut:
    """Held-out batches with the teacher's states, computed once for all students of one vocabulary."""

    batches: Sequence[Batch]
    teacher_states: Sequence[ModelStates]
    objective: Objective
    readings: Sequence[Reading] = ()
    """The batches as students read them, where those have a pruned vocabulary."""

    @classmethod
    def build(
        cls,
        teacher: Teacher,
        texts: np.ndarray,
        objective: Objective,
        layer: int | None = None,
        spellings: Spellings | None = None,
    ) -> HeldOut:
        """Run the teacher once.

        Args:
            teacher: the frozen teacher.
            texts: token ids (texts, tokens), shorter ones filled up with `PADDING`.
            objective: what is measured.
            layer: teacher layer to distil, the last unless given.
            spellings: of the tokens that the students do not know; None where they know all. Texts that this makes
                longer than the model allows are cut, for the teacher too.
        """
        if spellings is not None:
            texts = texts[:, : fitting_length(texts, spellings, teacher.max_length)]
        parts = np.split(texts, range(BATCH_SIZE, len(texts), BATCH_SIZE))
        batches = [as_batch(part, teacher.padding_id, teacher.model.device) for part in parts]
        states = [teacher.states(batch, layer, objective.needs_output, objective.needs_hidden) for batch in batches]
        if spellings is None:
            return cls(batches, states, objective)
        return cls(batches, states, objective, [read(batch, spellings, teacher.padding_id) for batch in batches])

    @torch.no_grad()
    def loss(self, superlm: SuperLM, student: StudentConfig) -> float:
        """Mean loss over the held-out texts."""
        weights = superlm.weights(student)
        total, count = 0.0, 0
        for i, (batch, teacher_states) in enumerate(zip(self.batches, self.teacher_states, strict=True)):
            reading = self.readings[i] if self.readings else None
            inputs = reading.batch if reading else batch
            states = superlm.forward(student, inputs, weights, self.objective.needs_output, self.objective.needs_hidden)
            states = reading.of_tokens(states) if reading else states
            size = len(batch["input_ids"])
            total += size * float(self.objective(states, teacher_states, real_tokens(batch)))
            count += size
        return total / count
