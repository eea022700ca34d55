"""What a sampler is: it says which students a search scores next, in view of those that are known.

A sampler is a class in a file beside this one, entered in the dict of `autodistil.student_search.samplers`. What it
proposes depends on the seed and the view alone, so that an interrupted search goes on as it would have.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Set
from dataclasses import dataclass
from typing import ClassVar

from optuna.samplers import BaseSampler

from autodistil.student_search.problem import SearchProblem


@dataclass(frozen=True)
class View:
    """A study as a sampler sees it."""

    losses: Mapping[str, float]
    """Losses of the students that were evaluated, by id, in the order of asking; infinite where training diverged."""
    claimed: Set[str]
    """Students that are being scored, by whomever."""
    number: int
    """Number of the trial to come."""
    draw: Callable[[BaseSampler], list[str]]
    """Asks the study for a trial that one of Optuna's samplers draws: the feasible student in it, or none."""


@dataclass(frozen=True)
class Sampler(ABC):
    """Which students a search scores next.

    Args:
        problem: students and costs; only feasible ones are proposed.
        wanted: students that the search evaluates in all.
        seed: decides every draw.
        expensive_first: from the most expensive student down, where the order is free.
    """

    problem: SearchProblem
    wanted: int
    seed: int
    expensive_first: bool = False

    batch: ClassVar[int]
    """Trials that a driver asks for before the first of them is scored."""
    listed: ClassVar[bool] = False
    """It knows the students alone that the space lists."""

    @abstractmethod
    def propose(self, view: View) -> list[str]:
        """Ids of students to score next, as many as one look at the view gives; none where a draw was infeasible."""
