"""Dominance against the definition, exhaustively; the knee."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from autodistil.student_search.pareto import knee_index, pareto_mask

points = st.integers(1, 3).flatmap(
    lambda width: st.lists(
        st.lists(st.one_of(st.integers(0, 4).map(float), st.just(float("nan"))), min_size=width, max_size=width),
        min_size=1,
        max_size=14,
    )
)


@given(points)
def test_front_is_what_nothing_dominates(rows):
    array = np.array(rows)

    def dominates(a, b):
        return bool((a <= b).all() and (a < b).any())

    expected = [
        not np.isnan(row).any() and not any(dominates(other, row) for other in array if not np.isnan(other).any())
        for row in array
    ]
    assert pareto_mask(array).tolist() == expected


def test_knee_is_the_bend_of_the_front():
    assert knee_index(np.array([[1.0, 0.0], [0.2, 0.2], [0.0, 1.0]])) == 1
    assert knee_index(np.array([[3.0, 5.0]])) == 0
