"""The paper's recipe (AutoDistil, section 3, and its code), as plain PyTorch would have it.

K separate trainings, so the teacher runs K times, each time to its end; students are views of the shared weights
(`F.linear(x, W[:out, :in])`), so gradients have the shared weights' full size, the word embeddings' among them, and run
to their end too; relations are differentiated by autograd; AdamW as PyTorch has it. The objective is the one that
autodistil minimises, so that work is equal. Dropout is off, which makes the recipe faster than it is.
"""

from __future__ import annotations

import torch
from torch import Tensor

from autodistil.models.attention import ModelStates
from autodistil.models.superlm import SuperLM
from autodistil.objectives.objective import Objective
from autodistil.objectives.relation_kl import relation_kl_autograd
from autodistil.objectives.relations import relation_head_pair
from autodistil.space.student import StudentConfig
from autodistil.training.trainer import autocast
from step_cases.setting import Setting


class PaperRecipe:
    """The trainings, each on its own.

    Args:
        setting: teacher, objective and text.
        superlms: the K SuperLMs.
        learning_rate: of all of them.
    """

    def __init__(self, setting: Setting, superlms: list[SuperLM], learning_rate: float = 1e-4) -> None:
        self.setting = setting
        self.superlms = superlms
        self.optimizers = [
            torch.optim.AdamW(list(s.parameters.values()), lr=learning_rate, weight_decay=0.01) for s in superlms
        ]

    def step(self, students: list[list[StudentConfig]], batch: dict[str, Tensor] | None = None) -> float:
        """One step of each training; the mean loss."""
        losses = [
            self.train(superlm, optimizer, drawn, batch or dict(self.setting.inputs))
            for superlm, optimizer, drawn in zip(self.superlms, self.optimizers, students, strict=True)
        ]
        return sum(losses) / len(losses)

    def train(
        self,
        superlm: SuperLM,
        optimizer: torch.optim.Optimizer,
        students: list[StudentConfig],
        batch: dict[str, Tensor],
    ) -> float:
        """One step of one training."""
        with autocast(superlm.device, self.setting.precision):
            targets = self.setting.teacher.states(batch, output=True)
        total = 0.0
        for student in students:
            with autocast(superlm.device, self.setting.precision):
                states = superlm.forward(student, batch, output=True)
            loss = relation_loss(states, targets, self.setting.objective) / len(students)
            loss.backward()
            total += loss.item()
        torch.nn.utils.clip_grad_norm_(superlm.parameters.values(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        return total


def relation_loss(student: ModelStates, teacher: ModelStates, objective: Objective) -> Tensor:
    """KL of relations by autograd."""
    heads = objective.options.relation_heads
    pairs = zip(student.attention, teacher.attention, strict=True)
    parts = [relation_kl_autograd(*relation_head_pair(s.float(), t.float(), heads), None) for s, t in pairs]
    return torch.stack(parts).sum()
