"""Which sentences to train on where not all are: an order of the corpus's sentences, of which the first are taken.

random    as they come from a permutation; what every other choice has to beat
frequent  those that the corpus repeats most, as deduplication that remembers its counts
diverse   in turn from clusters of the teacher's embeddings (D4, Tirumala et al. 2023, arXiv 2308.12284, keeps clusters
          apart so); the greedy choice of KRR-ST needs a kernel of all sentences, which a corpus is too large for
hard      those that the teacher's upper layers change most: 1 - cosine of its embedding and the one pooled half way up,
          which a student of the lower half of its layers would give
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from autodistil.data.sequences import Sentences, batch_indices

CLUSTERS = 256
"""Of `diverse`, less where there are fewer sentences than ten a cluster."""
_CHUNK = 4096
"""Sentences that clusters are moved by, or told of, at a time."""
_SEED = 0
"""Of the permutation: runs that differ in their seed are trained on the same text."""


@dataclass(frozen=True)
class Pool:
    """The sentences to choose from."""

    sentences: Sentences
    embedded: Callable[[], Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]]
    """Has the teacher read all sentences: part by part their numbers, its embeddings (numbers, dim) of length 1, and
    those half way up."""

    @property
    def permutation(self) -> np.ndarray:
        """Numbers of all sentences in an order that no run's seed changes."""
        return batch_indices(len(self.sentences), len(self.sentences), 0, _SEED)


def _random(pool: Pool) -> np.ndarray:
    return pool.permutation


def _frequent(pool: Pool) -> np.ndarray:
    shuffled = pool.permutation
    return shuffled[np.argsort(-pool.sentences.counts[shuffled], kind="stable")]


def _diverse(pool: Pool) -> np.ndarray:
    from sklearn.cluster import MiniBatchKMeans  # not needed by other runs

    shuffled = pool.permutation
    embeddings: np.ndarray | None = None
    for numbers, whole, _ in pool.embedded():
        if embeddings is None:
            embeddings = np.empty((len(shuffled), whole.shape[1]), dtype=np.float16)  # of millions this is much already
        embeddings[numbers] = whole
    assert embeddings is not None
    clusters = max(1, min(CLUSTERS, len(shuffled) // 10))
    labels = np.empty(len(shuffled), dtype=np.int64)
    parts = np.split(shuffled, range(_CHUNK, len(shuffled), _CHUNK))
    parts = parts if len(parts) == 1 or len(parts[-1]) >= clusters else [*parts[:-2], np.concatenate(parts[-2:])]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of thread counts, and of clusters that copies leave empty
        model = MiniBatchKMeans(clusters, random_state=_SEED, n_init=1)
        for part in parts:
            model.partial_fit(embeddings[part].astype(np.float32))
        for part in parts:
            labels[part] = model.predict(embeddings[part].astype(np.float32))
    labels = labels[shuffled]
    turn = np.empty(len(shuffled), dtype=np.int64)  # which of its cluster each one is
    for cluster in range(clusters):
        members = np.flatnonzero(labels == cluster)
        turn[members] = np.arange(len(members))
    return shuffled[np.argsort(turn, kind="stable")]


def _hard(pool: Pool) -> np.ndarray:
    likeness = np.empty(len(pool.sentences), dtype=np.float32)
    for numbers, whole, half in pool.embedded():
        likeness[numbers] = (whole * half).sum(1)
    return np.argsort(likeness, kind="stable")


SELECTIONS: Mapping[str, Callable[[Pool], np.ndarray]] = {
    "random": _random,
    "frequent": _frequent,
    "diverse": _diverse,
    "hard": _hard,
}
"""Name of `--select` -> numbers of all sentences, those to take first in front."""


def select(name: str, pool: Pool, tokens: int) -> np.ndarray:
    """The first sentences of an order that have `tokens` tokens together, in the order of the corpus; at least one.

    Args:
        name: a key of `SELECTIONS`.
        pool: the sentences.
        tokens: how many, special ones left out.
    """
    order = SELECTIONS[name](pool)
    sizes = np.diff(pool.sentences.spans[order], axis=1)[:, 0]
    return np.sort(order[: max(1, int(np.searchsorted(np.cumsum(sizes), tokens, side="right")))])
