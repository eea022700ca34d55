"""The hypervolume that a replayed search reaches, as a share of what full enumeration does."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from autodistil.student_search import pareto

Floats = NDArray[np.float64]


def scaled(losses: Floats, costs: Floats, log: bool = True) -> Floats:
    """Points (students, 2) of loss and cost between 0 and 1; the reference point of the volume is (1, 1)."""
    points = np.column_stack([losses, np.log(costs) if log else costs])
    return np.asarray((points - points.min(0)) / np.ptp(points, axis=0))


def hypervolume(points: Floats) -> float:
    """Area that the points dominate within the unit square."""
    return pareto.hypervolume(points, np.ones(2))


def evaluations_to(points: Floats, asked: NDArray[np.int64], share: float) -> int | None:
    """Evaluations after which `share` of the volume of all points is reached; None where the search ends before."""
    wanted = share * hypervolume(points)
    low, high = 1, len(asked)
    if hypervolume(points[asked]) < wanted:
        return None
    while low < high:  # the volume only grows
        middle = (low + high) // 2
        low, high = (low, middle) if hypervolume(points[asked[:middle]]) >= wanted else (middle + 1, high)
    return low
