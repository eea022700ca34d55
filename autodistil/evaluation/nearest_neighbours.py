"""Weighted k-nearest neighbours on frozen embeddings, as DINO scores features (Caron et al. 2021, arXiv 2104.14294).

Each of the k training rows nearest by cosine votes for its class with weight exp(cosine / 0.07), k = 20 by default as
there. Nothing is trained, and there is no rate or penalty to choose (Wu et al. 2018, arXiv 1805.01978).
"""

from __future__ import annotations

import numpy as np
from sklearn.neighbors import KNeighborsClassifier

from autodistil.evaluation.embedding import Encoder
from autodistil.tasks.catalogue import Split, TaskData

TEMPERATURE = 0.07


def nearest_neighbours(data: TaskData, encode: Encoder, train: Split, neighbours: int) -> dict[str, float]:
    """Classes of the evaluated split by the votes of training rows.

    Args:
        data: a task of single texts or images of classes (`ranking.check_classes`).
        encode: gives the embeddings.
        train: the rows that vote.
        neighbours: how many of them, all where there are fewer.

    Returns:
        The task's metrics.
    """
    model = KNeighborsClassifier(min(neighbours, len(train)), weights=_votes, metric="cosine")
    model.fit(encode(train.text_a), train.labels)
    return data.scores(data.evaluated, model.predict(encode(data.evaluated.text_a)))


def _votes(distances: np.ndarray) -> np.ndarray:
    """Weights of neighbours at a cosine distance, 1 - cosine; any shape."""
    weights: np.ndarray = np.exp((1 - distances) / TEMPERATURE)
    return weights
