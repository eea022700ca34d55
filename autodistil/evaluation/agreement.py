"""How near a student is to its teacher on held-out text, and how near the slice was that it started from.

rsa     representational similarity analysis (Kriegeskorte, Mur & Bandettini 2008): Spearman correlation, over all pairs
        of texts, of the cosine of their embeddings by the student with that by the teacher. 1: both order the pairs
        alike. It asks of both models the same question, so widths need not agree, as a cosine between the two would.
loss    the held-out loss
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.stats import spearmanr

from autodistil.data.batch import Batch, real_tokens
from autodistil.evaluation.heldout import HeldOut
from autodistil.models.attention import ModelStates
from autodistil.objectives.term import embeddings_of

TEXTS = 256
"""Held-out texts whose pairs are compared, at most: 32,640 pairs, in seconds."""


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

    @property
    def words(self) -> str:
        """Such as `RSA 0.953 (untrained slice 0.912), loss 4.3677 (untrained slice 6.4600)`."""
        near = [] if self.rsa is None else [f"RSA {self.rsa:.4f} (untrained slice {self.untrained_rsa:.4f})"]
        return ", ".join([*near, f"loss {self.loss:.4f} (untrained slice {self.untrained_loss:.4f})"])

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


def _cosines(embeddings: NDArray[np.float64]) -> NDArray[np.float64]:
    """Of all pairs, (pairs,)."""
    unit = embeddings / np.maximum(np.linalg.norm(embeddings, axis=1, keepdims=True), 1e-12)
    return (unit @ unit.T)[np.triu_indices(len(unit), 1)]


def rsa_of(heldout: HeldOut, forwards: Sequence[Callable[[Batch], ModelStates]]) -> list[float]:
    """RSA of models with the teacher.

    Args:
        heldout: texts with the teacher's outputs.
        forwards: of students, as `HeldOut.forward_of` gives them.
    """
    theirs = _embeddings(heldout, heldout.teacher_states)
    found = []
    for forward in forwards:
        with torch.no_grad():
            states = (
                [reading.of_tokens(forward(reading.batch)) for reading in heldout.readings]
                if heldout.readings
                else [forward(batch) for batch in heldout.batches]
            )
        found.append(rsa(_embeddings(heldout, states), theirs))
    return found


def _embeddings(heldout: HeldOut, states: Sequence[ModelStates]) -> NDArray[np.float32]:
    options = heldout.objective.options
    parts = [
        embeddings_of(one, real_tokens(batch), options) for one, batch in zip(states, heldout.batches, strict=True)
    ]
    return torch.cat(parts).float().cpu().numpy()
