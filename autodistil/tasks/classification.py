"""What a classifier does with labelled rows, beyond one number: by class, which class for which, and how surely."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from sklearn.metrics import confusion_matrix, precision_recall_fscore_support

from autodistil.tasks.calibration import Bin, CurvePoint, area, probabilities, reliability, risk_coverage, thinned


@dataclass(frozen=True)
class ClassScores:
    """One class against all others; 0 where a share has no rows."""

    precision: float
    recall: float
    f1: float
    support: int
    """Rows that have it."""


@dataclass(frozen=True)
class Classification:
    """Answers beside labels."""

    per_class: Mapping[str, ClassScores]
    confusion: tuple[tuple[int, ...], ...]
    """Rows by label and answer, both in the order of the classes."""
    aurc: float
    """Area under the whole risk-coverage curve."""
    reliability: tuple[Bin, ...]
    curve: tuple[CurvePoint, ...]
    """The risk-coverage curve, 100 points at most."""

    @classmethod
    def of(cls, labels: np.ndarray, answers: np.ndarray, classes: Sequence[str]) -> Classification:
        """Compare answers with labels.

        Args:
            labels: classes, (rows,).
            answers: logits, (rows, classes).
            classes: their names.
        """
        numbers, predictions, of_classes = np.arange(len(classes)), answers.argmax(1), probabilities(answers)
        found = precision_recall_fscore_support(labels, predictions, labels=numbers, zero_division=0)
        scores = zip(*(values.tolist() for values in found), strict=True)
        curve = risk_coverage(labels, of_classes)
        return cls(
            per_class={name: ClassScores(*of) for name, of in zip(classes, scores, strict=True)},
            confusion=tuple(map(tuple, confusion_matrix(labels, predictions, labels=numbers).tolist())),
            aurc=area(curve),
            reliability=tuple(reliability(labels, of_classes)),
            curve=tuple(thinned(curve)),
        )

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Classification:
        """The one of `to_dict`, through JSON or not.

        Raises:
            KeyError, TypeError, AttributeError: it is none.
        """
        return cls(
            per_class={name: ClassScores(**of) for name, of in values["per_class"].items()},
            confusion=tuple(tuple(map(int, row)) for row in values["confusion"]),
            aurc=float(values["aurc"]),
            reliability=tuple(Bin(**of) for of in values["reliability"]),
            curve=tuple(CurvePoint(*map(float, point)) for point in values["curve"]),
        )
