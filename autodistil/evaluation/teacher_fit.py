"""Which of several encoders fits a labelled task best, before anything is trained: a teacher to choose.

The fit is the Spearman correlation of 1 - corr of the features of two rows with 1 - corr of their labels (PARC, Bolya
et al. 2021, arXiv 2111.06977), of scores with their distance; DistillNearest takes the teacher that has the highest
(Borup et al. 2023, arXiv 2304.12314). Features are embeddings, of a pair |u - v| and u * v. Of scored pairs it is the
correlation of their cosine with the scores, which needs no training either.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from autodistil.errors import TaskError
from autodistil.evaluation.embedding import Encoder, check_reads, cosines, embed_texts, folder_encoder
from autodistil.models.hf_folder import EvaluatedModel
from autodistil.tasks.catalogue import Split, TaskData, load_task, score
from autodistil.tasks.finetune import EvaluationSettings
from autodistil.tasks.mixed_teachers import FIT_ROWS, one_hot, task_fit
from autodistil.utils import Progress


@dataclass(frozen=True)
class TeacherFit:
    """How well one encoder fits a task."""

    source: str
    fit: float
    """In [-1, 1]."""
    dim: int
    """Of its embeddings."""
    millions: float
    """Parameters, in 1e6."""


def rank_teachers(
    sources: Sequence[str],
    task: str,
    data_dir: Path | None,
    settings: EvaluationSettings,
    progress: Progress,
) -> list[TeacherFit]:
    """Encoders by how well they fit a task, the best first.

    Args:
        sources: folders, Hugging Face ids or packaged names.
        task: its name, as `tasks.catalogue.load_task` has it.
        data_dir: local folder of tasks.
        settings: length and device.
        progress: told which one is read.

    Raises:
        TaskError: there is no such task, it has no training rows, its words have classes, or it is not of what a model
            reads.
        TeacherError: a model is not there or damaged.
    """
    data = load_task(task, data_dir, ("train",))
    if data.task.spans:
        raise TaskError(f"task {task!r} has answers in texts, models are ranked by classes and scores; give another")
    if data.task.words:
        raise TaskError(f"task {task!r} has classes of words, models are ranked by embeddings of texts; give another")
    models = [EvaluatedModel.open(source) for source in dict.fromkeys(sources)]
    for model in models:
        check_reads(f"model {model.source!r}", model.reads_images, f"task {task!r}", data.task.images)
    rows = data.train(FIT_ROWS)
    found = []
    for model in models:
        progress.say(f"{model.source}: {len(rows)} rows of {task}")
        encode = folder_encoder(model, settings.device, settings.max_length)
        fit, width = _fit(data, rows, encode)
        millions = sum(p.numel() for p in model.skeleton().parameters()) / 1e6
        found.append(TeacherFit(model.source, fit, width, millions))
    return sorted(found, key=lambda one: -one.fit)


def _fit(data: TaskData, rows: Split, encode: Encoder) -> tuple[float, int]:
    """The fit of an encoder, and the width of its embeddings."""
    first, *second = embed_texts(rows, encode)
    if second and data.task.regression:
        return score(("spearman",), rows.labels, cosines(first, second[0]))["spearman"], first.shape[1]
    features = np.concatenate([np.abs(first - second[0]), first * second[0]], axis=1) if second else first
    return task_fit(features, one_hot(data, rows.labels)), first.shape[1]
