"""How far a classifier's confidence, its top probability, can be trusted, and when it had better not answer.

ece        expected calibration error: the gap between accuracy and mean confidence of 15 equal-width bins, weighted by
           their rows (Guo et al. 2017, arXiv 1706.04599)
risk       share of errors among the rows that are answered: those of a confidence of the threshold or more. Over the
           share that is answered, the coverage, it is the risk-coverage curve (Geifman & El-Yaniv 2017, arXiv
           1705.08500)
aurc       the area under that curve: the mean over rows of the risk at each row's own confidence (Geifman et al. 2019,
           arXiv 1805.08206). Rows of one confidence are answered together, so their order does not matter

All are fractions; of ece, risk and aurc 0 is perfect.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from scipy.special import softmax

BINS = 15
"""As Guo et al. have them."""
MISJUDGED = 0.05
"""Difference of mean confidence and accuracy below which nothing is said."""
TOLERATED = 0.1
"""Calibration error below which nothing is said where it is of both signs and so not seen in the means."""
_SAMPLES = 4_000
"""Drawn to see what chance brings."""


def probabilities(answers: np.ndarray) -> np.ndarray:
    """Softmax of logits, (rows, classes) of float64; of numbers that are not finite it still is a distribution."""
    found: np.ndarray = softmax(np.nan_to_num(answers.astype(np.float64), posinf=1e30, neginf=-1e30), axis=1)
    return found


# ---- calibration


@dataclass(frozen=True)
class Bin:
    """Rows of like confidence."""

    rows: int
    confidence: float
    """Their mean."""
    accuracy: float


def reliability(labels: np.ndarray, probabilities: np.ndarray, bins: int = BINS) -> list[Bin]:
    """The bins ((m - 1) / bins, m / bins] of the top probability that have rows, lowest first.

    Args:
        labels: classes, (rows,).
        probabilities: (rows, classes).
        bins: how many, of one width.
    """
    confidence, right = probabilities.max(1), probabilities.argmax(1) == labels
    numbers = np.digitize(confidence, np.linspace(0, 1, bins + 1)[1:-1], right=True)
    return [
        Bin(int(inside.sum()), float(confidence[inside].mean()), float(right[inside].mean()))
        for inside in (numbers == number for number in np.unique(numbers))
    ]


def calibration_error(labels: np.ndarray, probabilities: np.ndarray, bins: int = BINS) -> float:
    """The expected calibration error, in [0, 1]; arguments as of `reliability`."""
    return _error_of(reliability(labels, probabilities, bins))


def _error_of(bins: Sequence[Bin]) -> float:
    return sum(part.rows * abs(part.accuracy - part.confidence) for part in bins) / sum(part.rows for part in bins)


def error_by_chance(bins: Sequence[Bin]) -> float:
    """The calibration error that one of 40 samples of as many rows of these confidences exceeds if all are calibrated.

    Accuracies are drawn by the confidences, as Bröcker & Smith do (2007, doi 10.1175/WAF993.1); departure: a row is
    drawn by the mean confidence of its bin. Always the same draws.

    Args:
        bins: as of `reliability`.
    """
    rows, confidence = np.array([part.rows for part in bins]), np.array([part.confidence for part in bins])
    right = np.random.default_rng(0).binomial(rows, np.minimum(confidence, 1.0), size=(_SAMPLES, len(bins)))
    return float(np.quantile(np.abs(right - rows * confidence).sum(1) / rows.sum(), 1 - 1 / 40, method="higher"))


def doubt(labels: np.ndarray, probabilities: np.ndarray) -> str | None:
    """What to know of a classifier that is surer, or less sure, than it is right; None of one that is not.

    That is where mean confidence and accuracy differ by more than `MISJUDGED`, and than twice the standard error that
    the choice of the rows brings the accuracy; and where they do not, but the calibration error is above `TOLERATED`
    and what chance brings: some answers are too sure and others too unsure. Arguments as of `reliability`.
    """
    confidence, accuracy = float(probabilities.max(1).mean()), float((probabilities.argmax(1) == labels).mean())
    error = math.sqrt(accuracy * (1 - accuracy) / len(labels))
    if abs(confidence - accuracy) <= max(MISJUDGED, 2 * error):
        return _doubt_of_bins(reliability(labels, probabilities))
    unsure = confidence < accuracy
    return (
        f"too {'un' * unsure}sure: {100 * confidence:.0f} % on average, where {100 * accuracy:.0f} % of the answers "
        "are right, so do not read its probabilities as such; "
        f"{'more --epochs help' if unsure else 'fewer --epochs or more rows help, and --abstain leaves some out'}"
    )


def _doubt_of_bins(bins: Sequence[Bin]) -> str | None:
    """The same of a classifier that is as sure as right in the mean."""
    error, chance = _error_of(bins), error_by_chance(bins)
    if error <= max(TOLERATED, chance) + 1e-9:  # of few rows just as much may be drawn
        return None
    return (
        f"too sure of some answers and too unsure of others: by {100 * error:.0f} points on average, where chance "
        f"brings up to {100 * chance:.0f}, so do not read its probabilities as such; more --epochs or rows help"
    )


# ---- answering some rows only


class CurvePoint(NamedTuple):
    """What answering from a confidence on comes to."""

    threshold: float
    coverage: float
    """Share of rows that are answered, above 0."""
    risk: float
    """Share of errors among them."""


def risk_coverage(labels: np.ndarray, probabilities: np.ndarray) -> list[CurvePoint]:
    """The risk at each confidence that a row has, most confident first; arguments as of `reliability`."""
    confidence, wrong = probabilities.max(1), probabilities.argmax(1) != labels
    order = np.argsort(-confidence, kind="stable")
    sorted_, errors = confidence[order], np.cumsum(wrong[order])
    last = np.flatnonzero(np.append(np.diff(sorted_) != 0, True))  # of the rows of one confidence
    return [CurvePoint(float(sorted_[i]), (i + 1) / len(labels), errors[i] / (i + 1)) for i in last.tolist()]


def area(curve: list[CurvePoint]) -> float:
    """The area under a whole risk-coverage curve, in [0, 1]."""
    widths = np.diff([0.0, *(point.coverage for point in curve)])
    return float(sum(width * point.risk for width, point in zip(widths, curve, strict=True)))


def thinned(curve: list[CurvePoint], most: int = 100) -> list[CurvePoint]:
    """At most so many points of a curve, about evenly over the coverage, both ends among them."""
    coverages = np.array([point.coverage for point in curve])
    kept = np.searchsorted(coverages, np.linspace(coverages[0], coverages[-1], most))
    return [curve[i] for i in np.unique(kept)]


def lowest_threshold(curve: list[CurvePoint], risk: float) -> float | None:
    """The lowest confidence from which on at most a share `risk` of the answers is wrong.

    Returns:
        The confidence of a row; 0 where every row may be answered; None where no threshold holds the risk.
    """
    held = [point for point in curve if point.risk <= risk]
    if not held:
        return None
    return 0.0 if held[-1] is curve[-1] else held[-1].threshold


@dataclass(frozen=True)
class Answered:
    """What a threshold comes to on some rows."""

    coverage: float
    """Share of rows that are answered."""
    error: float | None
    """Share of errors among them; None where none is answered."""


def answered(labels: np.ndarray, probabilities: np.ndarray, threshold: float) -> Answered:
    """Answer the rows whose top probability is `threshold` or more; arguments as of `reliability`."""
    kept = probabilities.max(1) >= threshold
    wrong = probabilities.argmax(1)[kept] != labels[kept]
    return Answered(float(kept.mean()), float(wrong.mean()) if kept.any() else None)


@dataclass(frozen=True)
class Abstention:
    """From which confidence on a model answers, so that few enough answers are wrong."""

    risk: float
    """Share of errors among the answers that was asked for."""
    threshold: float | None
    """Chosen on rows that are not reported; None where none holds the risk there: all are answered."""
    chosen_rows: int
    chosen: Answered
    """On the rows that chose it."""
    reported: Answered
    """On the rows that are reported, which chose nothing."""

    @classmethod
    def of(
        cls, risk: float, chosen_by: tuple[np.ndarray, np.ndarray], reported: tuple[np.ndarray, np.ndarray]
    ) -> Abstention:
        """Choose a threshold on some rows and say what it comes to on others.

        Args:
            risk: share of errors among the answers that is allowed.
            chosen_by: labels (rows,) and probabilities (rows, classes) of the rows that choose.
            reported: the same of other rows.
        """
        threshold = lowest_threshold(risk_coverage(*chosen_by), risk)
        found = (answered(*rows, threshold or 0.0) for rows in (chosen_by, reported))
        return cls(risk, threshold, len(chosen_by[0]), *found)
