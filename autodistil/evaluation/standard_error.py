"""How far a score may be off because the scored rows are a sample: its standard error.

accuracy     binomial: sqrt(p (1 - p) / n); exact match too
pearson      (1 - r^2) / sqrt(n - 3): the error of Fisher's z, on the scale of r (Gnambs 2023, Collabra 9, 87615)
spearman     (1 - r^2) sqrt((1 + r^2 / 2) / (n - 3)) (Bonett & Wright 2000, Psychometrika 65, 23-28)
of queries   sample standard deviation over queries / sqrt(queries), for metrics that are a mean over them

Those of correlations are for scores that are about normal. The rows are the same for all seeds, so the error is stated
of the mean over seeds and does not shrink with their number; that of accuracy is then an upper bound. F1, Matthews
correlation and V-measure have no such form.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from statistics import mean, stdev
from types import MappingProxyType


def _of_accuracy(p: float, rows: int) -> float:
    return math.sqrt(max(p * (1 - p), 0.0) / rows)


def _of_pearson(r: float, rows: int) -> float:
    return max(1 - r**2, 0.0) / math.sqrt(rows - 3)


def _of_spearman(r: float, rows: int) -> float:
    return _of_pearson(r, rows) * math.sqrt(1 + r**2 / 2)


_CLOSED_FORMS: Mapping[str, Callable[[float, int], float]] = MappingProxyType(
    {"accuracy": _of_accuracy, "exact_match": _of_accuracy, "pearson": _of_pearson, "spearman": _of_spearman}
)
"""Metric -> (value, rows) -> standard error."""
_FEWEST = 4
"""Rows that a closed form needs: Fisher's z has n - 3 in its denominator."""


def standard_errors(
    metrics: Mapping[str, Sequence[float]], rows: int, queries: Mapping[str, Sequence[float]] = MappingProxyType({})
) -> dict[str, float]:
    """Standard errors of the means over seeds, in the metrics' own unit.

    Args:
        metrics: metric -> a value a seed.
        rows: rows that were scored.
        queries: metric -> the value of each query, of metrics that are their mean.

    Returns:
        Metric -> standard error, above 0. Metrics that have none are left out, and so are those of fewer than 4 rows
        or 2 queries, and scores at an end of their scale or the same for all queries, whose error comes out as 0.
    """
    errors = {name: stdev(values) / math.sqrt(len(values)) for name, values in queries.items() if len(values) > 1}
    if rows >= _FEWEST:
        errors |= {name: _CLOSED_FORMS[name](mean(of), rows) for name, of in metrics.items() if name in _CLOSED_FORMS}
    return {name: error for name, error in errors.items() if error > 0}
