"""Scoring students on held-out text: each on all of it, or racing, on more of it only until the best is surely better.

By default nobody races: every loss is a mean over all held-out text. A race for the pick is one of Hoeffding's (Maron &
Moore 1994) in the form of F-race (Birattari et al. 2002): paired differences on the same text. Students arrive one by
one, the expensive ones first, as those are mostly the better ones, and are scored block by block. After a block, a
student's losses are compared, block by block, with those of its rival: of the students scored on all text, the one of
the lowest loss. It is stopped where the mean difference d over its n blocks so far is surely above zero:

    d > t(1 - risk / (N - 2); n - 1) * s / sqrt(n) * sqrt(1 - n / N)

with s the standard deviation of the blocks' mean differences, N blocks in all and t Student's quantile. The last factor
is there because the n blocks are drawn without replacement from those N whose mean is asked for. Who is the rival does
not depend on the student's own losses, so the best student is lost only if one of N - 2 looks errs (after 2 to N - 1
blocks): by Bonferroni's inequality with a probability of at most `risk`, as far as means of 16 texts are normal. Blocks
are the unit, as an objective that compares the texts of a block with each other (`embedding-similarity`) makes these
dependent: a test over single texts is surer than it may be. benchmarks/score.py counts how often the pick is lost.

A stopped student's loss is estimated as its rival's plus d. That is there for samplers to learn from and to be looked
at; students that were stopped have no loss, no rank and no place on the front (`CandidateTable.scored`).

Blocks are scored ahead where there are many workers. Whether a student goes on depends on the students before it, so
blocks of the next students are scored before their turn, as far as the race of those decided by then lets them go on.
At its turn the race is run over what was scored, and what it still asks for is scored then: scores are those of a race
in turn, to the bit, whatever the number of workers and the order in which they finish. The price are blocks that were
scored and not needed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from types import MappingProxyType
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from scipy.stats import t as student_t

from autodistil.space.student import Candidate

Losses = NDArray[np.float64]
"""Losses of single texts, in the order of the held-out text, (texts,)."""

RISK = 0.05
"""Largest probability that the best student is lost."""

RACES: Mapping[str, Callable[[Sequence[Losses]], Losses | None]] = MappingProxyType(
    {"none": lambda scored: None, "pick": lambda scored: min(scored, key=np.mean, default=None)}
)
"""What is raced for -> the rival of a student among the losses of those scored on all text; None: it is not stopped."""


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
        kept: one of `RACES`.
        risk: see `RISK`.
    """

    blocks: Sequence[int]
    kept: str = "none"
    risk: float = RISK
    _scored: list[Losses] = field(default_factory=list, init=False)
    """Losses of the students that were scored on all text."""

    @property
    def texts(self) -> int:
        """Held-out texts in all."""
        return sum(self.blocks)

    def score(self, block: Callable[[int], Any], known: Sequence[float] = ()) -> Score:
        """Score a student, on all blocks or until it is stopped.

        Args:
            block: number of a block -> the student's losses on its texts.
            known: losses of the first texts, whole blocks, where it was scored on them before.
        """
        losses = np.asarray(known, dtype=float)
        for number, end in enumerate(np.cumsum(self.blocks)):
            if end > len(losses) and self.goes_on(losses):
                losses = np.concatenate([losses, np.asarray(block(number), dtype=float)])
        estimate = self._stopped(losses)
        score = Score(float(losses.mean()) if estimate is None else estimate, tuple(losses.tolist()))
        self.add(score)
        return score

    def add(self, score: Score) -> None:
        """Let a student that was scored before stand against those to come."""
        if len(score.texts) == self.texts and np.isfinite(score.loss):
            self._scored.append(np.asarray(score.texts))

    def goes_on(self, losses: Losses) -> bool:
        """Whether a student with these losses (texts,) of its first texts is to be scored on another block."""
        return len(losses) < self.texts and self._stopped(losses) is None

    def _stopped(self, losses: Losses) -> float | None:
        """The estimated loss of a student that is surely worse than its rival; None where it may go on."""
        ends = np.cumsum(self.blocks)
        size, number = int(np.searchsorted(ends, len(losses), side="right")), len(ends)
        rival = RACES[self.kept](self._scored) if 2 <= size < number and np.isfinite(losses).all() else None
        if rival is None:
            return None
        differences = [part.mean() for part in np.split(losses - rival[: len(losses)], ends[: size - 1])]
        error = float(np.std(differences, ddof=1)) * np.sqrt((1 - size / number) / size)
        quantile = float(student_t.ppf(1 - self.risk / max(1, number - 2), size - 1))
        excess = float(np.mean(differences))
        return float(rival.mean()) + excess if excess > quantile * error else None


Place = tuple[int, int]
"""(place of the student in its batch, number of the block): what comes first in this order is needed first."""


class BlockScorers(Protocol):
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
        """Losses of all texts so far; `first` is the first block that was not known."""
        parts = [self.done[number] for number in range(first, first + len(self.done))]
        return np.concatenate([np.asarray(self.known, dtype=float), *parts])


def score_ahead(
    race: Race, workers: BlockScorers, students: Sequence[tuple[Candidate, Score | None]]
) -> Iterator[Score]:
    """Scores of the students, in order, as `race` gives them when its blocks are scored one after the other."""
    blocks = [_Blocks(candidate, known.texts if known else ()) for candidate, known in students]
    ends = np.cumsum(race.blocks)

    def submit(place: int, number: int) -> None:
        if number not in blocks[place].sent:
            blocks[place].sent.add(number)
            workers.submit((place, number), blocks[place].candidate)

    def go_on(place: int) -> None:
        first = int(np.searchsorted(ends, len(blocks[place].known), side="right"))
        if race.goes_on(blocks[place].losses(first)):
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
        yield race.score(partial(wait_for, place), student.known)
        workers.forget(place)
