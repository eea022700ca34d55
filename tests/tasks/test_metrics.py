"""Metrics against values worked out by hand."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from autodistil.tasks.catalogue import METRICS, score

LABELS = np.array([1, 1, 1, 0, 0, 1])
PREDICTED = np.array([1, 0, 1, 1, 0, 1])  # true positives 3, false negatives 1, false positives 1, true negatives 1


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("accuracy", 4 / 6),
        ("f1", 6 / 8),  # 2 TP / (2 TP + FP + FN)
        ("matthews", (3 * 1 - 1 * 1) / (4 * 4 * 2 * 2) ** 0.5),
    ],
)
def test_classes(name, expected):
    assert METRICS[name](LABELS, PREDICTED) == pytest.approx(expected, abs=1e-12)


def test_spearman_ranks_ties_at_their_mean_and_pearson_does_not_rank():
    labels, predictions = np.array([1.0, 2.0, 2.0, 3.0]), np.array([0.0, 10.0, 20.0, 30.0])
    # Ranks 1, 2.5, 2.5, 4 and 1, 2, 3, 4: covariance 4.5, squares 4.5 and 5.
    assert METRICS["spearman"](labels, predictions) == pytest.approx(4.5 / (4.5 * 5) ** 0.5, abs=1e-12)
    # Deviations -1, 0, 0, 1 and -15, -5, 5, 15: products 30, squares 2 and 500.
    assert METRICS["pearson"](labels, predictions) == pytest.approx(30 / 1000**0.5, abs=1e-12)


@pytest.mark.parametrize("predictions", [[1.0, 1.0, 1.0], [1.0, float("nan"), 2.0]])
@pytest.mark.parametrize("name", ["spearman", "pearson"])
def test_constant_or_broken_scores_are_worth_nothing(name, predictions):
    assert METRICS[name](np.array([1.0, 2.0, 3.0]), np.array(predictions)) == 0.0


def test_a_class_never_predicted_is_no_warning():
    constant = np.zeros(6, dtype=int)
    assert score(["f1", "matthews"], LABELS, constant) == {"f1": 0.0, "matthews": 0.0}


@given(st.lists(st.tuples(st.integers(0, 1), st.integers(0, 1)), min_size=2, max_size=30))
def test_a_perfect_prediction_is_best(pairs):
    labels, predictions = (np.array(values) for values in zip(*pairs, strict=True))
    for name in ("accuracy", "f1", "matthews"):
        assert METRICS[name](labels, labels) >= METRICS[name](labels, predictions) - 1e-12
