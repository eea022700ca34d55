"""Calibration, risk and abstention against their formulas and against counting row by row."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import log_softmax

from autodistil.tasks.calibration import (
    Abstention,
    Bin,
    answered,
    area,
    calibration_error,
    doubt,
    error_by_chance,
    lowest_threshold,
    probabilities,
    reliability,
    risk_coverage,
    thinned,
)


@st.composite
def rows(draw, most=60):
    """Labels and probabilities of rows; some confidences come several times."""
    count, classes = draw(st.integers(1, most)), draw(st.integers(2, 5))
    random = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    logits = np.round(random.normal(scale=2, size=(count, classes)), draw(st.integers(0, 3)))
    return random.integers(classes, size=count), probabilities(logits)


def confidence_and_errors(labels, of_classes):
    return of_classes.max(1), of_classes.argmax(1) != labels


def test_probabilities_are_the_softmax_and_a_distribution_whatever_comes():
    logits = np.random.default_rng(0).normal(size=(7, 3)).astype(np.float32)
    np.testing.assert_allclose(probabilities(logits), np.exp(log_softmax(logits, axis=1)), rtol=1e-6)
    broken = probabilities(np.array([[np.nan, 1, 2], [np.inf, 0, 0], [np.nan] * 3], dtype=np.float32))
    np.testing.assert_allclose(broken.sum(1), 1)


# ---- calibration


@given(rows(), st.integers(1, 20))
def test_the_error_is_the_formula_of_guo_et_al(found, bins):
    """sum over bins ((m - 1) / M, m / M] of rows / n |accuracy - confidence|, each row put into its bin by hand."""
    labels, of_classes = found
    confidence, wrong = confidence_and_errors(labels, of_classes)
    total = 0.0
    for m in range(1, bins + 1):
        low, high = np.linspace(0, 1, bins + 1)[[m - 1, m]]
        inside = (confidence > low) & (confidence <= high)
        if inside.any():
            total += inside.mean() * abs((1 - wrong[inside].mean()) - confidence[inside].mean())
    assert calibration_error(labels, of_classes, bins) == pytest.approx(total)
    assert sum(part.rows for part in reliability(labels, of_classes, bins)) == len(labels)


def test_a_model_that_is_right_as_often_as_it_says_has_no_error():
    labels = np.array([0, 0, 0, 1] * 25)  # three of four are class 0, and it says 0.75
    assert calibration_error(labels, np.tile([0.75, 0.25], (100, 1))) == pytest.approx(0)
    assert calibration_error(labels, np.tile([1.0, 0.0], (100, 1))) == pytest.approx(0.25)


def test_one_bin_compares_accuracy_with_mean_confidence():
    labels, of_classes = np.array([0, 1]), np.array([[0.9, 0.1], [0.6, 0.4]])
    assert calibration_error(labels, of_classes, bins=1) == pytest.approx(abs(0.5 - 0.75))


@pytest.mark.parametrize(
    ("sure", "right", "rows", "expected"),
    [
        (0.6, 0.9, 100, "too unsure: 60 % on average, where 90 % of the answers are right"),
        (0.99, 0.7, 100, "too sure: 99 % on average, where 70 %"),
        (0.93, 0.9, 100, None),  # less than is worth a word
        (0.7, 0.6, 10, None),  # what ten rows bring by chance: a standard error of 15 points
        (0.7, 0.6, 1000, "too sure"),
    ],
)
def test_confidence_is_doubted_where_it_is_off_by_more_than_chance(sure, right, rows, expected):
    labels = (np.arange(rows) >= right * rows).astype(int)
    said = doubt(labels, np.tile([sure, 1 - sure], (rows, 1)))
    assert said is None if expected is None else said.startswith(expected)


def drawn(random, confidence, right_of=lambda confidence: confidence):
    """Rows of two classes that are right with the probability that `right_of` makes of their confidence."""
    wrong = random.random(len(confidence)) >= right_of(confidence)
    return wrong.astype(int), np.column_stack([confidence, 1 - confidence])


@pytest.mark.parametrize("rows", [20, 60, 377, 3000])
@pytest.mark.parametrize("spread", [(8, 2), (2, 2), (30, 1)])
def test_chance_is_what_a_calibrated_model_seldom_exceeds(rows, spread):
    """About one error of 40 is above, of labels that are drawn by the confidence of each row."""
    random = np.random.default_rng(rows)
    confidence = 0.5 + 0.5 * random.beta(*spread, size=rows)
    samples = [drawn(random, confidence) for _ in range(400)]
    chance = error_by_chance(reliability(*samples[0])) + 1e-9
    errors = np.array([calibration_error(*sample) for sample in samples])
    assert np.mean(errors > chance) < 0.06
    assert np.quantile(errors, 0.9) < chance < 1.2 * np.quantile(errors, 0.975)


def test_chance_is_that_of_the_normal_law_where_rows_are_many():
    """Of one bin: 97.5 % of |N| are below 2.2414 standard deviations."""
    assert error_by_chance([Bin(10_000, 0.8, 0.0)]) == pytest.approx(2.2414 * (0.8 * 0.2 / 10_000) ** 0.5, rel=0.03)


def test_errors_of_both_signs_are_doubted_too():
    """Half of the rows are surer than right by 25 points, the others as much less sure; of eight it may be chance."""
    random = np.random.default_rng(0)
    confidence = np.repeat([0.6, 0.95], 1000)
    labels, of_classes = drawn(random, confidence, lambda sure: np.where(sure < 0.7, sure + 0.25, sure - 0.25))
    said = doubt(labels, of_classes)
    assert said.startswith("too sure of some answers and too unsure of others: by 2")
    assert "more --epochs or rows help" in said
    assert doubt(*drawn(random, confidence)) is None
    assert doubt(labels[996:1004], of_classes[996:1004]) is None


# ---- risk and coverage


@given(rows())
def test_the_curve_counts_rows_and_its_area_is_the_mean_risk_at_each_row(found):
    labels, of_classes = found
    confidence, wrong = confidence_and_errors(labels, of_classes)
    curve = risk_coverage(labels, of_classes)
    for point in curve:
        kept = confidence >= point.threshold
        assert (point.coverage, point.risk) == (pytest.approx(kept.mean()), pytest.approx(wrong[kept].mean()))
    assert curve[-1].coverage == 1
    assert area(curve) == pytest.approx(np.mean([wrong[confidence >= one].mean() for one in confidence]))


@given(rows(), st.integers(0, 2**32 - 1))
def test_the_order_of_rows_does_not_matter(found, seed):
    order = np.random.default_rng(seed).permutation(len(found[0]))
    again = tuple(part[order] for part in found)
    assert area(risk_coverage(*again)) == pytest.approx(area(risk_coverage(*found)))
    assert calibration_error(*again) == pytest.approx(calibration_error(*found))


def test_errors_at_the_unsure_end_make_the_smallest_area():
    """The best order puts k errors of n last: the area is the mean of (i - (n - k)) / i over those."""
    confidence = np.linspace(0.99, 0.6, 10)
    of_classes = np.column_stack([confidence, 1 - confidence])
    best = area(risk_coverage(np.array([0] * 8 + [1] * 2), of_classes))
    worst = area(risk_coverage(np.array([1] * 2 + [0] * 8), of_classes))
    assert best == pytest.approx((1 / 9 + 2 / 10) / 10)
    assert worst > best


@given(rows(most=400), st.integers(2, 30))
def test_a_thinned_curve_keeps_points_and_both_ends(found, most):
    curve = risk_coverage(*found)
    kept = thinned(curve, most)
    assert len(kept) <= most
    assert set(kept) <= set(curve)
    assert (kept[0], kept[-1]) == (curve[0], curve[-1])
    assert thinned(curve, 10_000) == curve


# ---- abstention


@given(rows(), st.floats(0, 0.99))
def test_the_threshold_holds_the_risk_and_is_the_lowest_that_does(found, risk):
    labels, of_classes = found
    confidence, wrong = confidence_and_errors(labels, of_classes)
    threshold = lowest_threshold(risk_coverage(labels, of_classes), risk)
    holds = [one for one in confidence if wrong[confidence >= one].mean() <= risk]
    if threshold is None:
        assert not holds
    elif threshold == 0:
        assert wrong.mean() <= risk
    else:
        assert threshold == min(holds)
        assert answered(labels, of_classes, threshold).error <= risk


def test_a_threshold_is_chosen_by_the_rows_that_choose_and_told_of_others():
    sure, unsure = [0.9, 0.1], [0.6, 0.4]
    chosen_by = np.array([0, 0, 0, 1]), np.array([sure, sure, sure, unsure])
    reported = np.array([0, 1, 0, 0]), np.array([sure, sure, unsure, unsure])
    found = Abstention.of(0.1, chosen_by, reported)
    assert found.threshold == 0.9
    assert (found.chosen_rows, found.chosen.coverage, found.chosen.error) == (4, 0.75, 0)
    assert (found.reported.coverage, found.reported.error) == (0.5, 0.5)


def test_where_no_threshold_holds_the_risk_all_rows_are_answered():
    wrong = np.array([1, 1]), np.array([[0.9, 0.1], [0.8, 0.2]])
    found = Abstention.of(0.1, wrong, wrong)
    assert (found.threshold, found.reported.coverage, found.reported.error) == (None, 1, 1)
    assert Abstention.of(0.1, (np.array([0, 0]), wrong[1]), wrong).threshold == 0


def test_no_answer_has_no_error():
    assert answered(np.array([0]), np.array([[0.6, 0.4]]), 0.7).error is None
