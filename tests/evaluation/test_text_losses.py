"""The mean of the texts' losses is the loss of the batch, whatever the objective and the padding."""

import numpy as np
import pytest
import torch
from autodistil_helpers import objective_of, random_teacher, small_space

from autodistil.evaluation import text_losses as module
from autodistil.evaluation.heldout import HeldOut
from autodistil.evaluation.text_losses import Target, text_losses
from autodistil.inputs import PADDING, as_batch, real_tokens
from autodistil.objectives import OBJECTIVES
from autodistil.superlm import SuperLM


def texts(padded):
    ids = np.random.default_rng(0).integers(3, 97, (5, 12))
    if padded:
        for row, size in enumerate((12, 7, 3, 9, 12)):
            ids[row, size:] = PADDING
    return ids


@pytest.mark.parametrize("padded", [True, False])
@pytest.mark.parametrize("kept", [True, False])
@pytest.mark.parametrize("name", [*OBJECTIVES, "relation-kl+embedding-similarity+10*last-hidden"])
@torch.no_grad()
def test_texts_average_to_the_batch(name, padded, kept, monkeypatch):
    if not kept:
        monkeypatch.setattr(module, "MAX_RELATION_ENTRIES", 0)
    teacher, objective = random_teacher(), objective_of(name)
    superlm = SuperLM.from_teacher(teacher, small_space(teacher))
    batch = as_batch(texts(padded), 0)
    theirs = teacher.states(batch, None, True, True)
    target = Target(theirs, real_tokens(batch), objective.options)
    for student in (superlm.sub_space.smallest, superlm.sub_space.students[3]):
        ours = superlm.forward(student, batch, output=True, hidden=True)
        single = text_losses(objective, ours, target)
        assert single.shape == (5,)
        torch.testing.assert_close(single.mean(), objective(ours, theirs, real_tokens(batch)), rtol=1e-4, atol=1e-6)


def test_heldout_loss_is_the_mean_of_all_texts(monkeypatch):
    monkeypatch.setattr("autodistil.evaluation.heldout.BATCH_SIZE", 2)
    teacher = random_teacher()
    superlm = SuperLM.from_teacher(teacher, small_space(teacher))
    student = superlm.sub_space.smallest
    heldout = HeldOut.build(teacher, texts(True), objective_of("relation-kl"))
    parts = [heldout.text_losses(superlm, student, number) for number in range(3)]
    assert [len(part) for part in parts] == [2, 2, 1]
    assert heldout.loss(superlm, student) == pytest.approx(np.concatenate(parts).mean(), rel=1e-12)
