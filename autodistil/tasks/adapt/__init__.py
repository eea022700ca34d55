"""Ways to fine-tune a student on labelled rows: a file a way, and the dict of all."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from types import MappingProxyType

from torch import Tensor

from autodistil.errors import ConfigError, suggest
from autodistil.tasks.adapt.cross_entropy import CROSS_ENTROPY
from autodistil.tasks.adapt.method import Answers, Method
from autodistil.tasks.adapt.ps_kd import PS_KD
from autodistil.tasks.adapt.self_kd import SELF_KD
from autodistil.tasks.adapt.soft_targets import SOFT_TARGETS

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
    parts: list[tuple[float, Method]] = []
    for part in text.split("+"):
        before, _, behind = part.rpartition("*")
        name, weight = behind.strip(), before.strip() or "1"
        if name not in METHODS:
            raise ConfigError(
                f"objective {name!r}{suggest(name, METHODS)} is unknown; allowed: {AUTO}, {', '.join(METHODS)}, or a "
                "weighted sum such as soft-targets+0.5*ps-kd"
            )
        if not re.fullmatch(r"[0-9]*\.?[0-9]+(e-?[0-9]+)?", weight) or not 0 < float(weight) < math.inf:
            raise ConfigError(f"weight {weight!r} of objective {name!r} is no number above 0; give such as 2*{name}")
        if "teacher" in METHODS[name].needs and not taught:
            raise ConfigError(f"objective {name!r} needs a fine-tuned teacher; give --teacher, or another --objective")
        parts.append((float(weight), METHODS[name]))

    def loss(answers: Answers) -> Tensor:
        return sum(
            (weight * method.loss(answers) for weight, method in parts[1:]), parts[0][0] * parts[0][1].loss(answers)
        )

    return Method(loss, frozenset().union(*(method.needs for _, method in parts)))
