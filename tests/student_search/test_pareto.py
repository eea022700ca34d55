"""Dominance against the definition, exhaustively; the knee of fronts of every curvature."""

import numpy as np
import pytest
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


def front_of(power, points=40):
    """A front over costs 0 to 1: losses 1 - x ** power bend inwards below 1, outwards above it."""
    costs = np.linspace(0, 1, points)
    return np.column_stack([costs, 1 - costs**power])


@pytest.mark.parametrize("power", [0.1, 0.2, 0.35, 0.5, 0.7])
def test_the_knee_of_a_front_that_bends_inwards_is_where_its_slope_is_that_of_the_chord(power):
    front = front_of(power)
    knee = knee_index(front)
    assert 0 < knee < len(front) - 1
    assert front[knee, 0] == pytest.approx(power ** (1 / (1 - power)), abs=1 / 39)  # where the derivative of x^p is 1


@pytest.mark.parametrize("power", [1.0, 1.5, 2.0, 3.0, 10.0])
def test_a_front_that_is_straight_or_bends_outwards_has_no_knee(power):
    assert knee_index(front_of(power)) is None


@given(st.floats(0.05, 20), st.floats(1e-3, 1e9), st.floats(-1e3, 1e3), st.integers(1, 60))
def test_a_knee_is_never_an_end_and_depends_on_no_unit(power, scale, shift, points):
    front = front_of(power, points)
    knee = knee_index(front)
    assert knee is None or 0 < knee < points - 1
    if power < 0.9 or power > 1.1:  # else on the edge of the threshold, where rounding decides
        moved = knee_index(front * [scale, 1] + [0, shift])
        assert (moved is None) == (knee is None)
        assert moved is None or abs(moved - knee) <= 1  # of two that are level


def test_noise_of_a_straight_front_is_no_knee():
    for seed in range(50):
        drawn = np.random.default_rng(seed).random((2, 30))
        losses = 1 - np.linspace(0, 1, 30) + 0.01 * (drawn[1] - 0.5)
        assert knee_index(np.column_stack([np.linspace(0, 1, 30), np.sort(losses)[::-1]])) is None


def test_a_sharp_bend_is_found_and_few_points_have_none():
    assert knee_index(np.array([[0.0, 1.0], [0.2, 0.2], [1.0, 0.0]])) == 1
    assert knee_index(np.array([[3.0, 5.0]])) is None
    assert knee_index(np.array([[3.0, 5.0], [4.0, 4.0]])) is None
