"""What sentence embeddings are worth for search: retrieval, reranking and clustering, without training the encoder.

Documents are ranked by the cosine of their embedding and the query's. Metrics are those of BEIR (arXiv 2104.08663) and
MTEB (Muennighoff et al. 2023, arXiv 2210.07316), as trec_eval counts them:

nDCG@10     gain of a document: its grade; discount log2(rank + 1); over the best that the judgments allow
recall@100  share of a query's relevant documents among the first 100
MAP         mean over queries of the mean precision at each relevant document, all candidates ranked
V-measure   harmonic mean of homogeneity and completeness of k-means clusters against classes (Rosenberg & Hirschberg
            2007), k the number of classes
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence

import numpy as np
from sklearn.cluster import KMeans
from sklearn.exceptions import ConvergenceWarning
from sklearn.metrics import v_measure_score

from autodistil.errors import TaskError
from autodistil.evaluation.embedding import Encoder, unit
from autodistil.evaluation.vector_codes import stored
from autodistil.tasks.catalogue import TaskData
from autodistil.tasks.collection import Collection
from autodistil.utils import Progress

DEPTH = 100
"""Documents that are ranked for a query of a retrieval."""
_DOCUMENTS_AT_ONCE = 4096
_QUERIES_AT_ONCE = 256


def ndcg(grades: Mapping[int, float], ranking: Sequence[int], depth: int = 10) -> float:
    """Normalised discounted cumulative gain of the first `depth` documents of a ranking, in [0, 1].

    Args:
        grades: document -> grade; a document that is not there has 0. One is above 0 at least.
        ranking: documents, the best first.
        depth: how many count.
    """
    discounts = 1 / np.log2(np.arange(2, depth + 2))
    gains = np.array([grades.get(int(document), 0.0) for document in ranking[:depth]])
    ideal = np.sort(np.fromiter(grades.values(), dtype=float))[::-1][:depth]
    return float(gains @ discounts[: len(gains)] / (ideal @ discounts[: len(ideal)]))


def recall(grades: Mapping[int, float], ranking: Sequence[int], depth: int = DEPTH) -> float:
    """Share of the relevant documents among the first `depth` of a ranking."""
    relevant = {document for document, grade in grades.items() if grade > 0}
    return len(relevant.intersection(map(int, ranking[:depth]))) / len(relevant)


def average_precision(grades: Mapping[int, float], ranking: Sequence[int]) -> float:
    """Mean over the relevant documents of a ranking of the share of relevant ones up to each of them."""
    hits = np.array([grades.get(int(document), 0.0) > 0 for document in ranking])
    precision = hits.cumsum() / np.arange(1, len(hits) + 1)
    return float(precision[hits].mean())


def retrieval_scores(
    data: Collection,
    encode_queries: Encoder,
    encode_documents: Encoder,
    progress: Progress,
    vectors: str = "float32",
) -> dict[str, list[float]]:
    """Rank all documents for each query, or its candidates where the collection names them.

    Args:
        data: the collection.
        encode_queries: gives the embeddings of queries.
        encode_documents: gives those of documents; the same, but for models that put a prompt before either.
        progress: told how many documents are done.
        vectors: how documents are stored, a key of `VECTOR_CODES`; queries are float32.

    Returns:
        A value a query, whose mean is the metric: `ndcg@10` and `recall@100`, or of candidates `map`. Queries whose
        candidates are all relevant or all irrelevant are left out of that, as MTEB does: their order does not matter.
    """
    documents = stored(unit(_encoded(encode_documents, data.documents, progress)), vectors)
    queries = unit(encode_queries(data.queries))
    if data.candidates is None:
        rankings = [ranking for part in _blocks(queries) for ranking in _best(part @ documents.T, DEPTH)]
        pairs = list(zip(data.grades, rankings, strict=True))
        return {
            "ndcg@10": [ndcg(*pair) for pair in pairs],
            "recall@100": [recall(*pair) for pair in pairs],
        }
    precisions = []
    for query, grades, candidates in zip(queries, data.grades, data.candidates, strict=True):
        relevant = sum(grades.get(int(document), 0.0) > 0 for document in candidates)
        if 0 < relevant < len(candidates):
            order = _best((documents[candidates] @ query)[None], len(candidates))[0]
            precisions.append(average_precision(grades, candidates[order]))
    return {"map": precisions}


def check_classes(data: TaskData, method: str) -> None:
    """Make sure that a task has what clusters and neighbours need.

    Raises:
        TaskError: its rows are pairs, or have scores instead of classes.
    """
    if data.task.pairs or data.task.regression:
        raise TaskError(f"task {data.name!r} has no single texts of classes, which {method} needs; leave --method out")


def cluster_scores(data: TaskData, encode: Encoder, seeds: int = 1) -> list[dict[str, float]]:
    """V-measure of k-means on the embeddings of the evaluated split, k the number of its classes, for each seed."""
    embeddings, labels = unit(encode(data.evaluated.text_a)), data.evaluated.labels
    kmeans = [KMeans(len(np.unique(labels)), n_init=1, random_state=seed) for seed in range(seeds)]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # fewer embeddings than classes: the score says it
        clusters = [model.fit_predict(embeddings) for model in kmeans]
    return [{"v_measure": float(v_measure_score(labels, found))} for found in clusters]


def _encoded(encode: Encoder, texts: Sequence[str], progress: Progress) -> np.ndarray:
    """Embeddings (texts, dim), encoded piece by piece so that one hears of it."""
    parts = []
    with progress.track("documents", len(texts)) as advance:
        for start in range(0, len(texts), _DOCUMENTS_AT_ONCE):
            part = texts[start : start + _DOCUMENTS_AT_ONCE]
            parts.append(encode(part))
            advance(len(part))
    return np.concatenate(parts)


def _blocks(queries: np.ndarray) -> list[np.ndarray]:
    """Queries in parts, so that the scores of all documents fit into memory."""
    return np.split(queries, range(_QUERIES_AT_ONCE, len(queries), _QUERIES_AT_ONCE))


def _best(scores: np.ndarray, count: int) -> np.ndarray:
    """Indices (queries, count) of the highest scores (queries, documents), highest first.

    Equal scores come in an order that is drawn once: files may name relevant documents first.
    """
    drawn = np.random.default_rng(0).permutation(scores.shape[1])
    order = np.argsort(-scores[:, drawn], axis=1, kind="stable")[:, :count]
    return drawn[order]
