"""Students alone, forward and backward: as slices of a SuperLM, and as the plain module of the same shape."""

from __future__ import annotations

import torch
from torch import Tensor
from transformers import PreTrainedModel

from autodistil.models.attention import ModelStates, run_tapped, use_tapped_attention
from autodistil.models.superlm import SuperLM
from autodistil.space.student import StudentConfig
from step_cases.setting import Setting


def _backward(states: ModelStates, output: bool) -> None:
    """From a loss that costs next to nothing."""
    parts: list[Tensor] = [states.output] if output and states.output is not None else list(states.attention)
    torch.autograd.backward([part.square().mean() for part in parts])
    if parts[0].is_cuda:
        torch.cuda.synchronize()


class Slices:
    """Ours: leaves, forward, backward and the sum of gradients, as in a step."""

    def __init__(self, setting: Setting, superlms: list[SuperLM], output: bool) -> None:
        self.setting, self.superlms, self.output = setting, superlms, output

    def run(self) -> None:
        """All students of a step."""
        for superlm, students in zip(self.superlms, self.setting.students, strict=False):
            for parameter in superlm.parameters.values():
                parameter.grad = None
            rows = superlm.token_rows(self.setting.inputs)
            for student in students:
                leaves = superlm.leaf_weights(student, rows)
                inputs = rows.batch if rows else self.setting.inputs
                _backward(superlm.forward(student, inputs, leaves, self.output), self.output)
                superlm.accumulate(student, leaves, rows)


class PlainModules:
    """The ceiling: the extracted students, as anybody would train them; the same layers are run."""

    def __init__(self, setting: Setting, superlms: list[SuperLM], output: bool) -> None:
        self.setting, self.output = setting, output
        self.models = [
            (student, self._model(superlm, student))
            for superlm, students in zip(superlms, setting.students, strict=False)
            for student in students
        ]

    def _model(self, superlm: SuperLM, student: StudentConfig) -> PreTrainedModel:
        model = superlm.extract(student)
        model.to(self.setting.device)  # type: ignore[arg-type]  # its wrapper is annotated so
        use_tapped_attention(model)
        return model

    def run(self) -> None:
        """All students of a step."""
        for student, model in self.models:
            model.zero_grad(set_to_none=True)
            _backward(run_tapped(model, self.setting.inputs, student.num_layers - 1, self.output), self.output)
