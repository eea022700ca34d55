"""Optuna's samplers: NSGA-II (Deb et al. 2002), TPE (Bergstra et al. 2011) and random search.

A student is a trial's parameters: a sub-space by name, and of each of its genes (`SubSpace.genes`) the rank of the
value. Samplers understand order, but not uneven steps; so they see ranks. They may draw what is infeasible, which is
told to the study with its violation and never scored, and a student again, whose score is known by then. A trial's
sampler is seeded by the seed and the trial's number.
"""

from __future__ import annotations

from abc import abstractmethod
from typing import ClassVar

from optuna.distributions import BaseDistribution, CategoricalDistribution, IntDistribution
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
    """Draw a sub-space and its genes; None where a rule keeps the combination out."""
    name = trial.suggest_categorical("sub_space", [sub.name for sub in space.sub_spaces])
    sub_space = space.sub_space(name)
    point = {
        gene: values[trial.suggest_int(f"{name}/{gene}", 0, len(values) - 1)]
        for gene, values in sub_space.genes.items()
    }
    config = sub_space.student(**point)
    return Candidate(name, config) if config else None


def parameters_of(space: SearchSpace, candidate: Candidate) -> dict[str, str | int]:
    """The trial parameters with which `suggest_student` draws a candidate."""
    name, sub = candidate.sub_space, space.sub_space(candidate.sub_space)
    ranks = {f"{name}/{gene}": sub.genes[gene].index(value) for gene, value in sub.point_of(candidate.config).items()}
    return {"sub_space": name, **ranks}


def distributions_of(space: SearchSpace, candidate: Candidate) -> dict[str, BaseDistribution]:
    """What these parameters are drawn from."""
    name, genes = candidate.sub_space, space.sub_space(candidate.sub_space).genes
    ranks = {f"{name}/{gene}": IntDistribution(0, len(values) - 1) for gene, values in genes.items()}
    return {"sub_space": CategoricalDistribution([sub.name for sub in space.sub_spaces]), **ranks}
