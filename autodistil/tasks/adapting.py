"""Fine-tuning to keep: the epoch and the learning rate are chosen on a part of the training rows, never on the others.

Each learning rate is one training, ended where two epochs in a row were no better. Each epoch is written when it ends,
so that what was done before a machine died is not done again. The best epoch of the best rate is the model.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers import PreTrainedModel

from autodistil.errors import DivergedError, TaskError, TeacherError
from autodistil.models.hf_folder import EvaluatedModel, usable_length
from autodistil.models.image_processor import image_tokens
from autodistil.models.quantised import round_weights
from autodistil.tasks.adapt.method import SWAPPED
from autodistil.tasks.adapt.method_sum import MethodSum, read_methods
from autodistil.tasks.adapt.preparation import Fitted, Preparation, Taught
from autodistil.tasks.calibration import probabilities
from autodistil.tasks.catalogue import Split, TaskData
from autodistil.tasks.epoch_file import BestEpoch, EpochFile
from autodistil.tasks.finetune import (
    EvaluationSettings,
    FineTuning,
    Pupil,
    Targets,
    default_epochs,
    scored,
    standardised,
)
from autodistil.tasks.span_finder import SpanFinder, SpansTaught, SpanTuning
from autodistil.tasks.words import words
from autodistil.utils import Progress, listed, resolve_device, write_text

HELD_OUT, FEWEST, MOST = 0.1, 20, 2_000
"""Share of the training rows that choose, and how many at least and at most."""
PATIENCE = 2
"""Epochs in a row without a better one that end a training."""
_TIE = 1e-6
"""Of the loss: epochs and learning rates whose metric is the same, as it is of few rows soon, are told apart by it."""
_TOLD = "told"
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
    """As `read_methods` takes it."""
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

    @property
    def privileged(self) -> Lesson:
        """The lesson as a teacher reads it."""
        return replace(
            self, data=self.data.privileged, train=self.train.privileged, chosen_by=self.chosen_by.privileged
        )


@dataclass(frozen=True)
class Adapted:
    """A training that is kept."""

    learning_rate: float
    epoch: int
    """The best one, from 1."""
    chosen: float
    """The headline metric on the rows that choose, less a trifle that decides between equal ones."""
    folder: Path
    """The model, its Hugging Face files."""


def adapted(
    model: EvaluatedModel,
    lesson: Lesson,
    settings: EvaluationSettings,
    keep: Path,
    progress: Progress,
    teacher: Taught | SpansTaught | None = None,
    what: str = "model",
) -> Adapted:
    """Fine-tune a model by every learning rate, or go on where that was interrupted, and give the best one.

    Args:
        model: an encoder; its head is new.
        lesson: what it is taught.
        settings: learning rates, epochs, rows a step, length, device.
        keep: a folder of what is done already.
        progress: told what happens.
        teacher: what a fine-tuned teacher says of the training rows and the unlabelled ones.
        what: how to call the model to who is told.

    Raises:
        DivergedError: every learning rate diverged.
        ConfigError: the objective cannot be read, or needs a teacher.
        TeacherError: the model cannot be loaded, or its family has no classification head.
    """
    data, rows = lesson.data, len(lesson.train) + len(lesson.unlabelled)
    outputs, task = len(data.classes) or 1, data.task
    task_kinds = (task.pairs, task.images, task.spans)
    objective = read_methods(lesson.objective, teacher is not None, outputs, *task_kinds)
    epochs, found = settings.epochs or default_epochs(rows), []
    options = settings.of("max_train", "batch_size", "max_length", "device")
    said = {**options, "objective": lesson.objective, "epochs": epochs}
    identity = _identity(model, lesson, said, teacher)
    training = _Training(lesson, settings, objective, epochs, teacher)
    with progress.track(f"{data.name}: fine-tuning the {what}", len(settings.learning_rates) * epochs) as advance:
        model, told = _prepared(training, model, keep / "prepared", identity, progress)
        for rate in settings.learning_rates:
            folder = keep / f"{rate:g}"
            done = _done(folder, identity)
            if done is None:
                kept = EpochFile(keep / f".{rate:g}.epoch.safetensors", identity)
                done = _written(training.run(model, rate, told, kept, advance), folder, identity)
                kept.remove()
            else:
                advance(epochs)
            if done["epoch"]:
                found.append(Adapted(rate, done["epoch"], done["chosen"], folder))
            else:
                progress.say(f"learning rate {rate:g}: diverged")
    if not found:
        raise DivergedError(
            f"fine-tuning on {data.name} diverged at every learning rate ({listed(settings.learning_rates)}); "
            "give lower ones, or look for a cause in the model"
        )
    return max(found, key=lambda one: one.chosen)


def taught(model: EvaluatedModel, teacher: Pupil, lesson: Lesson, order: Sequence[int]) -> Taught:
    """What a fine-tuned teacher says of the training rows and the others; `order`: its output for each class."""
    rows = teacher.tokenized(*texts_of(lesson.privileged))
    answers, features = teacher.read(rows)
    head, places = teacher.head.weight.detach().cpu(), list(order)
    return Taught(torch.from_numpy(answers[:, places]), torch.from_numpy(features), head[places], model, rows.seen)


# ---- one learning rate


@dataclass(frozen=True)
class _Trained:
    """A model after its best epoch."""

    pupil: Pupil | SpanFinder
    epoch: int
    chosen: float


@dataclass(frozen=True)
class _Training:
    """All that decides a training but model and learning rate."""

    lesson: Lesson
    settings: EvaluationSettings
    objective: MethodSum
    epochs: int
    teacher: Taught | SpansTaught | None

    def run(
        self,
        model: EvaluatedModel,
        rate: float,
        told: Sequence[Tensor | None],
        kept: EpochFile | None = None,
        advance: Any = lambda *_: None,
    ) -> _Trained | None:
        """Train by one learning rate, and keep the classes' head alone; None where that diverged.

        Args:
            model: what is trained.
            rate: peak learning rate.
            told: what the preparation of each method found.
            kept: where each epoch is kept, to go on from the last one that is; None: nowhere.
            advance: told of epochs.
        """
        lesson, data, objective = self.lesson, self.lesson.data, self.objective
        if data.task.spans:
            return self._run_spans(model, rate, kept, advance)
        with torch.random.fork_rng():
            torch.manual_seed(lesson.seed)
            pupil = Pupil.of(model, objective.outputs, self.settings, data.task.words)
            first, second = texts_of(lesson)
            rows, (targets, mean, deviation) = pupil.tokenized(first, second), self.targets()
            rows = rows if self._taught is None else rows.only(self._taught.seen)
            swapped = pupil.tokenized(second, first) if SWAPPED in objective.needs and second is not None else None
            tested = pupil.tokenized(lesson.chosen_by.text_a, lesson.chosen_by.text_b)
            targets = replace(targets, told=told)
            tuning = FineTuning(pupil, rows, targets, objective, self.epochs, rate, lesson.seed, swapped)
            best = self._best_epoch(
                tuning, pupil, lambda: pupil.answers(tested) @ objective.head.numpy().T, rate, kept, advance
            )
        if best is None:
            return None
        _finish_head(pupil, objective.head, mean, deviation)
        _name_classes(pupil.network, data)
        return _Trained(pupil, best.epoch, best.value)

    def _run_spans(self, model: EvaluatedModel, rate: float, kept: EpochFile | None, advance: Any) -> _Trained | None:
        """The same where spans of texts are looked for."""
        lesson, teacher, chosen_by = self.lesson, self.teacher, self.lesson.chosen_by
        assert not isinstance(teacher, Taught)
        with torch.random.fork_rng():
            torch.manual_seed(lesson.seed)
            finder = SpanFinder.of(model, self.settings)
            windows, tested = finder.windows(*texts_of(lesson)), finder.windows(chosen_by.text_a, chosen_by.text_b)
            if teacher is not None and not windows.alike(teacher.windows):
                raise TeacherError("the teacher splits text into other tokens than the student; leave --teacher out")
            said = None if teacher is None else teacher.logits
            tuning = SpanTuning(finder, windows, lesson.train, self.objective, self.epochs, rate, lesson.seed, said)
            best = self._best_epoch(tuning, finder, lambda: finder.found(chosen_by, tested), rate, kept, advance)
        return None if best is None else _Trained(finder, best.epoch, best.value)

    def _best_epoch(
        self,
        tuning: FineTuning | SpanTuning,
        pupil: Pupil | SpanFinder,
        answers: Callable[[], np.ndarray],
        rate: float,
        kept: EpochFile | None,
        advance: Any,
    ) -> BestEpoch | None:
        """Train until no epoch is better, and give the pupil the weights of the best one; None where that diverged.

        Args:
            tuning: the training, which may have begun.
            pupil: what it trains.
            answers: what the pupil answers to the rows that choose, as `scored` takes it.
            rate: the learning rate, to tell.
            kept: where each epoch is kept; None: nowhere.
            advance: told of epochs.
        """
        data = self.lesson.data
        best = None if kept is None else kept.restore(tuning)
        advance(tuning.done)
        try:
            while tuning.done < self.epochs and (best is None or tuning.done - best.epoch < PATIENCE):
                tuning.epoch()
                answered = answers()
                value = scored(data, self.lesson.chosen_by, answered)[data.task.headline]
                advance(1, f"learning rate {rate:g}: {data.task.headline} {value:.3f}")
                if data.classes:
                    value -= _TIE * _loss(self.lesson.chosen_by.labels, answered)
                if best is None or value > best.value:
                    best = BestEpoch.of(pupil.network, tuning.done, value)
                if kept is not None:
                    kept.save(tuning, best)
        except DivergedError:
            return None
        advance(self.epochs - tuning.done)
        assert best is not None, "a training has an epoch"
        pupil.network.load_state_dict(best.weights)
        round_weights(pupil.network)
        return best

    @property
    def _taught(self) -> Taught | None:
        """What a teacher says of rows or words."""
        assert not isinstance(self.teacher, SpansTaught)
        return self.teacher

    def targets(self) -> tuple[Targets, float, float]:
        """What the rows are taught, and mean and deviation of scores, by which they were standardised."""
        lesson, labels = self.lesson, self.lesson.train.labels
        more = sum(len(words(text)) if lesson.data.task.words else 1 for text, _ in lesson.unlabelled)
        answers = None if self._taught is None else self._taught.answers
        mean, deviation, weights = 0.0, 1.0, None
        if lesson.data.task.regression:
            known = standardised(labels)
            labels, mean, deviation = known.labels, known.mean, known.deviation
            answers = None if answers is None else (answers - mean) / deviation
        elif lesson.balanced:
            counts = np.bincount(labels, minlength=len(lesson.data.classes)).clip(min=1)
            weights = torch.tensor(len(labels) / (counts * (counts > 0).sum()), dtype=torch.float32)
        targets = Targets.of(np.concatenate([labels, np.zeros(more, labels.dtype)]))
        targets.known[len(labels) :] = False
        return replace(targets, teacher=answers, class_weights=weights), mean, deviation

    def _length(self, model: EvaluatedModel) -> int:
        """Tokens of a text or pair, or of an image."""
        if model.reads_images:
            return image_tokens(model.config)
        return usable_length(model.skeleton(), model.tokenizer(), self.settings.max_length)

    def preparation(self, model: EvaluatedModel, name: str, home: Path) -> Preparation:
        """What a method may work with before labels are trained on."""
        lesson, rates = self.lesson, sorted(self.settings.learning_rates)
        targets, mean, deviation = self.targets()
        first, second = texts_of(lesson)
        chosen = torch.from_numpy(lesson.chosen_by.labels)
        rate = rates[len(rates) // 2]
        alone = replace(self, objective=MethodSum(((1.0, name),), self.objective.classes))

        def fitted(student: EvaluatedModel, told: Tensor | None) -> Fitted:
            done = alone.run(student, rate, [told])
            if done is None:
                raise DivergedError(f"learning rate {rate:g}: diverged; give lower ones")
            pupil = done.pupil
            assert isinstance(pupil, Pupil)
            answers, features = pupil.read(pupil.tokenized(first, second))
            of_chosen = pupil.read(pupil.tokenized(lesson.chosen_by.text_a, lesson.chosen_by.text_b))[1]
            answers = (answers - mean) / deviation
            return Fitted(*(torch.from_numpy(part) for part in (answers, features, of_chosen)))

        return Preparation(
            model=model,
            text_a=first,
            text_b=second,
            labels=targets.labels,
            known=targets.known,
            classes=self.objective.classes,
            chosen=(chosen - mean) / deviation if lesson.data.task.regression else chosen,
            teacher=self._taught,
            length=self._length(model),
            batch_size=self.settings.batch_size,
            rate=rate,
            seed=lesson.seed,
            device=resolve_device(self.settings.device),
            home=home,
            fitted=fitted,
        )


def _loss(labels: np.ndarray, answers: np.ndarray) -> float:
    """Mean cross-entropy of logits (units, classes), at most 50 of a unit."""
    given = probabilities(answers)[np.arange(len(labels)), labels]
    return float(-np.log(given.clip(min=np.exp(-50))).mean())


def _prepared(
    training: _Training, model: EvaluatedModel, keep: Path, identity: str, progress: Progress
) -> tuple[EvaluatedModel, list[Tensor | None]]:
    """The model that is trained on labels and what each method tells of the rows, found anew or found before."""
    told: list[Tensor | None] = []
    for (_, name), method in zip(training.objective.terms, training.objective.methods, strict=True):
        if method.prepare is None:
            told.append(None)
            continue
        folder = keep / name
        if _done(folder, identity) is None:
            progress.say(f"{name}: preparing")
            building = _building(folder)
            with torch.random.fork_rng():
                torch.manual_seed(training.lesson.seed)
                found = method.prepare(training.preparation(model, name, building))
            if found is not None:
                save_file({_TOLD: found.contiguous()}, building / f"{_TOLD}.safetensors")
            _put(building, folder, {"identity": identity})
        kept = folder / f"{_TOLD}.safetensors"
        told.append(load_file(kept)[_TOLD] if kept.is_file() else None)
        if (folder / "config.json").is_file():
            model = EvaluatedModel.open(str(folder))
    return model, told


def _written(trained: _Trained | None, folder: Path, identity: str) -> dict[str, Any]:
    """Write a training and what came of it, whole or not at all."""
    building = _building(folder)
    if trained is not None:
        trained.pupil.save(building)
        (building / "model.safetensors").chmod(0o644)  # safetensors creates it for its owner only
    done = {"identity": identity, "epoch": trained and trained.epoch, "chosen": trained and trained.chosen}
    return _put(building, folder, done)


def _building(folder: Path) -> Path:
    """An empty folder beside one that is not there yet."""
    building = folder.with_name(f".{folder.name}.tmp")
    shutil.rmtree(building, ignore_errors=True)
    building.mkdir(parents=True)
    return building


def _put(building: Path, folder: Path, done: dict[str, Any]) -> dict[str, Any]:
    """Say of a folder what was done, and put it in its place."""
    write_text(building / DONE, json.dumps(done))
    shutil.rmtree(folder, ignore_errors=True)
    os.replace(building, folder)
    return done


def texts_of(lesson: Lesson) -> tuple[tuple[str, ...], tuple[str, ...] | None]:
    """First and second texts of the training rows and the unlabelled ones."""
    train = lesson.train
    first = (*train.text_a, *(one for one, _ in lesson.unlabelled))
    if train.text_b is None:
        return first, None
    return first, (*train.text_b, *(other or "" for _, other in lesson.unlabelled))


def _finish_head(pupil: Pupil, made: Tensor, mean: float, deviation: float) -> None:
    """Let the head answer classes alone, or scores as labels have them and not standardised."""
    head = pupil.head
    with torch.no_grad():
        made = made.to(head.weight.device) * deviation
        head.weight, head.bias = nn.Parameter(made @ head.weight), nn.Parameter(made @ head.bias + mean)
    head.out_features = len(made)


def _name_classes(network: PreTrainedModel, data: TaskData) -> None:
    """Say in the config what the outputs are, so that `pipeline` answers with their names."""
    names = data.classes or ("score",)
    network.config.id2label = dict(enumerate(names))
    network.config.label2id = {name: i for i, name in enumerate(names)}
    if not data.task.words:
        network.config.problem_type = "regression" if data.task.regression else "single_label_classification"
    if data.task.regression and data.task.pairs:  # a CrossEncoder would take the sigmoid of them
        network.config.sentence_transformers = {"activation_fn": "torch.nn.modules.linear.Identity"}


# ---- what is done already


def _identity(
    model: EvaluatedModel, lesson: Lesson, settings: Mapping[str, Any], teacher: Taught | SpansTaught | None
) -> str:
    """Hash of all that decides a training but its learning rate."""
    digest = hashlib.sha256(
        json.dumps([model.fingerprint, lesson.data.fingerprint, settings, lesson.balanced, lesson.seed]).encode()
    )
    digest.update(json.dumps(list(lesson.unlabelled)).encode())
    for said in () if teacher is None else teacher.said:
        digest.update(said.tobytes())
    return digest.hexdigest()[:16]


def _done(folder: Path, identity: str) -> dict[str, Any] | None:
    """What was written of a training, None where it is another one, or was not finished."""
    try:
        done: dict[str, Any] = json.loads((folder / DONE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return done if isinstance(done, dict) and done.get("identity") == identity else None
