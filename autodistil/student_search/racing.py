"""Racing: a student is scored on more text only until a rival is surely better.

Hoeffding races (Maron & Moore 1994) in the form of F-race (Birattari et al. 2002): paired differences on the same text.
Students arrive one by one and are scored block by block. After a block a student's losses are compared, text by text,
with those of its rival: of the students scored on all of the text the one of the lowest loss, among

front     those that cost no more in anything; students are asked for cheapest first, and the front is kept
pick      all; students are asked for dearest first, as those are mostly the better ones, and only the best is kept

It is stopped where the mean difference d over its n texts so far is surely above zero:

    d > t(1 - risk / (blocks - 1); n - 1) * s / sqrt(n) * sqrt(1 - n / N)

with s the standard deviation of the differences, N texts in all and t Student's quantile. The last factor is there
because the n texts are drawn without replacement from those N whose mean is asked for. Who is the rival does not depend
on the student's own losses, so one student that should be kept is lost only if one of `blocks - 1` looks errs: by
Bonferroni's inequality with a probability of at most `risk`, as far as means of n differences are normal. They nearly
are from some 16 texts on, and benchmarks/score.py counts the errors.

A stopped student's loss is estimated as that of its rival plus d, so it is above the rival's: the pick was scored
on all text in any case, and the whole front where the front is raced for.
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
"""Largest probability that a given student is lost that should be kept."""
FRONT, PICK, NONE = RACES = ("front", "pick", "none")
"""What a race keeps; with `none` nobody is ever stopped."""


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
        kept: one of `RACES`.
        risk: see `RISK`.
    """

    blocks: Sequence[int]
    costs: Mapping[str, Sequence[float]]
    kept: str = FRONT
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
        rival = self._rival(student) if 2 <= len(losses) < self.texts and np.isfinite(losses).all() else None
        if rival is None:
            return None
        size = len(losses)
        differences = losses - rival[:size]
        error = float(differences.std(ddof=1)) * np.sqrt((1 - size / self.texts) / size)
        excess = float(differences.mean())
        return float(rival.mean()) + excess if excess > self._quantile(size) * error else None

    def _rival(self, student: str) -> Losses | None:
        """Losses on all text of the best of those that a student is up against; None where there is none."""
        if self.kept == NONE:
            return None
        own = np.asarray(self.costs[student])
        scored = zip(self._ids, self._losses, strict=True)
        rivals = [row for rival, row in scored if self.kept == PICK or (np.asarray(self.costs[rival]) <= own).all()]
        return min(rivals, key=lambda row: float(row.mean()), default=None)

    def _quantile(self, size: int) -> float:
        return float(student_t.ppf(1 - self.risk / max(1, len(self.blocks) - 1), size - 1))
