"""Cases timed in turns within one run: each round takes every case once, in an order of its own.

On a machine that others use as well, times of different minutes do not compare; times of one round do. So what is
reported is the ratio of two cases by round: its median, and its worst and best round.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

Case = Callable[[], float | None]
"""Does the work once. Returns None to be timed from outside, or the seconds that it took by its own clock."""


@dataclass(frozen=True)
class Spread:
    """A number that was measured once a round."""

    median: float
    low: float
    high: float
    rounds: int

    @classmethod
    def of(cls, values: list[float]) -> Spread:
        """Median and ends of the values of all rounds."""
        return cls(float(np.median(values)), min(values), max(values), len(values))

    def as_json(self) -> dict[str, float]:
        """Rounded to four figures."""
        numbers = {"median": self.median, "min": self.low, "max": self.high}
        return {**{name: float(f"{value:.4g}") for name, value in numbers.items()}, "rounds": self.rounds}


def take_turns(cases: Mapping[str, Case], rounds: int = 5, warm_up: int = 1) -> dict[str, list[float]]:
    """Seconds of each case in each round, (rounds,) a case; the order within a round is random, by a fixed seed."""
    random = np.random.default_rng(0)
    seconds: dict[str, list[float]] = {name: [] for name in cases}
    names = list(cases)
    for number in range(warm_up + rounds):
        for i in random.permutation(len(names)):
            taken = _seconds_of(cases[names[i]])
            if number >= warm_up:
                seconds[names[i]].append(taken)
    return seconds


def _seconds_of(case: Case) -> float:
    gc.collect()
    begun = time.perf_counter()
    own = case()
    return time.perf_counter() - begun if own is None else own


def ratio(seconds: Mapping[str, list[float]], of: str, to: str) -> Spread:
    """Time of case `of` over that of case `to`, by round: above one where `to` is the faster."""
    return Spread.of([a / b for a, b in zip(seconds[of], seconds[to], strict=True)])
