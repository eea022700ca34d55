"""A fine-tuned teacher of answers in texts: what it says of each token of each window."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from autodistil.errors import TeacherError
from autodistil.models.hf_folder import EvaluatedModel, usable_length
from autodistil.tasks.adapting import Lesson, texts_of
from autodistil.tasks.catalogue import TaskData
from autodistil.tasks.context_windows import ContextWindows
from autodistil.tasks.finetune import EvaluationSettings
from autodistil.tasks.own_head import answers_to, class_order
from autodistil.tasks.span_finder import SpanFinder, SpansTaught

_COMPARED = 200
"""Questions whose tokens are compared before a teacher is fine-tuned."""


@dataclass(frozen=True)
class SpanTeacher:
    """A fine-tuned model; as `mixed_teachers.MixedTeachers` of one."""

    model: EvaluatedModel
    pupil: SpanFinder

    @classmethod
    def of(cls, model: EvaluatedModel, lesson: Lesson, settings: EvaluationSettings) -> SpanTeacher:
        """Open a fine-tuned model as the teacher of a task.

        Raises:
            TeacherError: it was fine-tuned on something else.
        """
        class_order(model.config, lesson.data, "the teacher", TeacherError)
        return cls(model, SpanFinder.of(model, settings, new_head=False))

    @property
    def teachers(self) -> tuple[SpanTeacher]:
        """All that answer together."""
        return (self,)

    @property
    def name(self) -> str:
        """Where it is."""
        return self.model.source

    def taught(self, lesson: Lesson) -> SpansTaught:
        """What it says of the training questions and the unlabelled ones."""
        windows = self.pupil.windows(*texts_of(lesson))
        return SpansTaught(windows, self.pupil.read(windows))

    def answers(self, data: TaskData) -> np.ndarray:
        """Its answers to the reported questions, texts (rows,)."""
        return answers_to(self.pupil, data.evaluated)


def check_same_tokens(
    student: EvaluatedModel, teacher: EvaluatedModel, lesson: Lesson, settings: EvaluationSettings
) -> None:
    """Refuse a teacher whose logits are of other tokens than the student's, before it is fine-tuned.

    Raises:
        TeacherError: it is one.
    """
    questions, contexts = texts_of(lesson)
    assert contexts is not None
    read, lengths = [], []
    for model in (student, teacher):
        tokenizer = model.tokenizer()
        lengths.append(usable_length(model.skeleton(), tokenizer, settings.max_length))
        read.append(ContextWindows.of(tokenizer, questions[:_COMPARED], contexts[:_COMPARED], lengths[-1]))
    if lengths[0] != lengths[1]:
        raise TeacherError(
            f"the student reads windows of {lengths[0]} tokens, its teacher of {lengths[1]}; give --max-length "
            f"{min(lengths)}"
        )
    if not read[0].alike(read[1]):
        raise TeacherError(
            "the teacher splits text into other tokens than the student, but teaches where an answer starts and ends "
            "token by token; give one with the student's tokenizer, or leave --teacher out"
        )
