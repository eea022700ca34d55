"""The teacher's states on the task's text, before its labels: TinyBERT's first stage of fine-tuning.

Jiao et al. 2020 (arXiv 1909.10351, section 3.2) distil attention and hidden states of the fine-tuned teacher; here it
is by relations of queries, keys and values, and by which texts are alike, which fit any width without a projection.
Labels follow, with the teacher's soft targets.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from autodistil.errors import TeacherError
from autodistil.models.attention import ModelStates, run_tapped
from autodistil.models.pooling import read_pooling
from autodistil.models.teacher import Teacher, load_teacher
from autodistil.objectives.objective import resolve_objective
from autodistil.tasks.adapt.method import TEACHER, Method
from autodistil.tasks.adapt.preparation import Preparation
from autodistil.tasks.adapt.soft_targets import loss
from autodistil.tasks.batching import TokenizedRows
from autodistil.tasks.descent import descent

OBJECTIVE = "relation-kl+embedding-similarity"
EPOCHS = 3


def prepare(preparation: Preparation) -> None:
    """Leave the student that learnt the teacher's states.

    Raises:
        TeacherError: the two have different tokenizers, or one has no family table.
        DivergedError: a loss is not finite.
    """
    assert preparation.teacher is not None
    teacher = load_teacher(str(preparation.teacher.model.folder), str(preparation.device))
    student = load_teacher(str(preparation.model.folder), str(preparation.device))
    tokenizer = preparation.model.tokenizer()
    if tokenizer.get_vocab() != teacher.tokenizer.get_vocab():
        raise TeacherError(
            "objective 'relations' compares tokens, and teacher and student have different vocabularies; leave it out"
        )
    rows = TokenizedRows.of(tokenizer, preparation.text_a, preparation.text_b, preparation.length)
    widths = [teacher.kv_width(teacher.dims), student.kv_width(student.dims)]
    pooling = read_pooling(preparation.model.folder)
    objective = resolve_objective(OBJECTIVE, None, widths[0], widths[1:], pooling)
    student.model.requires_grad_(True)

    def states(model: Teacher, batch: np.ndarray) -> ModelStates:
        return run_tapped(model.model, rows.batch(batch, preparation.device), model.dims.num_layers - 1, True, False)

    def loss_of(batch: np.ndarray, progress: float) -> Tensor:
        mask = rows.batch(batch, preparation.device)["attention_mask"].bool()
        with torch.no_grad():
            theirs = states(teacher, batch)
        return objective(states(student, batch), theirs, mask)

    for _ in descent(
        student.model, rows.lengths, loss_of, preparation.batch_size, EPOCHS, preparation.rate, preparation.seed
    ):
        pass
    student.model.save_pretrained(preparation.home)
    tokenizer.save_pretrained(preparation.home)


RELATIONS = Method(loss, frozenset({TEACHER}), prepare=prepare)
