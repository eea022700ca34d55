"""Racing on many workers: blocks are scored ahead of the race, which is run in order as by one worker.

Whether a student goes on depends on the students before it. So blocks of the next students are scored before their
turn comes, as far as the race of those decided by then lets them go on. At its turn the race is run over what was
scored, and what it still asks for is scored then. So scores are those of a race in turn, to the bit, whatever the
number of workers and the order in which they finish; the price are blocks that were scored and not needed.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Protocol

import numpy as np

from autodistil.spaces import Candidate
from autodistil.student_search.racing import Losses, Race, Score

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
