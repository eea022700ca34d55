"""Multiply-adds of a training in closed form, to give controls as much as a search had.

A step costs one forward of the teacher and, of each drawn student, a forward and a backward of twice its cost, over all
its texts at their mean length. Left out alike for all: objectives, optimiser, and that relations need no last MLP.
"""

from __future__ import annotations

from collections.abc import Mapping

from autodistil.models.teacher import Teacher
from autodistil.run.run import Run
from autodistil.space.student import StudentConfig
from autodistil.stages.certifying import draw_shares
from autodistil.stages.training import recipe_of
from quality_table.shapes import forward_flops

_FORWARD_AND_BACKWARD = 3


def step_cost(teacher: Teacher, texts: int, length: float, shares: Mapping[StudentConfig, float]) -> float:
    """Multiply-adds of a training step.

    Args:
        teacher: run once for all students.
        texts: of a step.
        length: their mean tokens.
        shares: student -> times that a step draws it.
    """
    shape, tokens = teacher.encoder_shape, max(1, round(length))
    students = sum(share * forward_flops(student, shape, tokens) for student, share in shares.items())
    return texts * (forward_flops(teacher.dims, shape, tokens) + _FORWARD_AND_BACKWARD * students)


def run_cost(run: Run) -> float:
    """Multiply-adds of the whole training of a run, all its SuperLMs side by side on one teacher forward."""
    recipe = recipe_of(run.config, run.folder.resolved()["train_steps"])
    shares: dict[StudentConfig, float] = {}
    for sub in run.inputs.space.sub_spaces:
        for student, share in draw_shares(sub, recipe).items():
            shares[student] = shares.get(student, 0.0) + share
    return recipe.steps * own_step_cost(run, shares)


def own_step_cost(run: Run, shares: Mapping[StudentConfig, float]) -> float:
    """Multiply-adds of a step on the run's own text, once its training was begun."""
    texts = run.inputs.text.batch_size
    return step_cost(run.inputs.teacher, texts, run.folder.resolved()["tokens_a_step"] / texts, shares)
