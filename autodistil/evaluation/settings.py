"""Options of an evaluation. They are recorded with its results."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from autodistil.errors import ConfigError

DEFAULT_RATES = (5e-5, 1e-4, 3e-4)
"""Small students want larger learning rates than the 2e-5 to 5e-5 of BERT-base (Turc et al. 2019: up to 3e-4)."""
_MINIMUM = {"seeds": 1, "max_train": 1, "epochs": 1, "batch_size": 1, "max_length": 8}


@dataclass(frozen=True)
class EvaluationSettings:
    """What a method may be told; None leaves the choice to the method."""

    seeds: int | None = None
    """How many, from 0: 3 for fine-tuning, 1 for methods without chance."""
    max_train: int | None = None
    """Training rows at most: all for fine-tuning, 10,000 for a probe."""
    learning_rates: tuple[float, ...] = DEFAULT_RATES
    """Peak learning rates of fine-tuning; the best by the mean over seeds counts."""
    epochs: int | None = None
    """Of fine-tuning; 3 to 5, more for small sets."""
    batch_size: int = 32
    """Rows a step of fine-tuning."""
    max_length: int = 128
    """Tokens after which a text or pair is cut."""
    device: str = "cpu"
    """A torch device."""

    def __post_init__(self) -> None:
        for name, minimum in _MINIMUM.items():
            value = getattr(self, name)
            if value is not None and value < minimum:
                raise ConfigError(f"{name} = {value} is too small; allowed: {minimum} or more")
        for rate in self.learning_rates:
            if not (math.isfinite(rate) and 0 < rate < 1):
                raise ConfigError(f"learning rate {rate} is out of range; allowed: above 0 and below 1")
        if not self.learning_rates:
            raise ConfigError("no learning rate is given; give one or more, such as 1e-4")

    def of(self, *names: str) -> Mapping[str, Any]:
        """Some of the options, as plain values."""
        return {name: list(v) if isinstance(v := getattr(self, name), tuple) else v for name in names}
