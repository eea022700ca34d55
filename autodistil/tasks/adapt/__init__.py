"""Ways to fine-tune a student on labelled rows: a file a way, and the dict of all."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from torch import Tensor

from autodistil.errors import ConfigError
from autodistil.tasks.adapt.cross_entropy import CROSS_ENTROPY
from autodistil.tasks.adapt.method import TEACHER, Answers, Method
from autodistil.tasks.adapt.ps_kd import PS_KD
from autodistil.tasks.adapt.self_kd import SELF_KD
from autodistil.tasks.adapt.soft_targets import SOFT_TARGETS
from autodistil.utils import read_weighted_sum

METHODS: Mapping[str, Method] = MappingProxyType(
    {
        "cross-entropy": CROSS_ENTROPY,
        "soft-targets": SOFT_TARGETS,
        "ps-kd": PS_KD,
        "self-kd": SELF_KD,
    }
)
AUTO = "auto"
"""Soft targets where there is a teacher, else cross-entropy."""


def read_method(text: str, taught: bool) -> Method:
    """Read a weighted sum such as `soft-targets + 0.5*ps-kd`, or `auto`.

    Args:
        text: as typed.
        taught: whether there is a teacher.

    Raises:
        ConfigError: an unknown method, a weight that is not above zero, or one that needs a teacher where none is.
    """
    if text == AUTO:
        text = "soft-targets" if taught else "cross-entropy"
    terms = read_weighted_sum(text, METHODS, AUTO, "soft-targets+0.5*ps-kd")
    parts = [(weight, METHODS[name]) for weight, name in terms]
    for _, name in terms:
        if TEACHER in METHODS[name].needs and not taught:
            raise ConfigError(f"objective {name!r} needs a fine-tuned teacher; give --teacher, or another --objective")

    def loss(answers: Answers) -> Tensor:
        return sum(
            (weight * method.loss(answers) for weight, method in parts[1:]), parts[0][0] * parts[0][1].loss(answers)
        )

    return Method(loss, frozenset().union(*(method.needs for _, method in parts)))
