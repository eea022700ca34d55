"""Scores by class and confusions against counts; what is written comes back as it was."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from autodistil.tasks.calibration import area, probabilities, reliability, risk_coverage
from autodistil.tasks.classification import Classification

NAMES = ("bad", "fine", "good")


def answers(seed, count=40):
    random = np.random.default_rng(seed)
    return random.integers(3, size=count), random.normal(size=(count, 3)).astype(np.float32)


@given(st.integers(0, 2**32 - 1), st.integers(1, 40))
def test_counts_by_label_and_answer_give_the_scores(seed, count):
    labels, logits = answers(seed, count)
    found, predicted = Classification.of(labels, logits, NAMES), logits.argmax(1)
    table = np.array([[((labels == i) & (predicted == j)).sum() for j in range(3)] for i in range(3)])
    np.testing.assert_array_equal(found.confusion, table)
    for number, of in enumerate(found.per_class.values()):
        hits, support, given_ = table[number, number], table[number].sum(), table[:, number].sum()
        assert of.support == support
        assert of.recall == pytest.approx(hits / support if support else 0)
        assert of.precision == pytest.approx(hits / given_ if given_ else 0)
        assert of.f1 == pytest.approx(2 * hits / (support + given_) if support + given_ else 0)


def test_it_holds_bins_curve_and_its_area():
    labels, logits = answers(0, 500)
    found, curve = Classification.of(labels, logits, NAMES), risk_coverage(labels, probabilities(logits))
    assert found.aurc == area(curve)
    assert len(found.curve) == 100
    assert set(found.curve) <= set(curve)
    assert list(found.reliability) == reliability(labels, probabilities(logits))


def test_it_comes_back_from_json():
    found = Classification.of(*answers(1), NAMES)
    assert Classification.from_dict(json.loads(json.dumps(found.to_dict()))) == found
    with pytest.raises(KeyError):
        Classification.from_dict({})
