"""The task-agnostic proxy: a student's distillation loss on held-out text (AutoDistil, section 3.4)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from autodistil.attention import Batch, ModelStates
from autodistil.evaluation.retokenised import Reading, Spellings, fitting_length, read
from autodistil.objectives import Objective
from autodistil.spaces import StudentConfig
from autodistil.superlm import SuperLM
from autodistil.teacher import Teacher


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
        sequences: np.ndarray,
        objective: Objective,
        batch_size: int,
        layer: int | None = None,
        spellings: Spellings | None = None,
    ) -> HeldOut:
        """Run the teacher once.

        Args:
            teacher: the frozen teacher.
            sequences: token ids (sequences, seq), without padding.
            objective: what is measured.
            batch_size: sequences per forward; memory only, not the result.
            layer: teacher layer to distil, the last unless given.
            spellings: of the tokens that the students do not know; None where they know all. Sequences that this
                makes longer than the model allows are cut, for the teacher too.
        """
        ids = torch.from_numpy(np.ascontiguousarray(sequences)).to(teacher.model.device)
        if spellings is not None:
            ids = ids[:, : fitting_length(ids, spellings, teacher.max_length)]
        batches = [{"input_ids": part} for part in ids.split(batch_size)]
        states = [teacher.states(batch, layer, objective.needs_output) for batch in batches]
        padding = teacher.model.config.pad_token_id or 0
        readings = [read(part, spellings, padding) for part in ids.split(batch_size)] if spellings is not None else ()
        return cls(batches, states, objective, readings)

    @torch.no_grad()
    def loss(self, superlm: SuperLM, student: StudentConfig) -> float:
        """Mean loss over the held-out sequences."""
        weights = superlm.weights(student)
        total, count = 0.0, 0
        for i, (batch, teacher_states) in enumerate(zip(self.batches, self.teacher_states, strict=True)):
            reading = self.readings[i] if self.readings else None
            inputs = reading.batch if reading else batch
            states = superlm.forward(student, inputs, weights, output=self.objective.needs_output)
            states = reading.of_tokens(states) if reading else states
            size = len(batch["input_ids"])
            total += size * float(self.objective(states, teacher_states))
            count += size
        return total / count
