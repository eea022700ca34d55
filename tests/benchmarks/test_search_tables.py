"""The hypervolume of replayed searches, and how many evaluations they take."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from search_tables.volume import evaluations_to, hypervolume, scaled

UNIT = st.floats(0, 1, width=32)


@given(st.lists(st.tuples(UNIT, UNIT), min_size=1, max_size=8))
def test_volume_is_the_union_of_boxes(points):
    points = np.array(points)
    ends = [np.unique(np.append(points[:, axis], 1.0)) for axis in (0, 1)]
    area = sum(
        (b - a) * (d - c)
        for a, b in zip(ends[0], ends[0][1:], strict=False)
        for c, d in zip(ends[1], ends[1][1:], strict=False)
        if ((points[:, 0] <= a) & (points[:, 1] <= c)).any()
    )
    assert np.isclose(hypervolume(points), area)


def test_evaluations_are_counted_until_the_share_is_reached():
    points = scaled(np.array([3.0, 2.0, 1.0]), np.array([1.0, 2.0, 4.0]))
    whole = np.array([0, 1, 2])
    assert hypervolume(points) == 0.25
    assert evaluations_to(points, whole, 1.0) == 2
    assert evaluations_to(points, np.array([0, 2, 1]), 1.0) == 3
    assert evaluations_to(points, np.array([0, 2]), 1.0) is None
