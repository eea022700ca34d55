"""Racing: a student is scored on more text only until a cheaper one is surely better.

Hoeffding races (Maron & Moore 1994) in the form of F-race (Birattari et al. 2002): paired differences on the same text.
Students arrive one by one, cheapest first where all are enumerated, and each is scored block by block. After a block
its losses are compared, text by text, with those of every student that costs no more and was scored on all of the
text. It is stopped where the mean difference d over its n texts so far is surely above zero:

    d > t(1 - alpha; n - 1) * s / sqrt(n) * sqrt(1 - n / N),      alpha = risk / (students * (blocks - 1))

with s the standard deviation of the differences, N texts in all and t Student's quantile. The last factor is there
because the n texts are drawn without replacement from those N whose mean is asked for. Any one student of the true
front is lost only if one of fewer than `students` comparisons at one of `blocks - 1` looks errs: by Bonferroni's
inequality with a probability of at most `risk`, as far as means of n differences are normal. They nearly are from some
16 texts on, and benchmarks/score.py counts the errors.

A stopped student's loss is estimated as that of the student that stopped it plus d. Its estimate is therefore above the
loss of a student that costs no more: only students that were scored on all text are ever on a front, or picked.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import t as student_t

Losses = NDArray[np.float64]
"""Of single texts, in the order of the held-out text, (texts,)."""

RISK = 0.05
"""Largest probability that a given student of the front is lost."""


@dataclass(frozen=True)
class Score:
    """What a student scored on held-out text."""

    loss: float
    """Mean over all held-out texts; where the student was stopped before the end, an estimate of it."""
    texts: tuple[float, ...] = ()
    """Losses of those texts that it was scored on, the first ones."""


@dataclass
class Race:
    """Students that are scored no longer than they need to be.

    Args:
        blocks: texts of each block, in their order.
        costs: costs that count, one row a student, by id.
        enabled: whether students are ever stopped.
        risk: see `RISK`.
    """

    blocks: Sequence[int]
    costs: Mapping[str, Sequence[float]]
    enabled: bool = True
    risk: float = RISK
    _ids: list[str] = field(default_factory=list, init=False)
    _losses: list[Losses] = field(default_factory=list, init=False)

    @property
    def texts(self) -> int:
        """Held-out texts in all."""
        return sum(self.blocks)

    def score(self, student: str, block: Callable[[int], Any], known: Sequence[float] = ()) -> Score:
        """Score a student, on all blocks or until it is stopped.

        Args:
            student: its id.
            block: number of a block -> the student's losses on its texts.
            known: losses of the first texts, whole blocks, where it was scored on them before.
        """
        losses = np.asarray(known, dtype=float)
        ends = np.cumsum(self.blocks)
        estimate = self._stopped(student, losses)
        for number, end in enumerate(ends):
            if estimate is not None:
                break
            if end > len(losses):
                losses = np.concatenate([losses, np.asarray(block(number), dtype=float)])
                estimate = self._stopped(student, losses)
        score = Score(float(losses.mean()) if estimate is None else estimate, tuple(losses.tolist()))
        self.add(student, score)
        return score

    def add(self, student: str, score: Score) -> None:
        """Let a student that was scored before stand against those to come."""
        if len(score.texts) == self.texts and np.isfinite(score.loss):
            self._ids.append(student)
            self._losses.append(np.asarray(score.texts))

    def goes_on(self, student: str, losses: Losses) -> bool:
        """Whether a student with these losses (texts,) of its first texts is to be scored on another block."""
        return len(losses) < self.texts and self._stopped(student, losses) is None

    def _stopped(self, student: str, losses: Losses) -> float | None:
        """The estimated loss of a student that is surely worse than a cheaper one; None where it may go on."""
        if not self.enabled or not 2 <= len(losses) < self.texts or not np.isfinite(losses).all():
            return None
        rivals = self._cheaper(student)
        if not len(rivals):
            return None
        excess, surplus = self._compare(losses, rivals)
        surest = int(np.argmax(surplus))
        return float(rivals[surest].mean() + excess[surest]) if surplus[surest] > 0 else None

    def _cheaper(self, student: str) -> NDArray[np.float64]:
        """Losses (rivals, texts) of those that were scored on all text and cost no more in anything."""
        own = np.asarray(self.costs[student])
        scored = zip(self._ids, self._losses, strict=True)
        return np.array([losses for rival, losses in scored if (np.asarray(self.costs[rival]) <= own).all()])

    def _compare(self, losses: Losses, rivals: NDArray[np.float64]) -> tuple[Losses, Losses]:
        """Mean difference to each rival on the texts so far, and by how much it is above its bound."""
        size = len(losses)
        differences = losses - rivals[:, :size]
        excess = differences.mean(1)
        error = differences.std(1, ddof=1) * np.sqrt((1 - size / self.texts) / size)
        return excess, excess - self._quantile(size) * error

    def _quantile(self, size: int) -> float:
        alpha = self.risk / (len(self.costs) * max(1, len(self.blocks) - 1))
        return float(student_t.ppf(1 - alpha, size - 1))
