"""On a CUDA device training, scoring and resuming give what they give on a CPU; nothing here runs without one."""

from copy import deepcopy
from dataclasses import replace

import pytest
import torch
from autodistil_helpers import RECIPE, objective_of, random_teacher, small_space

from autodistil.evaluation.heldout import HeldOut
from autodistil.models.superlm import SuperLM
from autodistil.training.checkpoint import restore_checkpoint, save_checkpoint
from autodistil.training.trainer import SuperLMTrainer, train, train_step

pytestmark = pytest.mark.gpu
OBJECTIVE = "relation-kl+embedding-similarity+10*last-hidden"
KINDS = ("bert", "distilbert")


def teacher_on(device, kind="bert"):
    teacher = random_teacher(kind)
    return replace(teacher, model=deepcopy(teacher.model).to(device))


def trainer_on(device, kind="bert", precision="fp32"):
    teacher = teacher_on(device, kind)
    superlm = SuperLM.from_teacher(teacher, small_space(teacher))
    return SuperLMTrainer(superlm, replace(RECIPE, precision=precision), objective_of(OBJECTIVE)), teacher


def batches_on(device, step):
    generator = torch.Generator().manual_seed(step)
    ids = torch.randint(3, 97, (6, 10), generator=generator)
    mask = (torch.arange(10)[None] < torch.randint(4, 11, (6, 1), generator=generator)).long()
    return iter([{"input_ids": ids.to(device), "attention_mask": mask.to(device)}])


def gradients(device, kind, precision="fp32"):
    trainer, teacher = trainer_on(device, kind, precision)
    for batch in batches_on(device, 0):
        losses = trainer.add_gradients(batch, teacher.states(batch, output=True))
    return losses.cpu(), {name: p.grad.cpu() for name, p in trainer.superlm.parameters.items() if p.grad is not None}


@pytest.mark.parametrize("kind", KINDS)
def test_gradients_are_those_of_the_cpu(kind):
    (losses, ours), (expected_losses, expected) = (gradients(device, kind) for device in ("cuda", "cpu"))
    torch.testing.assert_close(losses, expected_losses, rtol=1e-4, atol=1e-5)
    assert ours.keys() == expected.keys()
    for name in ours:
        scale = expected[name].abs().max()
        assert (ours[name] - expected[name]).abs().max() <= 1e-3 * scale + 1e-7, name


@pytest.mark.parametrize("kind", KINDS)
def test_bf16_gradients_follow_fp32(kind):
    (losses, rounded), (expected, exact) = (gradients("cuda", kind, precision) for precision in ("bf16", "fp32"))
    torch.testing.assert_close(losses, expected, rtol=0.1, atol=0.01)
    ours, theirs = (torch.cat([values[name].flatten() for name in exact]) for values in (rounded, exact))
    assert torch.nn.functional.cosine_similarity(ours, theirs, dim=0) > 0.97


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_resumed_training_goes_on_as_it_would_have(tmp_path, precision):
    """Sums on a GPU have no fixed order, so equal up to rounding."""
    whole, teacher = trainer_on("cuda", precision=precision)
    train([whole], teacher, lambda step: batches_on("cuda", step), lambda rows: None)
    half, _ = trainer_on("cuda", precision=precision)
    train([half], teacher, lambda step: batches_on("cuda", step), lambda rows: None, None, lambda: half.steps_done == 3)
    save_checkpoint(half, tmp_path)
    resumed, _ = trainer_on("cuda", precision=precision)
    assert restore_checkpoint(resumed, tmp_path) == 3
    train([resumed], teacher, lambda step: batches_on("cuda", step), lambda rows: None)
    assert resumed.finished
    tolerance = 1e-5 if precision == "fp32" else 1e-3
    for name, value in whole.superlm.state_dict().items():
        torch.testing.assert_close(resumed.superlm.state_dict()[name], value, rtol=1e-3, atol=tolerance, msg=name)


def test_held_out_losses_are_those_of_the_cpu():
    texts = torch.randint(3, 97, (20, 12), generator=torch.Generator().manual_seed(0)).numpy()
    losses = []
    for device in ("cuda", "cpu"):
        teacher = teacher_on(device)
        superlm = SuperLM.from_teacher(teacher, small_space(teacher))
        heldout = HeldOut.build(teacher, texts, objective_of(OBJECTIVE))
        losses.append([heldout.loss(superlm, student) for student in superlm.sub_space.students])
    assert losses[0] == pytest.approx(losses[1], rel=1e-4, abs=1e-6)


def test_students_extracted_from_a_gpu_are_those_trained_there():
    trainer, teacher = trainer_on("cuda")
    train_step([trainer], teacher, batches_on("cuda", 0), None)
    student = trainer.superlm.sub_space.smallest
    (batch,) = batches_on("cuda", 1)
    with torch.no_grad():
        here = trainer.superlm.forward(student, batch, output=True).output.cpu()
        model = trainer.superlm.extract(student)
        there = model(**{name: value.cpu() for name, value in batch.items()}).last_hidden_state
    real = batch["attention_mask"].cpu().bool()
    torch.testing.assert_close(here[real], there[real], rtol=1e-4, atol=1e-4)
