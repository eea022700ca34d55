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

Racing on many workers: blocks are scored ahead of the race, which is run in order as by one worker.

Whether a student goes on depends on the students before it. So blocks of the next students are scored before their
turn comes, as far as the race of those decided by then lets them go on. At its turn the race is run over what was
scored, and what it still asks for is scored then. So scores are those of a race in turn, to the bit, whatever the
number of workers and the order in which they finish; the price are blocks that were scored and not needed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from scipy.stats import t as student_t

from autodistil.space.student import Candidate

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


Place = tuple[int, int]
"""(place of the student in its batch, number of the block): what comes first in this order is needed first."""


class Workers(Protocol):
    """Those who score blocks, side by side."""

    @property
    def ahead(self) -> int:
        """Students that are worth working on at a time."""

    def submit(self, place: Place, student: Candidate) -> None:
        """Have a block scored."""

    def finished(self) -> tuple[Place, Losses]:
        """Wait for any block that was submitted; its losses (texts,)."""

    def forget(self, student: int) -> None:
        """Drop what was submitted of the student at this place of the batch; it may still come, or never."""


@dataclass
class _Blocks:
    """Losses of one student by block."""

    candidate: Candidate
    known: Sequence[float]
    sent: set[int] = field(default_factory=set)
    done: dict[int, Losses] = field(default_factory=dict)

    def losses(self, first: int) -> Losses:
        """Of all texts so far; `first` is the first block that was not known."""
        parts = [self.done[number] for number in range(first, first + len(self.done))]
        return np.concatenate([np.asarray(self.known, dtype=float), *parts])


def score_ahead(race: Race, workers: Workers, students: Sequence[tuple[Candidate, Score | None]]) -> Iterator[Score]:
    """Scores of the students, in order, as `race` gives them when its blocks are scored one after the other."""
    blocks = [_Blocks(candidate, known.texts if known else ()) for candidate, known in students]
    ends = np.cumsum(race.blocks)

    def submit(place: int, number: int) -> None:
        if number not in blocks[place].sent:
            blocks[place].sent.add(number)
            workers.submit((place, number), blocks[place].candidate)

    def go_on(place: int) -> None:
        first = int(np.searchsorted(ends, len(blocks[place].known), side="right"))
        if race.goes_on(blocks[place].candidate.id, blocks[place].losses(first)):
            submit(place, first + len(blocks[place].done))

    def wait_for(place: int, number: int) -> Losses:
        submit(place, number)
        while number not in blocks[place].done:
            (at, block), losses = workers.finished()
            blocks[at].done[block] = losses
            if at >= place:
                go_on(at)
        return blocks[place].done[number]

    begun = 0
    for place, student in enumerate(blocks):
        for other in range(begun, min(len(blocks), place + workers.ahead)):
            go_on(other)
        begun = max(begun, min(len(blocks), place + workers.ahead))
        yield race.score(student.candidate.id, partial(wait_for, place), student.known)
        workers.forget(place)
