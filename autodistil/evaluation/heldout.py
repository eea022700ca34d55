"""The task-agnostic proxy: a student's distillation loss on held-out text (AutoDistil, section 3.4)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from autodistil.attention import ModelStates
from autodistil.evaluation.retokenised import Reading, Spellings, fitting_length, read
from autodistil.evaluation.text_losses import Target, text_losses
from autodistil.inputs import Batch, as_batch, real_tokens
from autodistil.objectives import Objective
from autodistil.spaces import StudentConfig
from autodistil.superlm import SuperLM
from autodistil.teacher import Teacher

BATCH_SIZE = 16
"""Texts per forward, after each of which a race may stop a student; a part of the measure where an objective compares
the texts of a batch."""


def batch_sizes(texts: np.ndarray) -> list[int]:
    """Texts of each batch of held-out texts (texts, tokens)."""
    starts = range(0, len(texts), BATCH_SIZE)
    return [min(BATCH_SIZE, len(texts) - start) for start in starts]


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
        parts = np.split(texts, np.cumsum(batch_sizes(texts))[:-1])
        batches = [as_batch(part, teacher.padding_id, teacher.model.device) for part in parts]
        states = [teacher.states(batch, layer, objective.needs_output, objective.needs_hidden) for batch in batches]
        if spellings is None:
            return cls(batches, states, objective)
        return cls(batches, states, objective, [read(batch, spellings, teacher.padding_id) for batch in batches])

    @cached_property
    def _targets(self) -> tuple[Target, ...]:
        pairs = zip(self.batches, self.teacher_states, strict=True)
        return tuple(Target(states, real_tokens(batch), self.objective.options) for batch, states in pairs)

    @torch.no_grad()
    def text_losses(
        self, superlm: SuperLM, student: StudentConfig, number: int, weights: Mapping[str, Tensor] | None = None
    ) -> NDArray[np.float64]:
        """Losses of the texts of batch `number`, (texts,), whose mean is that of the batch.

        Args:
            superlm: holds the student.
            student: who is scored.
            number: index of the batch.
            weights: see `SuperLM.forward`.
        """
        reading = self.readings[number] if self.readings else None
        inputs = reading.batch if reading else self.batches[number]
        states = superlm.forward(student, inputs, weights, self.objective.needs_output, self.objective.needs_hidden)
        states = reading.of_tokens(states) if reading else states
        losses = text_losses(self.objective, states, self._targets[number])
        return np.asarray(losses.double().cpu().numpy())

    @torch.no_grad()
    def loss(self, superlm: SuperLM, student: StudentConfig) -> float:
        """Mean loss over the held-out texts."""
        weights = superlm.weights(student)
        parts = [self.text_losses(superlm, student, number, weights) for number in range(len(self.batches))]
        return float(np.concatenate(parts).mean())
