"""Monotonicity of a SuperLM: where one student contains another, the larger should be at least as good.

Trained alone, a student that is at least as deep, wide and so on in every dimension can only gain. A SuperLM in which
the larger one is often worse has spoiled its large students by sharing (the sandwich rule of Yu & Huang 2019 is there
to prevent that), and its ranks mean little. The check needs nothing but losses that the search has anyway.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pandas as pd

from autodistil.spaces import DIMENSIONS, StudentConfig
from autodistil.student_sets import by_size

_BLOCK_PAIRS = 1 << 22
"""Pairs compared at a time: some tens of megabytes."""


@dataclass(frozen=True)
class Violation:
    """A larger student that is worse than one it contains."""

    larger: str
    smaller: str
    excess: float
    """Loss of the larger less that of the smaller one."""


@dataclass(frozen=True)
class Monotonicity:
    """Order of the losses within one sub-space."""

    scored: int
    """Students with a finite loss."""
    pairs: int
    """Pairs of scored students where one contains the other."""
    ordered: int
    """Pairs in which the larger has the lower or an equal loss."""
    spread: float
    """Highest less lowest loss."""
    best: str | None
    """Scored student of the lowest loss (the larger of equals)."""
    largest: str
    """The largest student of the sub-space, scored or not."""
    largest_excess: float | None
    """Its loss less the lowest one; None where it was not scored."""
    worst: Violation | None

    @property
    def share(self) -> float | None:
        """Share of pairs in order; None where there are no pairs."""
        return self.ordered / self.pairs if self.pairs else None


def monotonicity(table: pd.DataFrame) -> Monotonicity:
    """The monotonicity of one sub-space.

    Args:
        table: all of its students, with `id`, `loss` (NaN where not scored) and a column for each of
            `spaces.DIMENSIONS`; at least one row.
    """
    losses = table["loss"].to_numpy(dtype=float, na_value=np.nan)
    largest = _largest(table)
    scored = table[np.isfinite(losses)]
    values, ids = losses[np.isfinite(losses)], scored["id"].astype(str).to_numpy()
    pairs, ordered, worst = 0, 0, None
    for larger, smaller in _nested_pairs(scored[list(DIMENSIONS)].to_numpy(dtype=np.int64)):
        excess = values[larger] - values[smaller]
        pairs += len(excess)
        ordered += int((excess <= 0).sum())
        worst = _worse(worst, excess, ids[larger], ids[smaller])
    best = _best(scored)
    excess_of = dict(zip(ids, values - values.min(initial=np.inf), strict=True))
    largest_excess = float(excess_of[largest]) if largest in excess_of else None
    spread = float(np.ptp(values)) if len(values) else 0.0
    return Monotonicity(len(scored), pairs, ordered, spread, best, largest, largest_excess, worst)


def _largest(table: pd.DataFrame) -> str:
    configs = [StudentConfig(*map(int, row)) for row in table[list(DIMENSIONS)].itertuples(index=False)]
    return str(table["id"].iloc[configs.index(by_size(configs)[-1])])


def _best(scored: pd.DataFrame) -> str | None:
    """The lowest loss; of equals the one with the most parameters in its dimensions."""
    if not len(scored):
        return None
    order = scored.sort_values(["loss", *DIMENSIONS], ascending=[True] + [False] * len(DIMENSIONS), kind="stable")
    return str(order["id"].iloc[0])


def _nested_pairs(dims: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Index pairs (larger, smaller) of students where one contains the other, some rows at a time.

    Args:
        dims: (students, dimensions).
    """
    step = max(1, _BLOCK_PAIRS // max(1, len(dims)))
    for start in range(0, len(dims), step):
        block = dims[start : start + step, None]
        larger, smaller = np.nonzero((block >= dims).all(-1) & (block > dims).any(-1))
        yield larger + start, smaller


def _worse(worst: Violation | None, excess: np.ndarray, larger: np.ndarray, smaller: np.ndarray) -> Violation | None:
    """The worst violation so far; of equals the first by name, whatever the order of the students."""
    highest = excess.max(initial=0.0)
    if highest <= 0.0:
        return worst
    first = min((str(larger[i]), str(smaller[i])) for i in np.nonzero(excess == highest)[0])
    found = [Violation(*first, float(highest)), *([worst] if worst else [])]
    return min(found, key=lambda violation: (-violation.excess, violation.larger, violation.smaller))
