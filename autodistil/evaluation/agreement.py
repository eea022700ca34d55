"""How near a student is to its teacher on held-out text, and how near the slice was that it started from.

rsa     representational similarity analysis (Kriegeskorte, Mur & Bandettini 2008): Spearman correlation, over all pairs
        of texts, of the cosine of their embeddings by the student with that by the teacher. 1: both order the pairs
        alike. It asks of both models the same question, so widths need not agree, as a cosine between the two would.
        Its standard error is the grouped jackknife's over texts (Shao & Wu 1989): each group is left out once.
loss    the held-out loss
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.stats import spearmanr

from autodistil.data.batch import Batch, real_tokens
from autodistil.evaluation.heldout import HeldOut
from autodistil.models.attention import ModelStates
from autodistil.objectives.term import outputs_of

TEXTS = 256
"""Held-out texts whose pairs are compared, at most: 32,640 pairs, in seconds."""
_GROUPS = 16
"""Of texts, that the jackknife leaves out in turn."""


class Rsa(NamedTuple):
    """Agreement of two models on the same texts."""

    value: float
    """In [-1, 1]."""
    error: float
    """Standard error: the texts are a sample."""


@dataclass(frozen=True)
class Agreement:
    """A student beside its teacher, and the untrained slice of the same shape beside it."""

    loss: float
    untrained_loss: float
    rsa: float | None = None
    """None where the teacher has no embeddings."""
    untrained_rsa: float | None = None
    texts: int = 0
    """Held-out texts of `rsa`."""
    rsa_error: float | None = None
    """Standard error of `rsa`."""
    cut_layers: int = 0
    """Layers of the teacher that the student's FLOPs pay for, whole."""
    cut_rsa: float | None = None
    """RSA of the teacher cut to them, untrained: what takes no search; None where they pay for none."""

    @property
    def words(self) -> str:
        """Such as `RSA 0.953 +- 0.004 (untrained slice 0.912), loss 4.3677 (untrained slice 6.4600)`."""
        near = [] if self.rsa is None else [f"RSA {self.rsa_words} ({', '.join(self.references)})"]
        return ", ".join([*near, f"loss {self.loss:.4f} (untrained slice {self.untrained_loss:.4f})"])

    @property
    def rsa_words(self) -> str:
        """RSA with its standard error, where that is known."""
        return f"{self.rsa:.4f}" + ("" if self.rsa_error is None else f" ± {self.rsa_error:.4f}")

    @property
    def references(self) -> list[str]:
        """RSA of what takes no training, in words."""
        cut = f"teacher cut to {self.cut_layers} layer{'s' * (self.cut_layers > 1)}"
        return [
            f"untrained slice {self.untrained_rsa:.4f}",
            *([] if self.cut_rsa is None else [f"{cut} {self.cut_rsa:.4f}"]),
        ]

    @property
    def warning(self) -> str | None:
        """What to say where training left the student worse than what it started from; None where it did not."""
        lost = []
        if self.rsa is not None and self.untrained_rsa is not None and round(self.rsa - self.untrained_rsa, 4) < 0:
            lost.append(f"RSA {self.rsa:.4f} instead of {self.untrained_rsa:.4f}")
        if round(self.loss - self.untrained_loss, 4) > 0:
            lost.append(f"loss {self.loss:.4f} instead of {self.untrained_loss:.4f}")
        return (
            None
            if not lost
            else (
                f"It is worse than the untrained slice of the teacher that it started from: {', '.join(lost)}. "
                "More steps, a lower learning rate or more text may mend that."
            )
        )


def rsa(ours: NDArray[np.floating], theirs: NDArray[np.floating]) -> float:
    """Spearman correlation of the cosines of all pairs of embeddings (texts, dim), three texts at least.

    Args:
        ours: by one model.
        theirs: by another, of any width.

    Returns:
        In [-1, 1]; 0 where one of them tells no pair from another.
    """
    cosines = [_cosines(np.asarray(embeddings, dtype=np.float64)) for embeddings in (ours, theirs)]
    return 0.0 if any(np.ptp(part) == 0 for part in cosines) else float(spearmanr(*cosines).statistic)


def rsa_between(ours: NDArray[np.floating], theirs: NDArray[np.floating]) -> Rsa:
    """RSA of embeddings (texts, dim) with its standard error; that is NaN of fewer than six texts."""
    groups = min(_GROUPS, len(ours) // 2)
    group = np.arange(len(ours)) % max(1, groups)
    without = [rsa(ours[group != left_out], theirs[group != left_out]) for left_out in range(groups) if groups > 2]
    return Rsa(rsa(ours, theirs), float(np.sqrt((groups - 1) * np.var(without))) if without else math.nan)


def _cosines(embeddings: NDArray[np.float64]) -> NDArray[np.float64]:
    """Of all pairs, (pairs,)."""
    unit = embeddings / np.maximum(np.linalg.norm(embeddings, axis=1, keepdims=True), 1e-12)
    return (unit @ unit.T)[np.triu_indices(len(unit), 1)]


@torch.no_grad()
def rsa_of(heldout: HeldOut, forward: Callable[[Batch], ModelStates]) -> Rsa:
    """RSA of a model with the teacher, or with the output teacher, in whose space the model's embeddings then are.

    Args:
        heldout: texts with the teacher's outputs.
        forward: of a student, as `HeldOut.forward_of` gives it.
    """
    states = (
        [reading.of_tokens(forward(reading.batch)) for reading in heldout.readings]
        if heldout.readings
        else [forward(batch) for batch in heldout.batches]
    )
    return rsa_between(_embeddings(heldout, states), teacher_embeddings(heldout))


def teacher_embeddings(heldout: HeldOut) -> NDArray[np.float32]:
    """Of the texts in the order of the batches, (texts, dim), by the output teacher where there is one."""
    return _embeddings(heldout, heldout.teacher_states)


def _embeddings(heldout: HeldOut, states: Sequence[ModelStates]) -> NDArray[np.float32]:
    options = heldout.objective.options
    parts = [outputs_of(one, real_tokens(batch), options) for one, batch in zip(states, heldout.batches, strict=True)]
    return torch.cat(parts).float().cpu().numpy()
