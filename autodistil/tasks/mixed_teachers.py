"""Fine-tuned teachers of one task, whose logits are mixed by weights.

Unless weights are given, a teacher weighs as much as its representation fits the task: the Spearman correlation of
1 - corr of the features of two rows with 1 - corr of their labels (PARC, Bolya et al. 2021, arXiv 2111.06977), as
DistillWeighted does (Borup et al. 2023, arXiv 2304.12314). Departure: logits are mixed and not losses.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from scipy.stats import spearmanr

from autodistil.errors import ConfigError, TeacherError
from autodistil.models.hf_folder import EvaluatedModel
from autodistil.tasks.adapt.preparation import Taught
from autodistil.tasks.adapting import Lesson, taught
from autodistil.tasks.catalogue import TaskData
from autodistil.tasks.finetune import EvaluationSettings, Pupil
from autodistil.tasks.own_head import answers_to, class_order
from autodistil.utils import listed

FIT_ROWS = 500
"""Training rows, or words, that say how well a teacher fits."""


@dataclass(frozen=True)
class WeightedTeacher:
    """One fine-tuned model beside others."""

    model: EvaluatedModel
    pupil: Pupil
    order: Sequence[int]
    """Its output for each class of the task."""
    share: float
    """Of the mixed logits."""


@dataclass(frozen=True)
class MixedTeachers:
    """One or several, the first one leading where a method looks into a teacher."""

    teachers: tuple[WeightedTeacher, ...]
    """Their shares add up to 1."""

    @classmethod
    def of(
        cls,
        models: Sequence[EvaluatedModel],
        lesson: Lesson,
        settings: EvaluationSettings,
        weights: Sequence[float] = (),
    ) -> MixedTeachers:
        """Open fine-tuned models as teachers of a task.

        Args:
            models: one or several.
            lesson: what will be taught.
            settings: length and device.
            weights: one a model, above 0; by how well each fits the task unless given.

        Raises:
            ConfigError: weights are no such.
            TeacherError: a model has no head, or knows other classes.
        """
        check_weights(weights, len(models))
        pupils = tuple(Pupil.of(model, None, settings) for model in models)
        orders = tuple(class_order(one.network.config, lesson.data, "the teacher", TeacherError) for one in pupils)
        if not weights:
            weights = [1.0] if len(models) == 1 else [_fit_of(pupil, lesson) for pupil in pupils]
        total = sum(weights)
        shares = [weight / total for weight in weights] if total > 0 else [1 / len(weights)] * len(weights)
        return cls(tuple(map(WeightedTeacher, models, pupils, orders, shares)))

    @property
    def name(self) -> str:
        """Where it is, or the names of several with their shares, such as `0.6 a + 0.4 b`."""
        if len(self.teachers) == 1:
            return self.teachers[0].model.source
        return " + ".join(f"{one.share:.2g} {Path(one.model.source).name}" for one in self.teachers)

    def taught(self, lesson: Lesson) -> Taught:
        """What they say together of the training rows and the unlabelled ones; features and head of the first."""
        each = [taught(one.model, one.pupil, lesson, one.order) for one in self.teachers]
        shares = [one.share for one in self.teachers]
        answers = torch.stack([share * of.answers for share, of in zip(shares, each, strict=True)]).sum(0)
        return replace(each[0], answers=answers, seen=np.logical_and.reduce([one.seen for one in each]))

    def answers(self, data: TaskData) -> np.ndarray:
        """Their mixed logits or scores of the reported split, (units, outputs)."""
        split = data.privileged.evaluated
        each = [answers_to(one.pupil, split, one.order) for one in self.teachers]
        shares = np.array([one.share for one in self.teachers], dtype=np.float32)
        mixed: np.ndarray = np.tensordot(shares, np.stack(each), axes=1)
        return mixed


def check_weights(weights: Sequence[float], teachers: int) -> None:
    """Refuse weights that are not one a teacher, above 0.

    Raises:
        ConfigError: they are not.
    """
    if weights and (len(weights) != teachers or not all(0 < weight < np.inf for weight in weights)):
        raise ConfigError(
            f"{len(weights)} teacher weights ({listed(weights)}) for {teachers} teachers; allowed: one a teacher, "
            "above 0, or none"
        )


def task_fit(features: np.ndarray, labels: np.ndarray) -> float:
    """How well a representation fits labels, in [-1, 1].

    Args:
        features: of rows, (rows, width).
        labels: one-hot classes (rows, classes), or scores (rows, 1), whose distance is that of two scores.
    """
    upper = np.triu_indices(len(features), 1)
    ours = _distances(features)[upper]
    theirs = (np.abs(labels - labels.T) if labels.shape[1] == 1 else _distances(labels))[upper]
    return 0.0 if np.ptp(ours) == 0 or np.ptp(theirs) == 0 else float(spearmanr(ours, theirs).statistic)


def one_hot(data: TaskData, labels: np.ndarray) -> np.ndarray:
    """Labels as `task_fit` takes them: one-hot classes (rows, classes), or scores (rows, 1)."""
    found: np.ndarray = np.eye(len(data.classes))[labels] if data.classes else labels[:, None]
    return found


def _distances(rows: np.ndarray) -> np.ndarray:
    """1 - correlation of each two rows, (rows, rows); with a row that is constant it is 1."""
    centred = rows - rows.mean(1, keepdims=True)
    norms = np.linalg.norm(centred, axis=1, keepdims=True)
    scaled = centred / np.where(norms > 0, norms, 1)
    found: np.ndarray = 1 - scaled @ scaled.T
    return found


def _fit_of(pupil: Pupil, lesson: Lesson) -> float:
    split = lesson.privileged.train
    split = split.take(range(min(FIT_ROWS, len(split))))
    rows = pupil.tokenized(split.text_a, split.text_b)
    seen = np.flatnonzero(rows.seen)[:FIT_ROWS]
    return max(0.0, task_fit(pupil.read(rows)[1][seen], one_hot(lesson.data, split.labels[seen])))
