"""Racing on many workers gives the scores of a race in turn, whoever finishes first."""

from dataclasses import dataclass, field
from random import Random

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from autodistil.student_search.racing import RACES, Race, Score, score_ahead

BLOCKS = (4, 4, 4, 2)


@dataclass(frozen=True)
class Named:
    """All that a race and its workers see of a student."""

    id: str


@dataclass
class ShuffledWorkers:
    """Finish what was submitted in any order."""

    losses: dict
    random: Random
    ahead: int
    submitted: dict = field(default_factory=dict)
    scored: list = field(default_factory=list)

    def submit(self, place, student):
        assert place not in self.submitted
        self.submitted[place] = student

    def finished(self):
        place = self.random.choice(sorted(self.submitted))
        student = self.submitted.pop(place)
        self.scored.append((student.id, place[1]))
        return place, block_of(self.losses[student.id], place[1])

    def forget(self, student):
        self.submitted = {place: value for place, value in self.submitted.items() if place[0] != student}


def block_of(losses, number):
    start = sum(BLOCKS[:number])
    return losses[start : start + BLOCKS[number]]


@given(st.integers(0, 10_000), st.integers(1, 9), st.sampled_from(sorted(RACES)))
def test_scores_are_those_of_a_race_in_turn(seed, ahead, kept):
    random = np.random.default_rng(seed)
    names = [f"s{i}" for i in range(8)]
    shared = random.normal(size=sum(BLOCKS))
    losses = {name: shared + random.normal() + 0.1 * random.normal(size=sum(BLOCKS)) for name in names}
    order = [names[i] for i in random.permutation(8)]
    known = {name: Score(0.0, tuple(losses[name][: sum(BLOCKS[: random.integers(0, 5)])])) for name in names[:4]}

    race = Race(BLOCKS, kept, risk=0.5)
    expected = [
        race.score(lambda number, name=name: block_of(losses[name], number), known[name].texts)
        if name in known
        else race.score(lambda number, name=name: block_of(losses[name], number))
        for name in order
    ]
    workers = ShuffledWorkers(losses, Random(seed), ahead)
    parallel = Race(BLOCKS, kept, risk=0.5)
    found = []
    for batch in (order[:5], order[5:]):  # the race goes on over batches
        found += score_ahead(parallel, workers, [(Named(name), known.get(name)) for name in batch])
        assert not workers.submitted
    assert found == expected
    assert len(workers.scored) == len(set(workers.scored))
