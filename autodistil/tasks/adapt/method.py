"""What a method of fine-tuning is: a loss of each row, from what the student answers, labels, and what teaches it.

A method is a file beside this one, entered in the dict of `autodistil.tasks.adapt`; nothing else names it. Rows without
a label are taught by their teacher alone. Where scores are predicted instead of classes, an answer is one number and
squared errors stand for cross-entropies. Where words have classes, a row is a word; where
spans of texts are looked for, the start or end of one.

A method may ask for further outputs of the head while it trains (`further`): what is exported is one linear map of the
classes all the same, made of the trained one by `head`. And it may do something before labels are trained on
(`prepare`): change the encoder, or find what each row is told.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, kl_div, log_softmax, softmax

if TYPE_CHECKING:
    from autodistil.tasks.adapt.preparation import Preparation

TEACHER, BEFORE, DROPPED, SWAPPED, MOVED, COUNTS = "teacher", "before", "dropped", "swapped", "moved", "counts"
"""What a method may need of `Answers`."""
CLASSES, SCORES, PAIRS, TEXTS = "classes", "scores", "pairs", "texts"
"""What a method may be for alone."""


@dataclass(frozen=True)
class Answers:
    """One batch."""

    logits: Tensor
    """The student's, (rows, classes), or (rows, 1) of scores."""
    labels: Tensor
    """Classes (rows,) of int64, or scores (rows,); anything where they are not known."""
    known: Tensor
    """Which rows have a label, (rows,)."""
    progress: float
    """Share of the training that is done, in [0, 1)."""
    teacher: Tensor | None = None
    """Logits or scores of a fine-tuned teacher, shaped like the student's."""
    before: Tensor | None = None
    """What the student itself answered an epoch ago; None in the first."""
    class_weights: Tensor | None = None
    """Of each class, (classes,), with a mean of 1 over the rows."""
    further: Tensor | None = None
    """Further outputs of the head, (rows, further)."""
    told: Tensor | None = None
    """What the method's preparation found for each row, (rows, anything)."""
    dropped: Answers | None = None
    """The same of the rows with a tenth of their tokens hidden."""
    swapped: Answers | None = None
    """The same of pairs in the other order."""
    moved: Tensor | None = None
    """Squared distance of the attention's weights from where they started, a scalar."""
    counts: Tensor | None = None
    """Labelled rows of each class, (classes,)."""

    @property
    def scores(self) -> bool:
        """Whether scores are predicted."""
        return self.logits.shape[1] == 1


@dataclass(frozen=True)
class Method:
    """A loss of rows, and what it looks at beside labels."""

    loss: Callable[[Answers], Tensor]
    """(rows,), differentiable."""
    needs: frozenset[str] = frozenset()
    only: frozenset[str] = frozenset()
    """What it is for alone; anything where that is empty."""
    spans: bool = False
    """Whether it teaches where answers start and end too, of which the classes are the tokens of a text."""
    further: Callable[[int], int] | None = None
    """Classes -> further outputs of the head."""
    head: Callable[[int], Tensor] | None = None
    """Classes -> how outputs make logits, (classes, classes + further); the first outputs, unless given."""
    prepare: Callable[[Preparation], Tensor | None] | None = None
    """Done once, before labels are trained on; gives what each row is told."""


def supervised(answers: Answers) -> Tensor:
    """Cross-entropy with the label, or squared error, of each row, (rows,); 0 where there is no label."""
    if answers.scores:
        loss = (answers.logits[:, 0] - answers.labels).square()
    else:
        labels = answers.labels.where(answers.known, 0).long()
        loss = cross_entropy(answers.logits, labels, weight=answers.class_weights, reduction="none")
    return loss.where(answers.known, torch.zeros_like(loss))


def divergence(logits: Tensor, targets: Tensor, temperature: float = 1.0) -> Tensor:
    """T^2 KL(targets || logits) at temperature T of each row, or the squared error of scores, (rows,).

    Hinton et al. 2015 (arXiv 1503.02531, section 2).
    """
    if logits.shape[1] == 1:
        return (logits - targets).square()[:, 0]
    return temperature**2 * divergence_from(logits / temperature, softmax(targets / temperature, dim=-1))


def divergence_from(logits: Tensor, probabilities: Tensor) -> Tensor:
    """KL(probabilities || softmax of logits) of each row, (rows,)."""
    return kl_div(log_softmax(logits, dim=-1), probabilities, reduction="none").sum(-1)
