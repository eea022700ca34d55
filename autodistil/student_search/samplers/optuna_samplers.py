"""Students as parameters of Optuna's trials: a sub-space by name, and of each of its axes the rank of the value.

Samplers understand order, but not uneven steps; so they see ranks.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from typing import TYPE_CHECKING, Any

from autodistil.space.space import SearchSpace
from autodistil.space.student import Candidate

if TYPE_CHECKING:
    from optuna.trial import Trial


def suggest_student(trial: Trial, space: SearchSpace) -> Candidate | None:
    """Draw a sub-space and its axes; None where the shape rule keeps the combination out."""
    name = trial.suggest_categorical("sub_space", [sub.name for sub in space.sub_spaces])
    sub_space = space.sub_space(name)
    point = {axis: _suggest(trial, f"{name}/{axis}", values) for axis, values in sub_space.axes.items()}
    config = sub_space.student(**point)
    return Candidate(name, config) if config else None


def _suggest(trial: Trial, name: str, values: Sequence[Any]) -> Any:
    """Draw one of the ordered `values`."""
    return values[trial.suggest_int(name, 0, len(values) - 1)]


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
