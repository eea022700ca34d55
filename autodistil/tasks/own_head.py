"""The head that a model was fine-tuned with, and the classes of a task: which of its outputs is which."""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np
from transformers import PretrainedConfig

from autodistil.errors import AutodistilError, TaskError
from autodistil.models.hf_folder import tags_words
from autodistil.tasks.catalogue import Split, TaskData
from autodistil.tasks.finetune import Pupil


def class_order(
    config: PretrainedConfig, data: TaskData, what: str = "the model", error: type[AutodistilError] = TaskError
) -> list[int]:
    """Where each class of a task stands among a head's: by its name, or by its number where names differ.

    Args:
        config: of the fine-tuned model.
        data: the task.
        what: how to call the model in messages.
        error: what is raised.

    Raises:
        AutodistilError: the head knows other classes, or those of words and not texts; `TaskError` unless `error` is
            given.
    """
    if tags_words(config) != data.task.words:
        theirs, ours = ("texts", "words")[:: 1 if data.task.words else -1]
        raise error(
            f"{what} was fine-tuned on classes of {theirs}, task {data.name!r} is of {ours}; give one that was "
            "fine-tuned on this task"
        )
    outputs, names = len(data.classes) or 1, _names(config)
    if len(names) != outputs:
        ours = f"{outputs}: {', '.join(data.classes)[:100]}" if data.classes else "scores"
        raise error(
            f"{what} tells {len(names)} classes apart ({', '.join(names)[:100]}), task {data.name!r} has {ours}; "
            "give one that was fine-tuned on this task"
        )
    if data.classes and set(names) == set(data.classes):
        return [names.index(name) for name in data.classes]
    return list(range(outputs))


def knows_classes(config: PretrainedConfig, data: TaskData) -> bool:
    """Whether a head's classes are a task's by name, or unnamed and as many; of scores, whether it gives one number."""
    names = _names(config)
    if tags_words(config) != data.task.words:
        return False
    if not data.classes:
        return len(names) == 1
    unnamed = all(re.fullmatch(r"LABEL_\d+", name) for name in names)
    return set(names) == set(data.classes) or (unnamed and len(names) == len(data.classes))


def _names(config: PretrainedConfig) -> list[str]:
    return [str(name) for _, name in sorted(dict(config.id2label or {}).items())]


def answers_to(pupil: Pupil, split: Split, order: Sequence[int] | None = None) -> np.ndarray:
    """A fine-tuned model's logits or scores of a split, (units, outputs); `order`: its output for each class."""
    answers = pupil.answers(pupil.tokenized(split.text_a, split.text_b))
    return answers if order is None else answers[:, order]
