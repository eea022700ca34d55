"""Held-out text in blocks and batches by length: the mean of the texts' losses is the loss of the block."""

from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch
from autodistil_helpers import objective_of, random_teacher, small_space

from autodistil.data.batch import PADDING, TokenInputs, real_tokens
from autodistil.evaluation.heldout import HeldOut
from autodistil.models.superlm import SuperLM
from autodistil.objectives import TERMS


def texts():
    ids = np.random.default_rng(0).integers(3, 97, (5, 12))
    for row, size in enumerate((12, 7, 3, 9, 12)):
        ids[row, size:] = PADDING
    return ids


@pytest.mark.parametrize("name", [*TERMS, "relation-kl+embedding-similarity+10*last-hidden"])
def test_a_block_in_batches_by_length_is_the_block_as_one_batch(name, monkeypatch):
    monkeypatch.setattr("autodistil.evaluation.heldout.BATCH_SIZE", 2)
    objective = objective_of(name)
    teacher = random_teacher("llama" if objective.needs_head else "bert")
    head = torch.randn(6, teacher.dims.hidden_size, generator=torch.Generator().manual_seed(0))
    targets = torch.randn(5, 6, generator=torch.Generator().manual_seed(1))
    superlm = SuperLM.from_teacher(teacher, small_space(teacher), output_head=head)
    student, batch = superlm.sub_space.students[3], TokenInputs(0).batch(texts())
    heldout = HeldOut.build(teacher, texts(), objective, outputs=(targets, head))
    assert [len(rows) for rows in heldout.rows] == [2, 2, 1]
    ours, theirs = (run(batch, output=True, hidden=True) for run in (partial(superlm.forward, student), teacher.states))
    theirs = replace(theirs, targets=targets)
    assert heldout.loss(superlm, student) == pytest.approx(
        float(objective(ours, theirs, real_tokens(batch)).detach()), rel=1e-4
    )


def test_losses_come_in_the_order_of_the_texts(monkeypatch):
    monkeypatch.setattr("autodistil.evaluation.heldout.BLOCK_SIZE", 3)
    monkeypatch.setattr("autodistil.evaluation.heldout.BATCH_SIZE", 1)
    teacher = random_teacher()
    superlm = SuperLM.from_teacher(teacher, small_space(teacher))
    student, objective = superlm.sub_space.smallest, objective_of("embedding-cosine")  # where each text counts alike
    heldout = HeldOut.build(teacher, texts(), objective)
    parts = [heldout.losses_of(heldout.forward_of(superlm, student), block) for block in range(2)]
    single = [HeldOut.build(teacher, texts()[[i]], objective).loss(superlm, student) for i in range(5)]
    np.testing.assert_allclose(np.concatenate(parts), single, rtol=1e-5)
    assert heldout.loss(superlm, student) == pytest.approx(np.mean(single), rel=1e-5)
