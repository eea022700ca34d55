"""Metrics of GLUE and STS, from scikit-learn and SciPy. All are fractions: 1 is perfect, 0 chance or worst."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType

import numpy as np
from scipy.stats import pearsonr, spearmanr
from sklearn.metrics import accuracy_score, f1_score, matthews_corrcoef

Metric = Callable[[np.ndarray, np.ndarray], float]
"""(labels (rows,), predictions (rows,)) -> value."""


def accuracy(labels: np.ndarray, predictions: np.ndarray) -> float:
    """Share of rows whose class is right."""
    return float(accuracy_score(labels, predictions))


def f1(labels: np.ndarray, predictions: np.ndarray) -> float:
    """Harmonic mean of precision and recall of class 1; 0 where it is never predicted."""
    return float(f1_score(labels, predictions, zero_division=0))


def matthews(labels: np.ndarray, predictions: np.ndarray) -> float:
    """Matthews correlation of classes, in [-1, 1]; 0 where labels or predictions are constant."""
    return 0.0 if np.ptp(labels) == 0 or np.ptp(predictions) == 0 else float(matthews_corrcoef(labels, predictions))


def pearson(labels: np.ndarray, predictions: np.ndarray) -> float:
    """Linear correlation of scores, in [-1, 1]; 0 where it is not defined (`_degenerate`)."""
    return 0.0 if _degenerate(predictions) else float(pearsonr(labels, predictions).statistic)


def spearman(labels: np.ndarray, predictions: np.ndarray) -> float:
    """Rank correlation of scores, ties at their mean rank, in [-1, 1]; 0 where it is not defined (`_degenerate`)."""
    return 0.0 if _degenerate(predictions) else float(spearmanr(labels, predictions).statistic)


def _degenerate(predictions: np.ndarray) -> bool:
    """Predictions that say nothing: constant, or of a training that diverged."""
    return not np.isfinite(predictions).all() or bool(np.ptp(predictions) == 0)


METRICS: Mapping[str, Metric] = MappingProxyType(
    {"accuracy": accuracy, "f1": f1, "matthews": matthews, "pearson": pearson, "spearman": spearman}
)


def score(names: Sequence[str], labels: np.ndarray, predictions: np.ndarray) -> dict[str, float]:
    """Value of each metric in `names`, in that order."""
    return {name: METRICS[name](labels, predictions) for name in names}
