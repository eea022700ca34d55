"""Runs on images that learn the features of another vision encoder: Hybrid Distillation."""

import numpy as np
import pytest
import torch
from image_helpers import save_random_vit, write_images
from run_helpers import train_in_two

from autodistil import pipeline
from autodistil.data.batch import TARGETS, VISIBLE
from autodistil.errors import ConfigError, TaskError
from autodistil.evaluation.embedding import folder_encoder
from autodistil.models.families.family import OUTPUT_HEAD
from autodistil.models.hf_folder import EvaluatedModel
from autodistil.run.output_images import in_channels
from autodistil.run.run import Run

pytestmark = pytest.mark.usefixtures("no_picture")

SPACE = """
sub_spaces:
  tiny: {num_layers: [2], hidden_size: [16, 32], head_size: 16, mlp_ratio: 2}
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("images")
    (folder / "space.yaml").write_text(SPACE)
    write_images(folder / "pictures", 80)
    save_random_vit(folder / "teacher")
    save_random_vit(folder / "other", "deit", patch_size=8, hidden_size=32, num_hidden_layers=2)
    save_random_vit(folder / "grey", "vit-grey", hidden_size=32)
    return folder


@pytest.fixture
def options(folder):
    inputs = {name: str(folder / path) for name, path in (("teacher", "teacher"), ("space", "space.yaml"))}
    sizes = {"batch_size": 2, "heldout_sequences": 4, "train_steps": 4, "checkpoint_seconds": 0.0}
    return {**inputs, **sizes, "corpus": [str(folder / "pictures")], "output_teacher": str(folder / "other")}


@pytest.mark.slow
def test_students_learn_the_features_of_another_encoder(folder, options, tmp_path):
    run = Run.open(tmp_path / "run", {**options, "train_steps": 30, "batch_size": 4, "learning_rate": 3e-3})
    assert run.inputs.objective.name == "relation-kl+20*output-cosine"
    pipeline.train(run)
    pipeline.search(run, ["1GFLOPs"])
    trained, untrained = run.superlms.trained("tiny"), run.superlms.untrained(run.inputs.space.candidates[-1])
    heldout = run.scorer.heldout_for(trained.sub_space.largest)
    scores = [heldout.mean_of(heldout.forward_of(one, trained.sub_space.largest)) for one in (trained, untrained)]
    assert scores[0] < scores[1]
    student = pipeline.export(run, "best", tmp_path / "student")[1].path
    names = [str(path) for path in sorted((folder / "pictures" / "part0").iterdir())[:3]]
    width = EvaluatedModel.open(str(student)).config.hidden_size
    assert folder_encoder(EvaluatedModel.open(str(student)))(names).shape == (3, width)
    assert "which is not exported" in (student / "README.md").read_text()


def test_its_features_are_those_of_its_folder(folder, options, tmp_path):
    """Of pixels that the run's teacher reads, which have the size of its own here."""
    inputs = Run.open(tmp_path / "run", {**options, "output_teacher": str(folder / "teacher")}).inputs
    numbers = np.array([3, 0, 3])
    pixels = inputs.text.train.take(numbers)
    found = inputs.output_targets(numbers)
    expected = inputs.teacher.states(inputs.teacher.inputs.batch(pixels), output=True).output[:, 0]
    torch.testing.assert_close(found, torch.nn.functional.normalize(expected, dim=-1), atol=2e-3, rtol=0)


@pytest.mark.parametrize("more", [{}, {"visible_patches": 0.5, "masking": "disjoint"}], ids=["whole", "masked"])
def test_every_view_has_the_features_of_its_whole_image(more, options, tmp_path):
    text = Run.open(tmp_path / "run", {**options, **more}).inputs.text
    (batch,) = text.micro_batches(0)
    assert len(batch[TARGETS]) == len(batch["pixel_values"]) == 8
    assert (VISIBLE in batch) == bool(more)
    numbers = text.step_indices(0)
    shown = np.repeat(numbers[:4], 2) if more else numbers
    assert torch.equal(batch[TARGETS], text.targets_of(shown))


def test_a_resumed_training_ends_with_the_same_weights(options, tmp_path, monkeypatch):
    options = {**options, "visible_patches": 0.5}
    whole = Run.open(tmp_path / "whole", options)
    pipeline.train(whole)
    run = train_in_two(tmp_path / "run", options, monkeypatch)
    ours, theirs = (one.superlms.trained("tiny").state_dict() for one in (run, whole))
    assert OUTPUT_HEAD in ours
    for key, value in ours.items():
        torch.testing.assert_close(value, theirs[key], msg=key)


def test_grey_and_colour_teach_each_other(folder, options, tmp_path):
    inputs = Run.open(tmp_path / "run", {**options, "output_teacher": str(folder / "grey")}).inputs
    assert inputs.output_targets(np.array([0])).shape == (1, 32)
    image = np.arange(12, dtype=np.uint8).reshape(3, 2, 2)
    assert np.array_equal(in_channels(image, 3), image.transpose(1, 2, 0))
    assert np.array_equal(in_channels(image, 1)[..., 0], image[1])
    assert np.array_equal(in_channels(image[:1], 3), np.repeat(image[0][..., None], 3, -1))


def test_wrong_output_teachers_are_one_line(options, tmp_path, tiny_bert):
    def refused(**more):
        with pytest.raises((ConfigError, TaskError)) as caught:
            _ = Run.open(tmp_path / "run", {**options, **more}).inputs.output_teacher
        return str(caught.value)

    assert "is of text, the teacher reads images" in refused(output_teacher=str(tiny_bert))
    assert "the teacher reads images; give a model" in refused(output_teacher="vectors.npy")
    assert "is of encoders of text" in refused(output_role="query")
