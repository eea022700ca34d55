"""All ways of taking a step do the same work: the paper's recipe learns what ours learns, slices are plain modules."""

import time

import pytest
import torch
from step_cases.paper import PaperRecipe
from step_cases.parts import shares
from step_cases.setting import Setting
from step_cases.students import PlainModules, Slices

from autodistil.models.superlm import SuperLM
from autodistil.training.trainer import train_step


@pytest.fixture(scope="module")
def setting():
    return Setting(batch=2, length=8)


def tiny(setting):
    """The SuperLM of the smallest students: small enough for a test."""
    return [SuperLM.from_teacher(setting.teacher, setting.space.sub_spaces[0])]


def test_the_papers_recipe_learns_what_ours_learns(setting):
    """The second step's loss shows the first one's update: gradients and rates agree."""
    (trainer,), paper = setting.trainers(tiny(setting)), PaperRecipe(setting, tiny(setting))
    for _ in range(2):
        trainer.steps_done = 0
        (ours,) = train_step([trainer], setting.teacher, iter([setting.inputs]), None)
        assert paper.step(setting.students[:1]) == pytest.approx(ours.loss, rel=1e-3)


def test_slices_and_plain_modules_have_the_same_gradients(setting):
    (superlm,) = tiny(setting)
    slices, plain = (kind(setting, [superlm], output=True) for kind in (Slices, PlainModules))
    slices.run()
    plain.run()
    name = "encoder.layer.0.attention.self.query.bias"
    ours = superlm.parameters[name].grad.flatten()
    total = torch.zeros_like(ours)
    for _, model in plain.models:
        gradient = model.get_parameter(name).grad
        total[: len(gradient)] += gradient
    torch.testing.assert_close(ours, total, rtol=1e-4, atol=1e-7)


def test_parts_of_a_step_add_up(setting):
    parts = shares(setting, setting.trainers(tiny(setting)), time.perf_counter, steps=1)
    assert sum(parts.values()) == pytest.approx(100, abs=1)
    assert {"teacher", "backward", "update"} <= parts.keys()
