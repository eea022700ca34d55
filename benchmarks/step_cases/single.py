"""One fixed student, distilled by relations: what bertdistiller does, done by us."""

from __future__ import annotations

from collections.abc import Callable

from autodistil.models.superlm import SuperLM
from autodistil.objectives.objective import resolve_objective
from autodistil.space.space import OneStudent
from autodistil.space.student import StudentConfig
from autodistil.training.trainer import SuperLMTrainer, train_step
from step_cases.setting import Setting

STUDENT = StudentConfig(num_layers=3, hidden_size=192, num_heads=6, head_size=32, intermediate_size=768)
"""bertdistiller's MLPs are four times as wide as the student."""
RELATION_HEADS = 12


def single_student(setting: Setting) -> Callable[[], None]:
    """Teacher, student, loss and update; a SuperLM of one student."""
    superlm = SuperLM.from_teacher(setting.teacher, OneStudent("single", STUDENT))
    teacher_width = setting.teacher.dims.attention_width
    objective = resolve_objective("relation-kl", RELATION_HEADS, teacher_width, [STUDENT.attention_width])
    trainer = SuperLMTrainer(superlm, setting.recipe, objective)

    def step() -> None:
        train_step([trainer], setting.teacher, iter([setting.inputs]), None)

    return step
