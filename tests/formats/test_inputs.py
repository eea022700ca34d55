"""What forwards are fed: of texts and of images, in every format that writes and runs them."""

from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
from autodistil_helpers import VISION_CONFIGS, random_teacher
from hypothesis import given
from hypothesis import strategies as st

from autodistil.formats import FORMATS
from autodistil.formats.format import Origin
from autodistil.formats.inputs import Pixels, Tokens, inputs_of, kind_from_dict
from autodistil.formats.parity import (
    agreement,
    answered,
    check_agreement,
    image_cases,
    load_cases,
    parity_cases,
    save_cases,
)
from autodistil.formats.writing import lowest_text_cosine, write_formats

KINDS = (Tokens(97, 38, 1), Pixels(3, 16, 12))


@given(st.sampled_from(KINDS), st.integers(1, 4), st.integers(1, 38))
def test_inputs_vary_along_their_axes_alone(kind, batch, length):
    one, other = kind.random(1, 5), kind.random(batch, length)
    assert list(one) == list(other) == list(kind.axes)
    for name, varying in kind.axes.items():
        sizes = {"batch": batch, "sequence": length}
        for axis, (before, after) in enumerate(zip(one[name].shape, other[name].shape, strict=True)):
            assert after == (sizes[varying[axis]] if axis in varying else before)


@pytest.mark.parametrize("kind", KINDS)
def test_a_kind_is_its_fields(kind):
    assert kind_from_dict(asdict(kind)) == kind


@pytest.mark.parametrize("name", ["bert", "vit", "vit-grey"])
def test_models_answer_what_they_are_fed(name, tmp_path):
    model = random_teacher(name).model
    kind, cases = inputs_of(model), parity_cases(model)
    assert isinstance(kind, Pixels if name in VISION_CONFIGS else Tokens)
    batches = {len(case.expected) for case in cases}
    assert 1 in batches
    assert max(batches) > 1
    for ours, theirs in zip(cases, load_cases(save_cases(cases, tmp_path / "cases.npz")), strict=True):
        np.testing.assert_equal(vars(ours), vars(theirs))
    usual = kind.usual()
    assert answered(model, usual).expected.shape[0] == 1
    assert kind.words(usual) == ("one image of 16 x 16" if name in VISION_CONFIGS else "1 x 38 tokens")


def test_an_image_is_judged_by_its_class_token_and_none_of_its_tokens_is_padding():
    cases = parity_cases(random_teacher("vit").model)
    answers = {case.inputs["pixel_values"].tobytes(): case.expected.copy() for case in cases}

    def run(inputs):
        return answers[inputs["pixel_values"].tobytes()]

    assert agreement(run, cases).max_difference == 0
    for answer in answers.values():
        answer[:, 1:] *= -1
    assert lowest_text_cosine(run, cases) == pytest.approx(1)
    assert agreement(run, cases).mean_cosine < 0
    assert agreement(run, cases).max_difference > 1


def test_some_images_are_compared_and_ranges_are_taken_of_the_others(tmp_path, monkeypatch):
    handed = []
    monkeypatch.setattr("autodistil.formats.writing._write", lambda name, entry, origin, folder: handed.append(origin))
    model = random_teacher("vit").model
    images = np.random.default_rng(0).standard_normal((20, 3, 16, 16)).astype(np.float32)
    write_formats(model, None, ["onnx"], tmp_path, images=images)
    (origin,) = handed
    assert [len(case.expected) for case in origin.cases] == [1, 7]
    assert len(origin.calibration) == 12
    rows = [*origin.calibration, *(case.inputs for case in origin.cases)]
    np.testing.assert_array_equal(np.concatenate([row["pixel_values"] for row in rows]), images)
    assert [len(case.expected) for case in image_cases(model, images[:1])] == [1]


def test_pytorch_runs_the_folder_of_an_image_model(tmp_path):
    model, entry = random_teacher("vit").model, FORMATS["torch"]
    cases = parity_cases(model)
    entry.write(Origin(model, cases, tmp_path), tmp_path / "model")
    check_agreement(agreement(entry.load(tmp_path / "model", 1, "cpu").run, cases), "torch")


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("name", ["onnx", "onnx-int8", "onnx-bits", "openvino", "openvino-int8"])
@pytest.mark.parametrize("kind", VISION_CONFIGS)
def test_every_format_of_an_image_model_computes_the_same_at_every_batch(kind, name, tmp_path):
    model, entry = random_teacher(kind).model, FORMATS[name]
    for library in entry.libraries:
        pytest.importorskip(library)
    (made,) = write_formats(model, None, [name], tmp_path)
    assert made.agreement.mean_cosine > 0.99
    run = entry.load(tmp_path / Path(made.file), 1, "cpu").run
    more = [answered(model, inputs_of(model).random(batch, 1)) for batch in (1, 5, 9)]
    check_agreement(agreement(run, more), name, entry.min_cosine)
    if entry.min_cosine:
        assert "(lowest of an image's class token)" in made.line
        assert "(one image of 16 x 16, one thread" in made.line


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_the_file_of_an_image_model_names_pixels_and_keeps_its_convolution(tmp_path):
    import onnx

    model = random_teacher("vit").model
    write_formats(model, None, ["onnx", "onnx-int8"], tmp_path)
    for name in ("onnx", "onnx-int8"):
        graph = onnx.load(tmp_path / FORMATS[name].file).graph
        ((pixels, shape),) = ((one.name, one.type.tensor_type.shape.dim) for one in graph.input)
        assert pixels == "pixel_values"
        assert [one.dim_param or one.dim_value for one in shape] == ["batch", 3, 16, 16]
        assert [one.name for one in graph.output] == ["last_hidden_state"]
        assert sum(node.op_type == "Conv" for node in graph.node) == 1
