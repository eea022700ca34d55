"""What a method may work with before labels are trained on."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from autodistil.models.hf_folder import EvaluatedModel
from autodistil.tasks.descent import Descent


@dataclass(frozen=True)
class Taught:
    """What a fine-tuned teacher says of the training rows and the unlabelled ones."""

    answers: Tensor
    """Logits or scores, (rows, outputs), in the task's order of classes."""
    features: Tensor
    """What its head, the last linear map, reads, (rows, width)."""
    head: Tensor
    """That map, (outputs, width)."""
    model: EvaluatedModel
    seen: np.ndarray
    """Which rows have an answer, (rows,): words that were cut off have none, and are not trained on."""

    @property
    def said(self) -> Sequence[np.ndarray]:
        """All that it says."""
        return self.answers.numpy(), self.features.numpy()


@dataclass(frozen=True)
class Fitted:
    """What a student says once it was trained."""

    answers: Tensor
    """Logits or scores of the rows, (rows, outputs)."""
    features: Tensor
    """What its head reads, (rows, width)."""
    chosen: Tensor
    """The same of the rows that choose, (rows that choose, width)."""


@dataclass(frozen=True)
class Preparation:
    """A student before it is trained on labels."""

    model: EvaluatedModel
    text_a: Sequence[str]
    """First texts of the training rows, then of the unlabelled ones."""
    text_b: Sequence[str] | None
    labels: Tensor
    """Classes or standardised scores, (rows,)."""
    known: Tensor
    """Which rows have a label, (rows,)."""
    classes: int
    """1 where scores are predicted."""
    chosen: Tensor
    """Labels of the rows that choose."""
    teacher: Taught | None
    length: int
    """Tokens of a text or pair."""
    batch_size: int
    """Rows a step."""
    rate: float
    """A learning rate, the middle one of those that will be tried."""
    seed: int
    device: torch.device
    home: Path
    """An empty folder; see `leave`."""
    fitted: Callable[[EvaluatedModel, Tensor | None], Fitted]
    """Trains a model on rows that are told something by the method's own loss, and forgets it."""

    def train(
        self, network: nn.Module, lengths: np.ndarray, loss: Callable[[np.ndarray, float], Tensor], epochs: int
    ) -> None:
        """Train a network in place; arguments as of `Descent`.

        Raises:
            DivergedError: the loss or its gradient is not finite.
        """
        Descent(network, lengths, loss, self.batch_size, epochs, self.rate, self.seed).run()

    def leave(self, network: PreTrainedModel) -> None:
        """Let a network take the student's place."""
        network.save_pretrained(self.home)
        self.model.tokenizer().save_pretrained(self.home)
