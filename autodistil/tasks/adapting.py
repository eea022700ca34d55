"""Fine-tuning to keep: the epoch and the learning rate are chosen on a part of the training rows, never on the others.

Each learning rate is one training, ended where two epochs in a row were no better; its best epoch is written when it
ends, so that what was done before a machine died is not done again. The best of them is the model.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from autodistil.errors import DivergedError, TaskError
from autodistil.models.hf_folder import EvaluatedModel
from autodistil.tasks.adapt import read_method
from autodistil.tasks.adapt.method import Method
from autodistil.tasks.catalogue import Split, TaskData
from autodistil.tasks.finetune import (
    EvaluationSettings,
    Pupil,
    Scores,
    Targets,
    default_epochs,
    scored,
    standardised,
    trained_epochs,
)
from autodistil.tasks.heads import answers_to
from autodistil.utils import Progress, listed, write_text

HELD_OUT, FEWEST, MOST = 0.1, 20, 2_000
"""Share of the training rows that choose, and how many at least and at most."""
PATIENCE = 2
"""Epochs in a row without a better one that end a training."""
DONE = ".adapted.json"
"""What a training that is done leaves beside its weights."""


@dataclass(frozen=True)
class Lesson:
    """What a student is taught."""

    data: TaskData
    train: Split
    """Rows that are trained on."""
    chosen_by: Split
    """Rows that choose."""
    unlabelled: Sequence[tuple[str, str | None]] = ()
    """Further texts or pairs, which a teacher labels."""
    objective: str = "auto"
    """As `read_method` takes it."""
    balanced: bool = False
    """Classes weigh alike, however many rows they have."""
    seed: int = 0
    """Decides the new head and the order of rows."""

    @classmethod
    def of(cls, data: TaskData, settings: EvaluationSettings, **more: Any) -> Lesson:
        """A lesson on a task's training rows, a part of them held out.

        Raises:
            TaskError: there are too few training rows.
        """
        rows = data.train(settings.max_train)
        held = int(np.clip(HELD_OUT * len(rows), FEWEST, MOST))
        if len(rows) < 2 * FEWEST:
            raise TaskError(f"task {data.name!r} has {len(rows)} train rows; allowed: {2 * FEWEST} or more; add some")
        order = np.random.default_rng(0).permutation(len(rows))
        return cls(data, rows.take(np.sort(order[held:])), rows.take(np.sort(order[:held])), **more)


@dataclass(frozen=True)
class Adapted:
    """A training that is kept."""

    learning_rate: float
    epoch: int
    """The best one, from 1."""
    chosen: float
    """The headline metric on the rows that choose."""
    folder: Path
    """The model, its Hugging Face files."""


def adapted(
    model: EvaluatedModel,
    lesson: Lesson,
    settings: EvaluationSettings,
    keep: Path,
    progress: Progress,
    teacher: np.ndarray | None = None,
) -> Adapted:
    """Fine-tune a model by every learning rate, or go on where that was interrupted, and give the best one.

    Args:
        model: an encoder; its head is new.
        lesson: what it is taught.
        settings: learning rates, epochs, rows a step, length, device.
        keep: a folder of what is done already.
        progress: told what happens.
        teacher: a fine-tuned teacher's answers to the training rows and the unlabelled ones, (rows, outputs).

    Raises:
        DivergedError: every learning rate diverged.
        ConfigError: the objective cannot be read, or needs a teacher.
        TeacherError: the model cannot be loaded, or its family has no classification head.
    """
    method = read_method(lesson.objective, teacher is not None)
    rows = len(lesson.train) + len(lesson.unlabelled)
    epochs, found = settings.epochs or default_epochs(rows), []
    options = settings.of("max_train", "batch_size", "max_length", "device")
    said = {**options, "objective": lesson.objective, "epochs": epochs}
    identity = _identity(model, lesson, said, teacher)
    with progress.track(f"fine-tuning on {lesson.data.name}", len(settings.learning_rates) * epochs) as advance:
        for rate in settings.learning_rates:
            folder = keep / f"{rate:g}"
            done = _done(folder, identity)
            if done is None:
                trained = _trained(model, lesson, settings, method, epochs, rate, teacher, advance)
                done = _written(trained, folder, identity)
            else:
                advance(epochs)
            if done["epoch"]:
                found.append(Adapted(rate, done["epoch"], done["chosen"], folder))
            else:
                progress.say(f"learning rate {rate:g}: diverged")
    if not found:
        raise DivergedError(
            f"fine-tuning on {lesson.data.name} diverged at every learning rate ({listed(settings.learning_rates)}); "
            "give lower ones, or look for a cause in the model"
        )
    return max(found, key=lambda one: one.chosen)


def taught_answers(teacher: Pupil, lesson: Lesson) -> np.ndarray:
    """What a fine-tuned teacher answers to the training rows and the unlabelled ones, (rows, outputs)."""
    return teacher.answers(teacher.tokenized(*_texts(lesson)))


def reported(pupil: Pupil, data: TaskData, order: Sequence[int] | None = None) -> Scores:
    """The metrics of a fine-tuned model on the split that is reported; `order`: its output for each class."""
    return scored(data, data.evaluated.labels, answers_to(pupil, data.evaluated, order))


# ---- one learning rate


@dataclass(frozen=True)
class _Trained:
    """A model after its best epoch."""

    pupil: Pupil
    epoch: int
    chosen: float


def _trained(
    model: EvaluatedModel,
    lesson: Lesson,
    settings: EvaluationSettings,
    method: Method,
    epochs: int,
    rate: float,
    teacher: np.ndarray | None,
    advance: Any,
) -> _Trained | None:
    """Train by one learning rate; None where that diverged."""
    data, headline = lesson.data, lesson.data.task.headline
    with torch.random.fork_rng():
        torch.manual_seed(lesson.seed)
        pupil = Pupil.of(model, len(data.classes) or 1, settings)
        rows, (targets, mean, deviation) = pupil.tokenized(*_texts(lesson)), _targets(lesson, teacher)
        tested = pupil.tokenized(lesson.chosen_by.text_a, lesson.chosen_by.text_b)
        best: tuple[float, int, Mapping[str, Tensor]] | None = None
        try:
            for epoch, _ in enumerate(trained_epochs(pupil, rows, targets, method, epochs, rate, lesson.seed), start=1):
                value = scored(data, lesson.chosen_by.labels, pupil.answers(tested))[headline]
                advance(1, f"learning rate {rate:g}: {headline} {value:.3f}")
                if best is None or value > best[0]:
                    state = pupil.network.state_dict()
                    best = value, epoch, {name: weight.detach().cpu().clone() for name, weight in state.items()}
                elif epoch - best[1] >= PATIENCE:
                    advance(epochs - epoch)
                    break
        except DivergedError:
            return None
    assert best is not None, "a training has an epoch"
    pupil.network.load_state_dict(best[2])
    _rescale(pupil.network, mean, deviation)
    _name_classes(pupil.network, data)
    return _Trained(pupil, best[1], best[0])


def _written(trained: _Trained | None, folder: Path, identity: str) -> dict[str, Any]:
    """Write a training and what came of it, whole or not at all."""
    done = {"identity": identity, "epoch": trained and trained.epoch, "chosen": trained and trained.chosen}
    building = folder.with_name(f".{folder.name}.tmp")
    shutil.rmtree(building, ignore_errors=True)
    building.mkdir(parents=True)
    if trained is not None:
        trained.pupil.network.eval().save_pretrained(building)
        trained.pupil.tokenizer.save_pretrained(building)
    write_text(building / DONE, json.dumps(done))
    shutil.rmtree(folder, ignore_errors=True)
    os.replace(building, folder)
    return done


def _texts(lesson: Lesson) -> tuple[tuple[str, ...], tuple[str, ...] | None]:
    """First and second texts of the training rows and the unlabelled ones."""
    train = lesson.train
    first = (*train.text_a, *(one for one, _ in lesson.unlabelled))
    if train.text_b is None:
        return first, None
    return first, (*train.text_b, *(other or "" for _, other in lesson.unlabelled))


def _targets(lesson: Lesson, teacher: np.ndarray | None) -> tuple[Targets, float, float]:
    """What the rows are taught, and mean and deviation of scores, by which they were standardised."""
    labels, more, mean, deviation = lesson.train.labels, len(lesson.unlabelled), 0.0, 1.0
    answers = None if teacher is None else torch.from_numpy(teacher)
    weights = None
    if lesson.data.task.regression:
        known = standardised(labels)
        labels, mean, deviation = known.labels, known.mean, known.deviation
        answers = None if answers is None else (answers - known.mean) / known.deviation
    elif lesson.balanced:
        counts = np.bincount(labels, minlength=len(lesson.data.classes)).clip(min=1)
        weights = torch.from_numpy((len(labels) / (len(counts) * counts)).astype(np.float32))
    padded = torch.from_numpy(np.concatenate([labels, np.zeros(more, dtype=labels.dtype)]))
    known_rows = torch.arange(len(labels) + more) < len(labels)
    return Targets(padded, known_rows, answers, weights), mean, deviation


def _rescale(network: PreTrainedModel, mean: float, deviation: float) -> None:
    """Let a head that learnt standardised scores answer in those of the labels."""
    if (mean, deviation) == (0.0, 1.0):
        return
    *_, head = (module for module in network.modules() if isinstance(module, nn.Linear))
    with torch.no_grad():
        head.weight.mul_(deviation)
        head.bias.mul_(deviation).add_(mean)


def _name_classes(network: PreTrainedModel, data: TaskData) -> None:
    """Say in the config what the outputs are, so that `pipeline` answers with their names."""
    names = data.classes or ("score",)
    network.config.id2label = dict(enumerate(names))
    network.config.label2id = {name: i for i, name in enumerate(names)}
    network.config.problem_type = "regression" if data.task.regression else "single_label_classification"


# ---- what is done already


def _identity(model: EvaluatedModel, lesson: Lesson, settings: Mapping[str, Any], teacher: np.ndarray | None) -> str:
    """Hash of all that decides a training but its learning rate."""
    digest = hashlib.sha256(
        json.dumps([model.fingerprint, lesson.data.fingerprint, settings, lesson.balanced, lesson.seed]).encode()
    )
    digest.update(json.dumps(list(lesson.unlabelled)).encode())
    digest.update(b"" if teacher is None else np.ascontiguousarray(teacher).tobytes())
    return digest.hexdigest()[:16]


def _done(folder: Path, identity: str) -> dict[str, Any] | None:
    """What was written of a training, None where it is another one, or was not finished."""
    try:
        done: dict[str, Any] = json.loads((folder / DONE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return done if isinstance(done, dict) and done.get("identity") == identity else None
