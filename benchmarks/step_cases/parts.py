"""The share of each part of our step, by wrapping what the step calls; the wrappers cost microseconds."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from functools import wraps
from typing import Any
from unittest.mock import patch

from autodistil.models.superlm import SuperLM
from autodistil.models.teacher import Teacher
from autodistil.objectives.objective import Objective
from autodistil.training.trainer import SuperLMTrainer, train_step
from step_cases.setting import Setting

_PARTS = {
    "teacher": (Teacher, "states"),
    "leaves": (SuperLM, "leaf_weights"),
    "forward": (SuperLM, "forward"),
    "loss and its gradient": (Objective, "__call__"),
    "summed gradients": (SuperLM, "accumulate"),
    "update": (SuperLMTrainer, "update"),
}


def shares(
    setting: Setting, trainers: list[SuperLMTrainer], clock: Callable[[], float], steps: int
) -> dict[str, float]:
    """Percent of a step's time; what is left is the students' backward."""
    seconds: dict[str, float] = defaultdict(float)
    originals = {name: getattr(owner, method) for name, (owner, method) in _PARTS.items()}
    patches = [
        patch.object(*_PARTS[name], _timed(original, name, seconds, clock)) for name, original in originals.items()
    ]
    for patched in patches:
        patched.start()
    begun = clock()
    for _ in range(steps):
        train_step(trainers, setting.teacher, iter([setting.inputs]), None)
    total = clock() - begun
    for patched in patches:
        patched.stop()
    seconds["backward"] = total - sum(seconds.values())
    return {name: round(100 * value / total, 1) for name, value in seconds.items()}


def _timed(function: Callable[..., Any], name: str, seconds: dict[str, float], clock: Callable[[], float]) -> Any:
    @wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        begun = clock()
        try:
            return function(*args, **kwargs)
        finally:
            seconds[name] += clock() - begun

    return call
