"""Pareto dominance and hypervolume, all objectives minimised."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def pareto_mask(points: np.ndarray) -> np.ndarray:
    """Which rows no other row dominates (no worse in every objective, better in one).

    Equal rows do not dominate each other: all of them stay.

    Args:
        points: (points, objectives); rows with a NaN are never on the front.

    Returns:
        Boolean mask (points,).
    """
    points = np.asarray(points, dtype=float)
    valid = ~np.isnan(points).any(axis=1)
    mask = np.zeros(len(points), dtype=bool)
    order = np.lexsort(points.T[::-1])
    front = np.empty((0, points.shape[1]))
    for index in order[valid[order]]:  # a point can be dominated only by one that sorts before it
        point = points[index]
        dominated = ((front <= point).all(axis=1) & (front < point).any(axis=1)).any()
        if not dominated:
            mask[index] = True
            front = np.vstack([front, point])
    return mask


def staircase(points: np.ndarray) -> np.ndarray:
    """Indices of the two-objective front in the order of its first objective; of equal points one.

    Args:
        points: (points, 2); those with a NaN in the second objective are left out.
    """
    order = np.lexsort((points[:, 1], points[:, 0]))
    values = points[order, 1]
    before = np.fmin.accumulate(np.concatenate([[np.inf], values]))[:-1]
    return order[values < before]


def scaled(values: np.ndarray) -> np.ndarray:
    """Columns brought to between 0 and 1; constant ones to 0."""
    spread = np.ptp(values, axis=0)
    return np.asarray((values - values.min(axis=0)) / np.where(spread > 0, spread, 1.0))


def knee_index(points: np.ndarray) -> int | None:
    """Index of the knee of a two-objective front by Kneedle (Satopää et al. 2011, "Finding a Kneedle in a Haystack").

    Objectives are scaled to [0, 1] over the front; the knee is the point farthest below the line between the two ends,
    if it lies there by more than the mean step of the first objective (sensitivity 1). So it is never an end, and a
    front that is straight, bends outwards or has fewer than three points has none. Departure: of several knees the
    strongest alone.

    Args:
        points: (points, 2), as `staircase` orders them.
    """
    if len(points) < 3:
        return None
    below = 1 - scaled(np.asarray(points, dtype=float)).sum(axis=1)
    knee = 1 + int(np.argmax(below[1:-1]))
    return knee if below[knee] > 1 / (len(points) - 1) else None


REFERENCE = 1.1
"""Where both objectives of `hypervolumes` end, once scaled: beyond the worst, so that the ends of a front count."""


def hypervolume(points: np.ndarray, reference: np.ndarray) -> float:
    """Area that a two-objective front dominates, up to a reference point (Zitzler and Thiele, 1998).

    Args:
        points: (points, 2); those beyond the reference add nothing.
        reference: (2,).
    """
    points = np.asarray(points, dtype=float).reshape(-1, 2)
    inside = points[(points < reference).all(axis=1)]
    front = inside[pareto_mask(inside)]
    front = front[np.argsort(front[:, 0], kind="stable")]
    widths = np.diff([*front[:, 0], reference[0]])
    return float(widths @ (reference[1] - front[:, 1]))


def hypervolumes(fronts: Sequence[np.ndarray]) -> list[float]:
    """Hypervolume of each of several fronts as a share of the largest possible, with one scale and reference for all.

    Objectives are scaled to [0, 1] over all fronts together (costs should come as logarithms), so the shares compare
    within one call only.

    Args:
        fronts: arrays (points, 2) without NaN; an empty one has 0.
    """
    parts = [np.asarray(front, dtype=float).reshape(-1, 2) for front in fronts]
    together = np.vstack(parts)
    if not len(together):
        return [0.0] * len(fronts)
    reference, ends = np.array([REFERENCE, REFERENCE]), np.cumsum([len(part) for part in parts])[:-1]
    return [hypervolume(part, reference) / REFERENCE**2 for part in np.split(scaled(together), ends)]
