"""The teacher's hidden states on the task's text, before its labels: TinyBERT's first stage of fine-tuning.

Jiao et al. 2020 (arXiv 1909.10351, section 3.2) distil attention and hidden states of the fine-tuned teacher first.
Departure: not the states themselves, which need a projection, but their relations, which fit any width: cosines of the
tokens of a text with one another, and of the texts of a batch (similarity-preserving, Tung & Mori 2019, arXiv
1907.09682). Labels follow, with the teacher's soft targets.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import normalize

from autodistil.errors import TeacherError
from autodistil.models.pooling import mean_pooling
from autodistil.tasks.adapt.method import TEACHER, TEXTS, Method
from autodistil.tasks.adapt.preparation import Preparation
from autodistil.tasks.adapt.soft_targets import loss
from autodistil.tasks.batching import TokenizedRows

EPOCHS = 3


def prepare(preparation: Preparation) -> None:
    """Leave the student that learnt the teacher's relations.

    Raises:
        TeacherError: the two have different vocabularies.
        DivergedError: a loss is not finite.
    """
    assert preparation.teacher is not None
    tokenizer, model = preparation.model.tokenizer(), preparation.teacher.model
    if tokenizer.get_vocab() != model.tokenizer().get_vocab():
        raise TeacherError(
            "objective 'intermediate' compares tokens, and teacher and student have different vocabularies; give "
            "another --objective"
        )
    rows = TokenizedRows.of(tokenizer, preparation.text_a, preparation.text_b, preparation.length)
    student, teacher = (one.encoder(preparation.device) for one in (preparation.model, model))

    def loss_of(batch: np.ndarray, progress: float) -> Tensor:
        inputs = rows.batch(batch, preparation.device)
        with torch.no_grad():
            theirs = teacher(**inputs).last_hidden_state
        return relation_error(student(**inputs).last_hidden_state, theirs, inputs["attention_mask"])

    preparation.train(student, rows.lengths, loss_of, EPOCHS)
    preparation.leave(student)


def relation_error(student: Tensor, teacher: Tensor, mask: Tensor) -> Tensor:
    """Mean squared error of cosines, of the real tokens of each text plus of the texts' means, a scalar.

    Args:
        student: last hidden states, (texts, tokens, width).
        teacher: the same, of any width.
        mask: 1 at real tokens, (texts, tokens).
    """
    real = (mask[:, :, None] * mask[:, None, :]).bool()
    of_tokens = (_cosines(student) - _cosines(teacher))[real].square().mean()
    ours, theirs = (_cosines(mean_pooling(states, mask)) for states in (student, teacher))
    return of_tokens + (ours - theirs).square().mean()


def _cosines(states: Tensor) -> Tensor:
    """(..., rows, width) -> (..., rows, rows)."""
    scaled = normalize(states, dim=-1)
    return scaled @ scaled.transpose(-1, -2)


INTERMEDIATE = Method(loss, frozenset({TEACHER}), only=frozenset({TEXTS}), prepare=prepare)
