"""How well two orders of the same students agree: Kendall's tau-b, and how far apart the students it swaps are.

tau = (concordant - discordant pairs) / all pairs, with a correction for ties (Kendall 1945); 1 is the same order, 0 no
relation, -1 the reverse. Samples are small here: n and the p-value (exact where there are no ties) always go with it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import combinations

from scipy.stats import kendalltau


@dataclass(frozen=True)
class Agreement:
    """Agreement of two rankings of the same students."""

    n: int
    """Students that both rank."""
    tau: float | None = None
    """Kendall's tau-b; None where an order has fewer than two different values."""
    p_value: float | None = None
    """Chance of a tau at least as far from 0 if the orders were unrelated."""
    swapped: int = 0
    """Discordant pairs."""
    margin: float = 0.0
    """Largest difference of a discordant pair in the first value: smaller ones have been seen to mislead."""
    finest: float | None = None
    """Smallest difference of any pair, in the first value: nothing finer was tested."""


def kendall(ours: Mapping[str, float], theirs: Mapping[str, float]) -> Agreement:
    """Agreement over the students that have a finite value in both."""
    pairs = [(value, theirs[key]) for key, value in sorted(ours.items()) if _finite(value, theirs.get(key))]
    if len(pairs) < 2:
        return Agreement(len(pairs))
    result = kendalltau(*zip(*pairs, strict=True))
    gaps = [(abs(a[0] - b[0]), (a[0] - b[0]) * (a[1] - b[1]) < 0) for a, b in combinations(pairs, 2)]
    swapped = [gap for gap, discordant in gaps if discordant]
    tau, p_value = (float(x) if math.isfinite(x) else None for x in (result.statistic, result.pvalue))
    return Agreement(len(pairs), tau, p_value, len(swapped), max(swapped, default=0.0), min(gap for gap, _ in gaps))


def rank_agreement(losses: Mapping[str, float], scores: Mapping[str, float]) -> Agreement:
    """Agreement of a proxy with a task: 1 where the student of lower loss always has the higher score.

    Args:
        losses: student id -> held-out loss, lower is better.
        scores: student id -> task score, higher is better.
    """
    return kendall(losses, {key: -score for key, score in scores.items()})


def _finite(value: float, other: float | None) -> bool:
    return other is not None and math.isfinite(value) and math.isfinite(other)
