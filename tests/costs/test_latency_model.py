"""The model: prices are found again, intervals hold what they promise, a measurement corrects its neighbours."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from autodistil.errors import ProfileError
from autodistil.profiling.latency_model import (
    FEWEST_MEASURED,
    LAYER_TYPES,
    TILE,
    accuracy,
    choose_students,
    fit_cost_model,
    workload,
)
from autodistil.space.files import load_space
from autodistil.space.shape import EncoderShape
from autodistil.space.student import StudentConfig

SHAPE = EncoderShape(30522, 514, None, pooler=False)
SPACE = sorted({candidate.config for candidate in load_space("minilm-l6-h384").candidates})
DESIGN = choose_students(SPACE)
PRICES = {
    "ms": [0.5, 0.05, 1e-6, 1e-9, 5e-8, 2e-8, 2e-5, 6e-8, 2e-7, 5e-8, 2e-8, 8e-6, 6e-6],
    "file_mb": [0.2, 0.01, 1, 1, 1],
}
"""Of floats, and of the integers and few bits that no student here has."""


def load_of(students):
    return workload(students, SHAPE, 1, 128)


def true_costs(students, cost="ms"):
    return (load_of(students).features(cost) @ PRICES[cost]).to_numpy()


def noisy(values, spread, seed=0):
    return values * np.exp(np.random.default_rng(seed).normal(0, spread, len(values)))


@pytest.mark.parametrize("cost", PRICES)
def test_costs_that_are_sums_of_amounts_are_found_again(cost):
    model = fit_cost_model(cost, load_of(DESIGN), true_costs(DESIGN, cost))
    found = accuracy(model.predict(load_of(SPACE))["value"], true_costs(SPACE, cost))
    assert (model.prices >= 0).all()
    assert found.mape < 0.01
    assert found.tau > 0.99


@settings(max_examples=5)
@given(st.integers(0, 1000))
def test_unmeasured_students_are_within_five_percent_where_medians_are_within_three(seed):
    model = fit_cost_model("ms", load_of(DESIGN), noisy(true_costs(DESIGN), 0.03, seed))
    table, unseen = model.predict(load_of(SPACE)), ~np.array([student in DESIGN for student in SPACE])
    found = accuracy(table["value"][unseen], true_costs(SPACE)[unseen])
    assert found.mape < 0.05
    assert found.tau > 0.95
    inside = (table["low"] <= true_costs(SPACE)) & (true_costs(SPACE) <= table["high"])
    assert inside[unseen].mean() > 0.8
    assert (table["low"] <= table["value"]).all()
    assert (table["value"] <= table["high"]).all()


def test_what_prices_cannot_say_is_learnt_around_the_measured():
    wide = np.array([student.hidden_size >= 320 for student in SPACE])  # a cache that wide students do not fit into
    measured = true_costs(SPACE) * np.where(wide, 1.25, 1.0)
    chosen = np.array([student in DESIGN for student in SPACE])
    known = dict(zip(SPACE, measured, strict=True))
    model = fit_cost_model("ms", load_of(DESIGN), [known[student] for student in DESIGN])
    found = accuracy(model.predict(load_of(SPACE))["value"][~chosen], measured[~chosen])
    assert found.mape < 0.08


def test_layer_types_add_up_to_the_prediction():
    model = fit_cost_model("ms", load_of(DESIGN), noisy(true_costs(DESIGN), 0.02))
    shares = model.shares(load_of(SPACE))
    assert set(shares) <= set(LAYER_TYPES)
    assert (shares.to_numpy() >= 0).all()
    np.testing.assert_allclose(shares.sum(axis=1), model.predict(load_of(SPACE))["value"])


def test_widths_cost_whole_tiles():
    odd, whole = (StudentConfig(2, hidden, 1, hidden, 4 * TILE) for hidden in (3 * TILE - 5, 3 * TILE))
    products = load_of([odd, whole]).time_features[("attention projections", "products")]
    assert products[0] == products[1]


@pytest.mark.parametrize(
    "values", [[1.0] * (FEWEST_MEASURED - 1), [1.0] * FEWEST_MEASURED + [0.0], [1.0] * FEWEST_MEASURED + [float("nan")]]
)
def test_too_few_or_impossible_measurements_are_refused(values):
    with pytest.raises(ProfileError, match="at least"):
        fit_cost_model("ms", load_of(DESIGN[: len(values)]), values)


def test_accuracy_is_relative():
    assert accuracy([1.1, 1.8], [1.0, 2.0]).mape == pytest.approx(0.1)
    assert accuracy([1, 2, 3], [3, 2, 1]).tau == -1
