"""Which students to measure: few that say most about all the others, chosen by design instead of at random.

The ends of the space come first, then always the student that is farthest from those chosen (Kennard and Stone,
Technometrics 1969). Distances are between logarithms of what students' costs are made of, each scaled to its range:
ratios are what a cost follows. Prices are fitted at the ends of each axis and what they leave over in between, so the
design spans the axes first. Deterministic.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from autodistil.spaces import StudentConfig

SHARE = 0.1
"""Of the space: most students that are measured."""
LEAST = 8
"""Measured in small spaces too (all of those that have no more): a model has about as many prices."""
MOST = 64
"""Measured in huge spaces: more would teach the model little."""

Floats = NDArray[np.float64]


def design_size(total: int) -> int:
    """Students to measure of `total`: a tenth, but at least `LEAST` where there are so many, and at most `MOST`."""
    return min(total, max(LEAST, min(MOST, int(SHARE * total))))


def choose_students(students: Sequence[StudentConfig], count: int | None = None) -> list[StudentConfig]:
    """The students to measure, the most telling first; any prefix is a design too.

    Args:
        students: the space; equal students count once.
        count: how many; `design_size` unless given.
    """
    distinct = sorted(set(students), key=lambda student: (student.encoder_weights, student))
    points = _points(distinct)
    wanted = min(len(distinct), design_size(len(distinct)) if count is None else count)
    chosen = [0, len(distinct) - 1][:wanted]
    nearest = _distances(points, chosen)
    while len(chosen) < wanted:
        chosen.append(int(nearest.argmax()))
        nearest = np.minimum(nearest, _distances(points, chosen[-1:]))
    return [distinct[i] for i in chosen]


def _points(students: Sequence[StudentConfig]) -> Floats:
    """(students, coordinates) scaled to [0, 1]; an axis that does not vary drops out."""
    rows = [
        (
            s.num_layers, s.hidden_size, s.attention_width, s.head_size, s.intermediate_size / s.hidden_size,
            s.vocab_size or np.inf, s.embedding_size or s.hidden_size,
        )
        for s in students
    ]  # fmt: skip
    sizes = np.array(rows, dtype=float).reshape(-1, 7)
    whole = np.isinf(sizes)
    sizes[whole] = 2 * np.max(np.where(whole, 1, sizes), initial=1)  # above every pruned vocabulary
    logs = np.log(sizes)
    spread = np.ptp(logs, axis=0)
    return (logs - logs.min(axis=0)) / np.where(spread > 0, spread, 1.0)


def _distances(points: Floats, chosen: Sequence[int]) -> Floats:
    """(students,): distance to the nearest of the chosen."""
    gaps = points[:, None] - points[list(chosen)]
    nearest: Floats = np.sqrt((gaps**2).sum(axis=-1)).min(axis=1)
    return nearest
