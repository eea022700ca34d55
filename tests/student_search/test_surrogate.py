"""The surrogate proposes each student once, the same for the same history, and finds a front with few of them."""

from itertools import product

import numpy as np
import pytest
from scipy.stats import norm

from autodistil.student_search.pareto import pareto_mask
from autodistil.student_search.samplers import surrogate as module
from autodistil.student_search.samplers.surrogate import Surrogate, expected_gain, scaled, student_features

GRID = np.array(list(product(range(5), repeat=4)), dtype=float)
COSTS = np.exp(GRID.sum(1, keepdims=True) / 5)
LOSSES = 3 - 0.5 * np.log1p(GRID[:, 0]) - 0.3 * np.log1p(GRID[:, 1]) - 0.05 * GRID[:, 2] + 0.02 * GRID[:, 3] ** 2


def asked(surrogate, count):
    rows = []
    while len(rows) < count:
        rows.append(surrogate.propose(rows, LOSSES[rows].tolist()))
    return rows


def test_the_front_is_found_with_a_part_of_the_space():
    rows = asked(Surrogate(GRID / 4, COSTS, seed=0), 60)
    assert len(set(rows)) == 60
    front = np.flatnonzero(pareto_mask(np.column_stack([LOSSES, COSTS])))
    best = [LOSSES[rows][COSTS[rows, 0] <= COSTS[row, 0]].min() for row in front]
    assert np.mean(np.array(best) - LOSSES[front]) < 0.02


def test_proposals_depend_on_seed_and_history_alone(monkeypatch):
    monkeypatch.setattr(module, "POOL", 100)
    rows = asked(Surrogate(GRID / 4, COSTS, seed=1), 14)
    module._fitted.cache_clear()
    again = Surrogate(GRID / 4, COSTS, seed=1)
    assert again.propose(rows[:13], LOSSES[rows[:13]].tolist()) == rows[13]
    assert asked(Surrogate(GRID / 4, COSTS, seed=2), 4) != rows[:4]


def test_it_begins_with_both_ends_of_the_costs():
    first = Surrogate(GRID / 4, COSTS, seed=0).first
    assert {int(COSTS.argmin()), int(COSTS.argmax())} == set(first[:2])
    assert len(set(first)) == module.FIRST
    assert len(set(Surrogate(GRID[:3] / 4, COSTS[:3], seed=0).first)) == 3


def test_gain_is_the_mean_of_expected_improvements():
    surrogate = Surrogate(GRID[:4] / 4, np.array([[1.0], [2.0], [4.0], [8.0]]), seed=0)
    pool, mean, deviation = np.array([1]), np.array([0.8]), np.array([0.3])
    costs, known = surrogate.log_costs, np.array([0, 3])
    gain = expected_gain(surrogate.limits, costs[known], np.array([1.0, 0.5]), costs[pool], mean, deviation)
    z = (1.0 - 0.8) / 0.3  # until the most expensive one is allowed, the cheapest is the best
    expected = 0.3 * (z * norm.cdf(z) + norm.pdf(z)) * (surrogate.limits >= 1 / 3).mean()
    assert gain == pytest.approx([expected], rel=1e-9)


def test_several_costs_count_together():
    surrogate = Surrogate(GRID / 4, np.column_stack([COSTS[:, 0], 1 + GRID[:, 3]]), seed=0)
    assert len(set(asked(surrogate, 12))) == 12


def test_diverged_students_do_not_break_it():
    rows = list(Surrogate(GRID / 4, COSTS, seed=0).first)
    losses = [np.nan, np.inf, *LOSSES[rows[2:]]]
    assert Surrogate(GRID / 4, COSTS, seed=0).propose(rows, losses) not in rows


def test_features_are_the_axes_that_differ():
    import pandas as pd

    table = pd.DataFrame({"sub_space": ["a", "a", "b"], "num_layers": [1, 2, 4], "hidden_size": [8, 8, 8]})
    assert student_features(table).tolist() == [[0.0, 1.0, 0.0], [0.5, 1.0, 0.0], [1.0, 0.0, 1.0]]
    assert scaled(np.array([[1.0, 5.0], [3.0, 5.0]])).tolist() == [[0.0, 0.0], [1.0, 0.0]]
