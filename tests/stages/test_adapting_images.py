"""Classifiers of images: fine-tuned students to keep and to score, as transformers opens them; wrong input."""

import json
import shutil
from dataclasses import replace

import numpy as np
import onnxruntime
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from image_helpers import PROCESSORS, save_random_vit, write_image_task
from PIL import Image
from run_helpers import one_line
from transformers import AutoImageProcessor, AutoModelForImageClassification, pipeline
from variants import slow_but

from autodistil.cli import main
from autodistil.data.batch import PixelInputs
from autodistil.errors import AutodistilError, ConfigError, ExportError, TaskError
from autodistil.evaluation.evaluate import evaluate
from autodistil.export.adapted_folder import read_adaptation
from autodistil.export.model_formats import export_model
from autodistil.models.hf_folder import EvaluatedModel
from autodistil.stages.adapting import adapt
from autodistil.tasks.adapt import METHODS
from autodistil.tasks.adapt.method import PAIRS, SCORES, TEACHER, TEXTS
from autodistil.tasks.catalogue import load_task
from autodistil.tasks.finetune import EvaluationSettings, Pupil
from autodistil.tasks.image_batching import ImageRows

SETTINGS = EvaluationSettings(learning_rates=(2e-3,), epochs=2, batch_size=8)
OF_IMAGES = sorted(name for name, method in METHODS.items() if not method.only & {TEXTS, PAIRS, SCORES})


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write_image_task(tmp_path_factory.mktemp("tasks"), train=20, test=8)


@pytest.fixture(scope="module")
def vit(tmp_path_factory):
    return str(save_random_vit(tmp_path_factory.mktemp("models") / "vit", num_hidden_layers=2))


@pytest.fixture(scope="module")
def adapted(data, vit, tmp_path_factory):
    """A student with a teacher that was fine-tuned first, and images that nobody labelled."""
    folder = tmp_path_factory.mktemp("adapted")
    more = write_image_task(folder / "more", train=3, test=1) / "colours" / "train"
    teacher = str(save_random_vit(folder / "teacher"))
    return adapt(vit, "colours", folder / "mine", data, teacher, SETTINGS, unlabelled=[more], formats=["onnx"])


def opened(file, kind):
    return Image.open(file).convert("L" if PROCESSORS[kind]()[1] == 1 else "RGB")


# ---- fine-tuning


@pytest.mark.parametrize("kind", slow_but(["vit"], ["vit", "vit-grey", "deit", "dinov2"]))
def test_a_head_answers_as_in_transformers(kind, data, tmp_path):
    folder = save_random_vit(tmp_path / "model", kind)
    files = load_task("colours", data).evaluated.text_a[:5]
    pupil = Pupil.of(EvaluatedModel.open(str(folder)), 3, SETTINGS)
    pupil.save(tmp_path / "saved")
    model = AutoModelForImageClassification.from_pretrained(tmp_path / "saved").eval()
    processor = AutoImageProcessor.from_pretrained(tmp_path / "saved")
    with torch.no_grad():
        expected = model(**processor([opened(file, kind) for file in files], return_tensors="pt")).logits
    answers, features = pupil.read(pupil.tokenized(files, None))
    np.testing.assert_allclose(answers, expected, atol=1e-5)
    by_head = features @ pupil.head.weight.detach().numpy().T + pupil.head.bias.detach().numpy()
    np.testing.assert_allclose(by_head, answers, atol=1e-5)


def test_fine_tuning_is_scored_as_that_of_texts(data, vit):
    settings = replace(SETTINGS, seeds=2, epochs=2)
    (result,) = evaluate(vit, ["colours"], data, "finetune", settings).results
    assert set(result.metrics) == {"accuracy", "balanced_accuracy", "ece"}
    assert result.metrics["accuracy"][0] > 0.5
    assert result.train_rows == 60
    assert "max_length" not in result.settings
    few, whole = evaluate(vit, ["colours"], data, "finetune", settings, labels=(0.1, 1.0)).results
    assert (few.train_rows, few.labels) == (6, 0.1)
    assert whole.metrics == result.metrics


@given(st.integers(1, 6), st.integers(1, 6), st.floats(0, 1), st.integers(0, 99))
def test_hidden_patches_are_whole_and_the_others_as_they_were(height, width, share, seed):
    torch.manual_seed(seed)
    rows = ImageRows(np.full((3, 2, 13, 13), 255, np.uint8), PixelInputs((1.0,), (1.0,)), (height, width))
    inputs = rows.batch(np.arange(3), torch.device("cpu"))
    hidden = rows.hidden(inputs, share)["pixel_values"]
    assert ((hidden == 0) | (hidden == inputs["pixel_values"])).all()
    assert torch.equal(hidden[:, 0], hidden[:, 1])
    down, right = 13 // height, 13 // width
    blocks = hidden[:, 0, : down * height, : right * width].reshape(3, down, height, right, width)
    assert torch.equal(blocks.amin((2, 4)), blocks.amax((2, 4)))
    if share in (0, 1):
        assert (blocks == 0).all() == (share == 1)


# ---- a model to keep


def test_an_image_classifier_comes_out_with_its_figures(adapted, data):
    found = adapted
    assert set(found.metrics) == {"student", "plain", "teacher"}
    assert found.metrics["student"]["accuracy"] > 0.6
    assert (found.rows, found.train_rows, found.unlabelled, found.objective) == (24, 40, 9, "soft-targets")
    assert found.costs["student"]["flops"] < found.costs["teacher"]["flops"]
    assert found.costs["student"]["tokens"] == 17
    model = AutoModelForImageClassification.from_pretrained(found.path)
    assert model.config.id2label == {0: "blue", 1: "green", 2: "red"}
    test = load_task("colours", data).evaluated
    classify = pipeline("image-classification", str(found.path))
    said = [classify(file)[0]["label"] for file in test.text_a]
    right = np.mean([model.config.label2id[one] == label for one, label in zip(said, test.labels, strict=True)])
    assert right == pytest.approx(found.metrics["student"]["accuracy"])
    (own,) = evaluate(str(found.path), ["colours"], data).results
    (by_file,) = evaluate(str(found.path), ["colours"], data, file="onnx/model.onnx").results
    assert own.method == by_file.method == "classify"
    assert own.metrics["accuracy"] == by_file.metrics["accuracy"] == (found.metrics["student"]["accuracy"],)
    card = (found.path / "README.md").read_text()
    assert 'pipeline("image-classification", "mine")' in card
    assert "pipeline_tag: image-classification" in card
    assert "9 that the teacher labelled" in card


def test_figures_of_earlier_releases_are_read(adapted, tmp_path):
    copy = shutil.copytree(adapted.path, tmp_path / "old")
    values = json.loads((copy / "adaptation.json").read_text())
    assert read_adaptation(copy).images
    del values["images"], values["channels"]
    (copy / "adaptation.json").write_text(json.dumps(values))
    assert not read_adaptation(copy).images


@pytest.mark.parametrize("objective", slow_but(["experts"], OF_IMAGES))
def test_each_method_that_needs_no_text_makes_a_classifier(objective, data, vit, tmp_path):
    teacher = vit if TEACHER in METHODS[objective].needs else None
    quick = replace(SETTINGS, epochs=1, learning_rates=(1e-3,))
    found = adapt(vit, "colours", tmp_path / "mine", data, teacher, quick, objective, plain=False, balanced=True)
    assert AutoModelForImageClassification.from_pretrained(found.path).num_labels == 3
    assert np.isfinite(list(found.metrics["student"].values())).all()


@pytest.mark.slow
def test_grey_images_and_a_threshold_are_on_the_card(data, tmp_path):
    grey = save_random_vit(tmp_path / "grey", "vit-grey")
    found = adapt(
        str(grey), "colours", tmp_path / "mine", data, settings=SETTINGS, abstain=0.5, formats=["openvino-int8"]
    )
    card = (found.path / "README.md").read_text()
    assert '.convert("L")' in card
    assert "pipeline(" not in card
    code = card.split("```python\n")[1].split("```")[0].replace('"mine"', repr(str(found.path)))
    said = {}
    exec(code.replace('"photo.png"', repr(load_task("colours", data).evaluated.text_a[0])), said)
    assert said["scores"].shape == (3,)
    assert "`abstain_below` of `config.json` is the probability" in card
    assert "Answers below" in card
    assert "Other images bring other shares." in card


# ---- wrong input


def test_what_needs_text_is_refused_with_what_works(data, vit, tmp_path):
    for objective in ("intermediate", "further-pretrain", "augmented-labels", "trans-encoder"):
        with pytest.raises(ConfigError, match="this is one of classes and images; allowed: cross-entropy, label-sm"):
            adapt(vit, "colours", tmp_path / "to", data, vit, SETTINGS, objective)


def test_images_and_texts_are_not_mixed(data, vit, tiny_bert, write_task, tmp_path):
    write_task("mine", train=[("a", "0"), ("b", "1")] * 30, dev=[("a", "0"), ("b", "1")])
    for model, task, teacher in ((tiny_bert, "colours", None), (vit, "mine", None), (vit, "colours", str(tiny_bert))):
        place = data if task == "colours" else write_task("mine", dev=[("a", "0"), ("b", "1")])
        with pytest.raises(TaskError, match="give one that fits"):
            adapt(str(model), task, tmp_path / "to", place, teacher, SETTINGS)


def test_a_damaged_image_is_found_before_a_training(vit, tmp_path):
    folder = write_image_task(tmp_path, train=15) / "colours"
    damaged = folder / "test" / "red" / "001.png"
    damaged.write_bytes(damaged.read_bytes()[:100])
    with pytest.raises(AutodistilError, match=r"001.png' cannot be decoded"):
        adapt(vit, str(folder), tmp_path / "to", settings=SETTINGS)
    assert not list(tmp_path.rglob("*.safetensors"))


# ---- a model as it is


@pytest.mark.parametrize("kind", slow_but(["vit"], ["vit", "vit-grey", "deit", "dinov2"]))
def test_a_model_of_images_is_exported_as_it_is(kind, data, tmp_path):
    source = save_random_vit(tmp_path / "source", kind)
    formats = ["onnx"] if kind == "vit" else ["onnx", "onnx-int8", "openvino", "openvino-int8"]
    images = None if kind == "vit" else data / "colours" / "train"
    found = export_model(str(source), tmp_path / "to", formats, images)
    assert [one.format for one in found] == formats
    whole, by_file = (
        evaluate(str(tmp_path / "to"), ["colours"], data, "knn", file=file).results[0]
        for file in (None, "onnx/model.onnx")
    )
    assert whole.metrics == by_file.metrics
    assert (tmp_path / "to" / "preprocessor_config.json").is_file()


@pytest.mark.slow
def test_a_classifier_of_images_is_exported_with_its_head(adapted, data, tmp_path):
    export_model(str(adapted.path), tmp_path / "to", ["onnx"])
    session = onnxruntime.InferenceSession(tmp_path / "to" / "onnx" / "model.onnx")
    (image,) = load_task("colours", data).evaluated.text_a[:1]
    pixels = AutoImageProcessor.from_pretrained(adapted.path)(Image.open(image), return_tensors="pt")
    (logits,) = session.run(["logits"], {"pixel_values": pixels["pixel_values"].numpy()})
    with torch.no_grad():
        expected = AutoModelForImageClassification.from_pretrained(adapted.path)(**pixels).logits
    np.testing.assert_allclose(logits, expected, atol=1e-4)


def test_images_are_asked_for_in_one_line(vit, data, tmp_path, capsys):
    with pytest.raises(ExportError, match=r"takes ranges of activations of images .* give --images a folder of some"):
        export_model(vit, tmp_path / "to", ["openvino-int8"])
    with pytest.raises(ExportError, match="images are for models that read them"):
        export_model("all-MiniLM-L6-v2", tmp_path / "to", ["onnx"], data)
    with pytest.raises(SystemExit):
        main(["export", "--run", str(tmp_path), "--images", str(data), "--to", str(tmp_path / "to")])
    assert "--images are of --model" in one_line(capsys)
    assert not (tmp_path / "to").exists()
