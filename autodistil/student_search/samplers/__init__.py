"""Samplers: which students a search scores next, a file a way and the dict of all."""

from collections.abc import Mapping
from types import MappingProxyType

from autodistil.student_search.samplers.evolution import Evolution
from autodistil.student_search.samplers.exhaustive import Exhaustive
from autodistil.student_search.samplers.optuna_samplers import Nsga2, Random, Tpe
from autodistil.student_search.samplers.sampler import Sampler
from autodistil.student_search.samplers.surrogate import GaussianProcess

SAMPLERS: Mapping[str, type[Sampler]] = MappingProxyType(
    {
        "exhaustive": Exhaustive,
        "gp": GaussianProcess,
        "evolution": Evolution,
        "nsga2": Nsga2,
        "tpe": Tpe,
        "random": Random,
    }
)
