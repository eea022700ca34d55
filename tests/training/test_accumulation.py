"""A step in micro-batches has the losses and the gradient of the whole batch, whatever the objective."""

from dataclasses import replace

import pytest
import torch
from autodistil_helpers import DECODER_CONFIGS, RECIPE, inputs_of, objective_of, random_teacher, small_space
from variants import slow_but
from workers_helpers import gradients_of

from autodistil.data.batch import TARGETS, take_rows
from autodistil.models.superlm import SuperLM
from autodistil.objectives import TERMS, embedding_similarity
from autodistil.objectives.objective import (
    DEFAULT,
    DEFAULT_FOR_DECODERS,
    DEFAULT_FOR_EMBEDDINGS,
    DEFAULT_FOR_OUTPUTS,
    resolve_objective,
)
from autodistil.training.trainer import SuperLMTrainer

COMPARING = "relation-kl+embedding-similarity+10*last-hidden"
OF_OUTPUTS = "embedding-similarity+output-similarity+matryoshka+output-cosine"
DEFAULTS = (DEFAULT, DEFAULT_FOR_EMBEDDINGS, DEFAULT_FOR_DECODERS, DEFAULT_FOR_OUTPUTS)
OF_EACH_MEAN = tuple({term.mean_over: name for name, term in reversed(TERMS.items())}.values())
"""A term for each thing that a loss is a mean over."""
VARIANTS = dict.fromkeys([*DEFAULTS, COMPARING, OF_OUTPUTS, *TERMS])


def step(objective, count, padded=True, teacher=None, texts=8, **recipe):
    """Gradients and losses of one step in `count` micro-batches, cut to their longest texts."""
    teacher = teacher or random_teacher("llama" if "logits" in objective or "next-token" in objective else "bert")
    generator = torch.Generator().manual_seed(0)
    head = torch.randn(5, teacher.dims.hidden_size, generator=generator) if "output-" in objective else None
    superlm = SuperLM.from_teacher(teacher, small_space(teacher), output_head=head)
    trainer = SuperLMTrainer(
        superlm, replace(RECIPE, accumulate=count, **recipe), objective_of(objective, cuts=(40, 3))
    )
    batch = dict(inputs_of(teacher, texts))
    if padded:
        lengths = torch.tensor([12, 3, 7, 12, 5, 2, 9, 4])
        mask = (torch.arange(12) < lengths[:, None]).long()
        batch = {"input_ids": batch["input_ids"].where(mask.bool(), 0), "attention_mask": mask}
    if head is not None:
        batch[TARGETS] = torch.randn(texts, 5, generator=generator)
    size = texts // count
    return gradients_of(trainer, [take_rows(batch, slice(i, i + size)) for i in range(0, texts, size)], teacher)


def assert_alike(ours, theirs):
    (found, losses), (expected, expected_losses) = ours, theirs
    torch.testing.assert_close(losses, expected_losses, rtol=1e-4, atol=1e-6)
    assert found.keys() == expected.keys()
    assert found
    scale = max(float(value.abs().max()) for value in expected.values())
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, rtol=1e-4, atol=1e-5 * scale, msg=name)


def test_the_defaults_are_those_of_runs():
    asked = [("auto", 4, 64, [64], *more) for more in ((), ("mean",), (None, True), ("mean", False, True))]
    assert tuple(resolve_objective(*arguments).name for arguments in asked) == DEFAULTS


@pytest.mark.parametrize("padded", slow_but([True], [True, False]), ids=["padded", "whole"])
@pytest.mark.parametrize("objective", slow_but([*DEFAULTS, COMPARING, OF_OUTPUTS, *OF_EACH_MEAN], VARIANTS))
def test_every_objective_has_the_gradient_of_the_whole_batch(objective, padded):
    whole = step(objective, 1, padded)
    for count in (2, 8):
        assert_alike(step(objective, count, padded), whole)


@pytest.mark.parametrize("temperature", [0.005, 0.05, 1.0])
def test_similarities_at_any_temperature(temperature, monkeypatch):
    monkeypatch.setattr(embedding_similarity, "TEMPERATURE", temperature)
    assert_alike(step("embedding-similarity", 4), step("embedding-similarity", 1))


@pytest.mark.parametrize("objective", [COMPARING, OF_OUTPUTS, DEFAULT_FOR_OUTPUTS])
def test_in_place_students_are_compared_with_all_texts_of_the_largest(objective):
    assert_alike(*(step(objective, count, in_place=True) for count in (4, 1)))


def test_images():
    teacher = random_teacher("dinov2")
    assert_alike(*(step(COMPARING, count, padded=False, teacher=teacher) for count in (4, 1)))


@pytest.mark.parametrize("objective", [DEFAULT, DEFAULT_FOR_EMBEDDINGS, COMPARING])
def test_only_objectives_that_compare_texts_pay_another_forward(objective, monkeypatch):
    forwards = []
    original = SuperLM.forward
    monkeypatch.setattr(
        SuperLM, "forward", lambda *a, **k: forwards.append(torch.is_grad_enabled()) or original(*a, **k)
    )
    step(objective, 4)
    students = 4 * 4
    assert forwards == [False] * students * (objective == COMPARING) + [True] * students


def test_students_draw_nothing_at_random_in_a_forward():
    """A second forward must be the first one: dropout is off."""
    for kind in ("bert", "modernbert", "dinov2", *DECODER_CONFIGS):
        teacher = random_teacher(kind)
        superlm, batch = SuperLM.from_teacher(teacher, small_space(teacher)), inputs_of(teacher)
        states = torch.get_rng_state()
        superlm.forward(superlm.sub_space.largest, batch, output=True)
        assert states.equal(torch.get_rng_state()), kind
