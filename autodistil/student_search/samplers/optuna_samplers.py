"""Optuna's samplers: NSGA-II (Deb et al. 2002), TPE (Bergstra et al. 2011) and random search.

A student is a trial's parameters: a sub-space by name, and of each of its axes the rank of the value. Samplers
understand order, but not uneven steps; so they see ranks. They may draw what is infeasible, which is told to the study
with its violation and never scored, and a student again, whose score is known by then. A trial's sampler is seeded by
the seed and the trial's number.
"""

from __future__ import annotations

from abc import abstractmethod
from itertools import product
from typing import ClassVar

from optuna.samplers import BaseSampler, NSGAIISampler, RandomSampler, TPESampler
from optuna.trial import Trial

from autodistil.space.space import SearchSpace
from autodistil.space.student import Candidate
from autodistil.student_search.samplers.sampler import Sampler, View

POPULATION = 40
"""Trials of a generation of NSGA-II."""


class OptunaSampler(Sampler):
    """Draws by one of Optuna's."""

    def propose(self, view: View) -> list[str]:
        """The student of one trial, a repeated one too; none if it is infeasible."""
        return view.draw(self.make((self.seed * 1_000_003 + view.number) % 2**32))  # NumPy takes 32 bits

    @abstractmethod
    def make(self, seed: int) -> BaseSampler:
        """Optuna's sampler."""


class Random(OptunaSampler):
    """Uniform over sub-spaces, then over the values of each axis."""

    batch: ClassVar[int] = POPULATION

    def make(self, seed: int) -> BaseSampler:
        """The sampler, which has no state."""
        return RandomSampler(seed=seed)


class Tpe(OptunaSampler):
    """Tree-structured Parzen estimators. Students in flight are taken for bad ones, so batches are small."""

    batch: ClassVar[int] = 10

    def make(self, seed: int) -> BaseSampler:
        """The sampler with Optuna's defaults."""
        return TPESampler(seed=seed)


class Nsga2(OptunaSampler):
    """The genetic algorithm. It looks back to the last generation only, so a batch is one."""

    batch: ClassVar[int] = POPULATION

    def make(self, seed: int) -> BaseSampler:
        """The sampler with a population of a batch."""
        return NSGAIISampler(seed=seed, population_size=POPULATION)


def suggest_student(trial: Trial, space: SearchSpace) -> Candidate | None:
    """Draw a sub-space and its axes; None where the shape rule keeps the combination out."""
    name = trial.suggest_categorical("sub_space", [sub.name for sub in space.sub_spaces])
    sub_space = space.sub_space(name)
    point = {
        axis: values[trial.suggest_int(f"{name}/{axis}", 0, len(values) - 1)] for axis, values in sub_space.axes.items()
    }
    config = sub_space.student(**point)
    return Candidate(name, config) if config else None


def grid_parameters(space: SearchSpace) -> dict[str, dict[str, str | int]]:
    """Student id -> the trial parameters with which `suggest_student` draws it."""
    parameters: dict[str, dict[str, str | int]] = {}
    for sub in space.sub_spaces:
        for ranks in product(*(range(len(values)) for values in sub.axes.values())):
            named = dict(zip(sub.axes, ranks, strict=True))
            config = sub.student(**{axis: sub.axes[axis][rank] for axis, rank in named.items()})
            if config is not None:
                chosen = {f"{sub.name}/{axis}": rank for axis, rank in named.items()}
                parameters.setdefault(Candidate(sub.name, config).id, {"sub_space": sub.name, **chosen})
    return parameters
