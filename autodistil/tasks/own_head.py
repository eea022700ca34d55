"""The head that a model was fine-tuned with, and the classes of a task: which of its outputs is which."""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np
from transformers import PretrainedConfig

from autodistil.errors import AutodistilError, TaskError
from autodistil.models.hf_folder import finds_spans, tags_words
from autodistil.tasks.catalogue import Split, TaskData
from autodistil.tasks.finetune import Pupil
from autodistil.tasks.span_finder import SpanFinder


def class_order(
    config: PretrainedConfig, data: TaskData, what: str = "the model", error: type[AutodistilError] = TaskError
) -> list[int]:
    """Where each class of a task stands among a head's: by name, or by number where names differ; none of spans.

    Args:
        config: of the fine-tuned model.
        data: the task.
        what: how to call the model in messages.
        error: what is raised.

    Raises:
        AutodistilError: the head knows other classes, or is of another kind, as those of words and not texts;
            `TaskError` unless `error` is given.
    """
    theirs, ours = _kind(config), _kind_of(data)
    if theirs != ours:
        known = theirs if theirs == "spans" else f"classes of {theirs}"
        raise error(
            f"{what} was fine-tuned on {known}, task {data.name!r} is of {ours}; give one that was fine-tuned on this "
            "task"
        )
    if data.task.spans:
        return []
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
    """Whether a head's classes are a task's by name, or unnamed and as many; of scores, whether it gives one number.

    Of spans, whether it finds any.
    """
    names = _names(config)
    if _kind(config) != _kind_of(data) or data.task.spans:
        return _kind(config) == _kind_of(data)
    if not data.classes:
        return len(names) == 1
    unnamed = all(re.fullmatch(r"LABEL_\d+", name) for name in names)
    return set(names) == set(data.classes) or (unnamed and len(names) == len(data.classes))


def _kind(config: PretrainedConfig) -> str:
    """What a head answers for."""
    return "spans" if finds_spans(config) else "words" if tags_words(config) else "texts"


def _kind_of(data: TaskData) -> str:
    """What a task wants answers for."""
    return "spans" if data.task.spans else "words" if data.task.words else "texts"


def _names(config: PretrainedConfig) -> list[str]:
    return [str(name) for _, name in sorted(dict(config.id2label or {}).items())]


def answers_to(pupil: Pupil | SpanFinder, split: Split, order: Sequence[int] | None = None) -> np.ndarray:
    """A fine-tuned model's logits or scores of a split, (units, outputs); `order`: its output for each class.

    Of spans the answers themselves, texts (rows,).
    """
    if isinstance(pupil, SpanFinder):
        return pupil.found(split)
    answers = pupil.answers(pupil.tokenized(split.text_a, split.text_b))
    return answers if order is None else answers[:, order]
