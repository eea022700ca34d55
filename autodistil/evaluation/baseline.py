"""What a score has to beat to be worth anything: the score of always giving the same answer."""

from __future__ import annotations

import numpy as np

from autodistil.tasks.catalogue import TaskData


def most_frequent_class(data: TaskData) -> dict[str, float]:
    """Scores on the evaluated split of always answering the most frequent class of the training split.

    Of the evaluated split where there is no training split; of equally frequent classes the first.

    Args:
        data: a task of classes.

    Returns:
        The task's metrics.
    """
    counts = np.bincount(data.splits.get("train", data.evaluated).labels)
    return data.scores(data.evaluated, np.full_like(data.evaluated.labels, counts.argmax()))


def never_answering(data: TaskData) -> dict[str, float]:
    """Scores on the evaluated split of finding no answer to any question; of a task of spans."""
    return data.scores(data.evaluated, np.full(len(data.evaluated), "", dtype=object))
