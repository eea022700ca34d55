"""What all cases of the step share: the default teacher, its three SuperLMs, random tokens, one list of students."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch

from autodistil.data.batch import Batch
from autodistil.models.superlm import SuperLM
from autodistil.models.teacher import Teacher, load_teacher
from autodistil.objectives.objective import Objective, resolve_objective
from autodistil.space.files import load_space
from autodistil.space.space import SearchSpace
from autodistil.space.student import StudentConfig
from autodistil.training.recipe import Recipe
from autodistil.training.sampling import draw_students
from autodistil.training.trainer import SuperLMTrainer


@dataclass(frozen=True)
class Setting:
    """One size of the benchmark; can be sent to another process."""

    batch: int
    """Sequences of a step."""
    length: int
    """Tokens of a sequence; all are real."""
    precision: str = "fp32"
    device: str = "cpu"

    @property
    def recipe(self) -> Recipe:
        """Four students a step, by the sandwich rule; the rate is that of every case."""
        return Recipe(1_000_000, 1, 1e-4, 0.0, 0.01, 1.0, "sandwich", False, 2, 0, self.precision)

    @property
    def tokens(self) -> int:
        """Of a step, for each student."""
        return self.batch * self.length

    @cached_property
    def teacher(self) -> Teacher:
        """all-MiniLM-L6-v2."""
        return load_teacher(device=self.device)

    @cached_property
    def space(self) -> SearchSpace:
        """Three sub-spaces: K = 3."""
        return load_space("minilm-l6-h384")

    @cached_property
    def objective(self) -> Objective:
        """MiniLMv2's relations with as many relation heads as the space allows."""
        widths = {student.attention_width for sub in self.space.sub_spaces for student in sub.architectures}
        return resolve_objective("relation-kl", None, self.teacher.dims.attention_width, widths)

    @cached_property
    def inputs(self) -> Batch:
        """Random tokens."""
        generator = torch.Generator().manual_seed(0)
        ids = torch.randint(1000, 30_000, (self.batch, self.length), generator=generator)
        return {"input_ids": ids.to(self.device)}

    def superlms(self) -> list[SuperLM]:
        """New ones, initialised from the teacher."""
        return [SuperLM.from_teacher(self.teacher, sub) for sub in self.space.sub_spaces]

    def trainers(self, superlms: list[SuperLM]) -> list[SuperLMTrainer]:
        """Each with an optimiser of its own."""
        return [SuperLMTrainer(superlm, self.recipe, self.objective) for superlm in superlms]

    @cached_property
    def students(self) -> list[list[StudentConfig]]:
        """Of each SuperLM, those of the first step: every case and every round runs these."""
        return [draw_students(sub, self.recipe, 0) for sub in self.space.sub_spaces]
