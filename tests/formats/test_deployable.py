"""Further formats of a student lie where runtimes look for them and compute what PyTorch computes."""

import json
import re
import shutil
import stat
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from transformers import AutoModel, AutoTokenizer, BertForSequenceClassification, BertForTokenClassification

from autodistil.errors import ExportError, IntegrityError, ProfileError
from autodistil.evaluation.embedding import folder_encoder
from autodistil.export.sentence_pipeline import write_sentence_pipeline
from autodistil.formats import FORMATS
from autodistil.formats.onnx import OnnxRuntime
from autodistil.formats.parity import agreement, parity_cases
from autodistil.formats.writing import CALIBRATION_TEXTS, check_formats, lowest_text_cosine, write_formats
from autodistil.models.hf_folder import EvaluatedModel
from autodistil.models.pooling import folder_embedding
from tests.profiling import conftest

ONNX, QUANTISED, OPENVINO, OPENVINO_INT8 = (
    FORMATS[name].file for name in ("onnx", "onnx-int8", "openvino", "openvino-int8")
)


def test_unknown_formats_are_refused_with_the_allowed_ones():
    with pytest.raises(
        ExportError,
        match=r"format 'onx' \(did you mean 'onnx'\?\) is unknown; allowed: hf, sentence-transformers, onnx",
    ):
        check_formats(["hf", "onx"])
    assert check_formats(["onnx", "hf", "onnx"]) == ("onnx", "hf")
    with pytest.raises(ExportError, match=r"format 'gguf' is not for encoders; allowed: hf, sentence-transformers, "):
        check_formats(["gguf"])
    with pytest.raises(ExportError, match=r"format 'openvino' is not for decoders; allowed: hf, onnx, onnx-int8, gguf"):
        check_formats(["openvino"], decoder=True)


def test_the_plain_folder_needs_nothing_more(tmp_path):
    assert write_formats(conftest.tiny_bert(), None, ["hf"], tmp_path) == []
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_all_formats_agree_with_pytorch(tmp_path):
    model = conftest.tiny_bert()
    names = ["onnx", "onnx-int8", "openvino", "openvino-int8"]
    exact, rounded, converted, calibrated = made = write_formats(model, None, names, tmp_path)
    assert [one.file for one in made] == [ONNX, QUANTISED, OPENVINO, OPENVINO_INT8]
    assert agreement(OnnxRuntime(tmp_path / ONNX).run, parity_cases(model)).max_difference < 1e-4
    assert converted.agreement.max_difference < 1e-4
    for one in (rounded, calibrated):
        assert one.agreement.mean_cosine > 0.9
        assert one.size_share == pytest.approx(one.size_mb / exact.size_mb)
        assert 0.9 < one.text_cosine <= 1
        assert "of float32's; cosine with PyTorch" in one.line
        assert one.speed is not None
        assert np.isfinite(one.speed)
    assert rounded.size_mb < exact.size_mb
    weights = [(tmp_path / one).with_suffix(".bin").stat().st_size for one in (OPENVINO, OPENVINO_INT8)]
    assert weights[1] < weights[0] / 2
    for one in (ONNX, QUANTISED, OPENVINO, OPENVINO_INT8):
        assert stat.S_IMODE((tmp_path / one).stat().st_mode) & 0o044 == 0o044


@pytest.mark.parametrize("head", [BertForSequenceClassification, BertForTokenClassification])
def test_classes_are_compared_by_their_probabilities(head):
    """Those of texts, or of every token but padding, of which the worst one counts."""
    torch.manual_seed(0)
    cases = parity_cases(head(conftest.tiny_bert().config).eval())
    per_token = head is BertForTokenClassification
    assert all(case.logits and case.expected.shape[:-1] == case.mask.shape[: 1 + per_token] for case in cases)
    by_ids = {case.inputs["input_ids"].tobytes(): case for case in cases}

    def shifted(inputs):
        answer = by_ids[inputs["input_ids"].tobytes()].expected + 1
        return np.where(inputs["attention_mask"][..., None] > 0, answer, np.float32(1e6)) if per_token else answer

    def swapped(inputs):
        answer = 9 * by_ids[inputs["input_ids"].tobytes()].expected
        answer[0] = answer[0, ..., ::-1]
        return answer

    assert agreement(shifted, cases).mean_cosine == pytest.approx(1)
    assert agreement(shifted, cases).max_difference > 0.5
    assert lowest_text_cosine(shifted, cases) == pytest.approx(1)
    worst = min(float(case.cosines(swapped(case.inputs)).min()) for case in cases)
    assert lowest_text_cosine(swapped, cases) == pytest.approx(worst)
    assert worst < agreement(swapped, cases).mean_cosine < 1


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_format_leaves_only_its_own_file(tmp_path):
    write_formats(conftest.tiny_bert(), None, ["onnx-int8"], tmp_path)
    assert [path.name for path in (tmp_path / "onnx").iterdir()] == ["model_qint8.onnx"]


TEXTS = ["a text", "another one, which is a good deal longer than the first"]


def as_it_is(folder):
    """The first token alone."""


def mapped(folder):
    """A mean, a map into 48 dimensions and a scaling, as students of an output teacher have them."""
    head = torch.randn(48, 32, generator=torch.Generator().manual_seed(1))
    write_sentence_pipeline(SimpleNamespace(pooling="mean"), 32, folder, head)


def largest_and_cut(folder):
    """The largest value of each dimension, of these the first 8."""
    (folder / "1_Pooling" / "config.json").write_text('{"pooling_mode": "max", "embedding_dimension": 32}')
    (folder / "config_sentence_transformers.json").write_text('{"truncate_dim": 8}')


def write_embedding_formats(folder, names):
    """The further formats of a folder of sentence-transformers."""
    model, tokenizer = AutoModel.from_pretrained(folder).eval(), AutoTokenizer.from_pretrained(folder)
    return write_formats(model, tokenizer, names, folder, folder_embedding(folder))


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize(("change", "dim"), [(as_it_is, 32), (mapped, 48), (largest_and_cut, 8)])
def test_a_file_of_a_sentence_encoder_gives_what_its_pipeline_gives(change, dim, tmp_path, sentence_folder):
    """The whole pipeline in one session, for whatever texts; what reads the first output reads the same as before."""
    import onnxruntime
    import openvino
    from sentence_transformers import SentenceTransformer

    folder = shutil.copytree(sentence_folder, tmp_path / "student")
    change(folder)
    names = ["onnx", "onnx-int8", "onnx-bits", "openvino", "openvino-int8"]
    exact, rounded, bits, converted, calibrated = write_embedding_formats(folder, names)
    assert max(one.embedding.max_difference for one in (exact, converted)) < 1e-4
    assert "its `sentence_embedding` by " in exact.line
    assert min(one.embedding.mean_cosine for one in (rounded, bits, calibrated)) > 0.9
    inputs = dict(AutoTokenizer.from_pretrained(folder)(TEXTS, padding=True, return_tensors="np"))
    inputs = {name: inputs[name] for name in ("input_ids", "attention_mask")}
    expected = SentenceTransformer(str(folder), device="cpu").encode(TEXTS)
    assert expected.shape == (2, dim)
    for file in (ONNX, QUANTISED, FORMATS["onnx-bits"].file):
        session = onnxruntime.InferenceSession(folder / file)
        assert [output.name for output in session.get_outputs()] == ["last_hidden_state", "sentence_embedding"]
        states, found = session.run(None, inputs)
        assert states.shape == (*inputs["input_ids"].shape, 32)
        np.testing.assert_allclose(found, expected, atol=1e-4 if file == ONNX else 0.2)
    for file in (OPENVINO, OPENVINO_INT8):
        by_openvino = openvino.Core().compile_model(folder / file, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})(inputs)
        found = by_openvino["sentence_embedding"]
        np.testing.assert_allclose(found, expected, atol=1e-4 if file == OPENVINO else 0.2)
    scored = folder_encoder(EvaluatedModel.open(str(folder), ONNX))(TEXTS)
    np.testing.assert_allclose(scored, expected, atol=1e-4)


def calibration_of(model, tokenizer, folder, monkeypatch, texts):
    """What a writer is handed to take ranges from, and the cases beside."""
    handed = []

    def write(origin, path):
        handed.append(origin)
        raise ProfileError("seen")

    monkeypatch.setattr("autodistil.formats.writing.FORMATS", {"onnx": replace(FORMATS["onnx"], write=write)})
    with pytest.raises(ProfileError, match="seen"):
        write_formats(model, tokenizer, ["onnx"], folder, texts=texts)
    return handed[0].calibration, handed[0].cases


@pytest.mark.parametrize("pairs", [False, True])
def test_ranges_are_taken_from_the_first_texts(pairs, tiny_bert, tmp_path, monkeypatch):
    model, tokenizer = AutoModel.from_pretrained(tiny_bert).eval(), AutoTokenizer.from_pretrained(tiny_bert)
    texts = [(text, "a text") if pairs else text for text in TEXTS * CALIBRATION_TEXTS]
    read, _ = calibration_of(model, tokenizer, tmp_path, monkeypatch, texts)
    assert len(read) == CALIBRATION_TEXTS
    for text, inputs in zip(texts, read, strict=False):
        longest, (ids, mask) = model.config.max_position_embeddings - 2, inputs.values()
        assert ids.tolist() == [
            tokenizer(*(text if pairs else [text]), truncation=True, max_length=longest)["input_ids"]
        ]
        assert mask.tolist() == np.ones_like(ids).tolist()


def test_without_texts_ranges_are_taken_from_the_cases(tiny_bert, tmp_path, monkeypatch):
    read, cases = calibration_of(AutoModel.from_pretrained(tiny_bert).eval(), None, tmp_path, monkeypatch, TEXTS)
    assert len(read) == len(cases)
    assert all(inputs is case.inputs for inputs, case in zip(read, cases, strict=True))


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_wrong_embedding_is_refused(tmp_path, sentence_folder, monkeypatch):
    folder = shutil.copytree(sentence_folder, tmp_path / "student")
    monkeypatch.setattr(OnnxRuntime, "embed", lambda self, inputs: self.run(inputs).mean(1) + 1)
    with pytest.raises(IntegrityError, match=r"sentence_embedding of onnx/model.onnx differs from PyTorch"):
        write_embedding_formats(folder, ["onnx"])


def test_a_folder_that_makes_no_embeddings_has_no_output_of_them(tiny_bert, sentence_folder, tmp_path):
    assert folder_embedding(tiny_bert) is None
    folder = shutil.copytree(sentence_folder, tmp_path / "further")
    modules = json.loads((folder / "modules.json").read_text())
    (folder / "modules.json").write_text(json.dumps([*modules, {**modules[-1], "type": "elsewhere.Special"}]))
    assert folder_embedding(folder) is None


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_the_python_of_the_docs_runs(tmp_path, monkeypatch, sentence_folder):
    """Each block of docs/deploying.md, in a folder that holds `my-student`."""
    student = shutil.copytree(sentence_folder, tmp_path / "my-student")
    write_embedding_formats(student, ["onnx", "onnx-bits"])
    page = (Path(__file__).parents[2] / "docs" / "deploying.md").read_text(encoding="utf-8")
    blocks = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    assert len(blocks) == 3
    monkeypatch.chdir(tmp_path)
    found = [names_left_by(block) for block in blocks]
    few_bits, by_library, by_file = found
    assert by_library["embeddings"].shape[0] == 2
    assert few_bits["states"].shape[::2] == by_file["states"].shape[::2] == (2, 32)
    np.testing.assert_allclose(by_file["embeddings"], by_library["embeddings"], atol=1e-5)


def names_left_by(code):
    """The names that a block of code leaves."""
    names = {}
    exec(compile(code, "docs/deploying.md", "exec"), names)
    return names
