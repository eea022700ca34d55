"""Pareto dominance and hypervolume, all objectives minimised."""

from __future__ import annotations

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


def knee_index(points: np.ndarray) -> int:
    """Index of the knee of a two-objective front: farthest below the line between its two ends.

    Objectives are scaled to [0, 1] over the front (costs should come as logarithms).

    Args:
        points: (points, 2), at least one row.
    """
    points = np.asarray(points, dtype=float)
    spread = np.ptp(points, axis=0)
    scaled = (points - points.min(axis=0)) / np.where(spread > 0, spread, 1.0)
    return int(np.argmin(scaled.sum(axis=1)))
