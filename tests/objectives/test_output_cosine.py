"""The cosine to an output teacher, its head among the shared parameters, and what reads a student that has one."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from autodistil_helpers import random_teacher, small_space, states_of

from autodistil.errors import ConfigError
from autodistil.models.families.family import OUTPUT_HEAD
from autodistil.models.superlm import SuperLM
from autodistil.objectives import TERMS
from autodistil.objectives.objective import resolve_objective
from autodistil.objectives.term import TermOptions

OPTIONS = TermOptions(1)


def both(seed=0, texts=3, width=8, dim=5):
    """A student's states with a head, and a teacher's with targets."""
    generator = torch.Generator().manual_seed(seed)
    parts = list(torch.randn(3, texts, 4, 6, width // 4, generator=generator))
    head, targets = torch.randn(dim, width, generator=generator), torch.randn(texts, dim, generator=generator)
    return replace(states_of(parts), output_head=head.requires_grad_()), replace(states_of(parts), targets=targets)


def test_it_is_one_minus_the_cosine_of_the_mapped_mean():
    student, teacher = both()
    mask = torch.tensor([[True] * 6, [True] * 4 + [False] * 2, [True] * 6])
    loss = TERMS["output-cosine"].loss(student, teacher, mask, OPTIONS)
    means = torch.stack([student.output[i, : int(mask[i].sum())].mean(0) for i in range(3)])
    mapped = means @ student.output_head.T
    expected = [1 - torch.cosine_similarity(mapped[i], teacher.targets[i], 0) for i in range(3)]
    torch.testing.assert_close(loss, torch.stack(expected).mean())
    loss.backward()
    assert student.output_head.grad.abs().sum() > 0
    texts = TERMS["output-cosine"].texts([(student, teacher, mask)], OPTIONS)
    torch.testing.assert_close(texts, torch.stack(expected))
    squared = torch.nn.functional.normalize(mapped, dim=-1) - torch.nn.functional.normalize(teacher.targets, dim=-1)
    torch.testing.assert_close(2 * loss, squared.square().sum(-1).mean()), "LEAF's squared error is twice this"


def test_a_text_of_a_batch_keeps_its_target():
    student, teacher = both()
    whole = TERMS["output-cosine"].texts([(student, teacher, None)], OPTIONS)
    for i in range(3):
        alone = TERMS["output-cosine"].loss(student.text(i, 6), teacher.text(i, 6), None, OPTIONS)
        torch.testing.assert_close(alone, whole[i])


def test_students_share_the_leading_columns_of_one_head():
    teacher = random_teacher()
    space = small_space(teacher)
    head = torch.randn(7, teacher.dims.hidden_size)
    superlm = SuperLM.from_teacher(teacher, space, output_head=head)
    ids = torch.randint(3, 90, (2, 9), generator=torch.Generator().manual_seed(0))
    for student in (space.largest, space.smallest):
        assert torch.equal(superlm.output_head(student), head[:, : student.hidden_size])
        states = superlm.forward(student, {"input_ids": ids}, output=True)
        assert states.output_head.shape == (7, student.hidden_size)
        assert OUTPUT_HEAD not in superlm.extract(student).state_dict()
    leaves = superlm.leaf_weights(space.smallest, None)
    leaves[OUTPUT_HEAD].grad = torch.ones_like(leaves[OUTPUT_HEAD])
    superlm.accumulate(space.smallest, leaves, None)
    width, gradient = space.smallest.hidden_size, superlm.parameters[OUTPUT_HEAD].grad
    assert (gradient[:, :width] == 1).all()
    assert not gradient[:, width:].any()
    assert OUTPUT_HEAD in superlm.decayed
    alone = superlm.alone(space.smallest)
    assert torch.equal(alone.output_head(space.smallest), head[:, :width])
    assert SuperLM.from_teacher(teacher, space).output_head(space.smallest) is None


@pytest.mark.parametrize(
    ("text", "there", "said"),
    [("relation-kl", True, "has no term of it"), ("output-cosine", False, "compares with one")],
)
def test_a_term_and_its_teacher_go_together(text, there, said):
    with pytest.raises(ConfigError, match=said):
        resolve_objective(text, None, 64, [32], output_teacher=there)
    assert resolve_objective("auto", None, 64, [32], output_teacher=True).name == "relation-kl+20*output-cosine"
    assert np.isfinite(resolve_objective("auto", None, 64, [32]).options.relation_heads)
