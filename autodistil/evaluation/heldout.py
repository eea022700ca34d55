"""The task-agnostic proxy: a student's distillation loss on held-out text (AutoDistil, section 3.4)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from autodistil.attention import Batch, ModelStates
from autodistil.objectives import Objective
from autodistil.spaces import StudentConfig
from autodistil.superlm import SuperLM
from autodistil.teacher import Teacher

BATCH_SIZE = 32
"""Sequences per forward; a part of the measure where an objective compares the texts of a batch."""


@dataclass(frozen=True)
class HeldOut:
    """Held-out batches with the teacher's states, computed once for all students."""

    batches: Sequence[Batch]
    teacher_states: Sequence[ModelStates]
    objective: Objective

    @classmethod
    def build(cls, teacher: Teacher, sequences: np.ndarray, objective: Objective, layer: int | None = None) -> HeldOut:
        """Run the teacher once.

        Args:
            teacher: the frozen teacher.
            sequences: token ids (sequences, seq), without padding.
            objective: what is measured.
            layer: teacher layer to distil, the last unless given.
        """
        ids = torch.from_numpy(np.ascontiguousarray(sequences)).to(teacher.model.device)
        batches = [{"input_ids": part} for part in ids.split(BATCH_SIZE)]
        states = [teacher.states(batch, layer, objective.needs_output, objective.needs_hidden) for batch in batches]
        return cls(batches, states, objective)

    @torch.no_grad()
    def loss(self, superlm: SuperLM, student: StudentConfig) -> float:
        """Mean loss over the held-out sequences."""
        weights = superlm.weights(student)
        total, count = 0.0, 0
        for batch, teacher_states in zip(self.batches, self.teacher_states, strict=True):
            states = superlm.forward(student, batch, weights, self.objective.needs_output, self.objective.needs_hidden)
            size = len(batch["input_ids"])
            total += size * float(self.objective(states, teacher_states))
            count += size
        return total / count
