"""Further formats of a student lie where runtimes look for them and compute what PyTorch computes."""

import re
import stat
from pathlib import Path

import numpy as np
import pytest
import torch
from run_helpers import save_random_bert
from transformers import AutoModel, AutoTokenizer, BertForSequenceClassification, BertForTokenClassification

from autodistil.errors import ExportError
from autodistil.formats import FORMATS
from autodistil.formats.onnx import OnnxRuntime
from autodistil.formats.parity import agreement, parity_cases
from autodistil.formats.writing import check_formats, lowest_text_cosine, write_formats
from autodistil.models.model_folder import find_model
from autodistil.models.packaged import DEFAULT_TEACHER
from tests.profiling.conftest import tiny_bert

ONNX, QUANTISED, OPENVINO = (FORMATS[name].file for name in ("onnx", "onnx-int8", "openvino"))


def test_unknown_formats_are_refused_with_the_allowed_ones():
    with pytest.raises(
        ExportError,
        match=r"format 'onx' \(did you mean 'onnx'\?\) is unknown; allowed: hf, sentence-transformers, onnx",
    ):
        check_formats(["hf", "onx"])
    assert check_formats(["onnx", "hf", "onnx"]) == ("onnx", "hf")


def test_the_plain_folder_needs_nothing_more(tmp_path):
    assert write_formats(tiny_bert(), None, ["hf"], tmp_path) == []
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_all_formats_agree_with_pytorch(tmp_path):
    model = tiny_bert()
    exact, rounded, converted = write_formats(model, None, ["onnx", "onnx-int8", "openvino"], tmp_path)
    assert [one.file for one in (exact, rounded, converted)] == [ONNX, QUANTISED, OPENVINO]
    assert agreement(OnnxRuntime(tmp_path / ONNX).run, parity_cases(model)).max_difference < 1e-4
    assert converted.agreement.max_difference < 1e-4
    assert rounded.agreement.mean_cosine > 0.9
    assert rounded.size_mb < exact.size_mb
    assert rounded.size_share == pytest.approx(rounded.size_mb / exact.size_mb)
    assert 0.9 < rounded.text_cosine <= 1
    assert "of float32's; cosine with PyTorch" in rounded.line
    assert rounded.speed is not None
    assert np.isfinite(rounded.speed)
    for one in (ONNX, QUANTISED, OPENVINO):
        assert stat.S_IMODE((tmp_path / one).stat().st_mode) & 0o044 == 0o044


@pytest.mark.parametrize("head", [BertForSequenceClassification, BertForTokenClassification])
def test_classes_are_compared_by_their_probabilities(head):
    """Those of texts, or of every token but padding, of which the worst one counts."""
    torch.manual_seed(0)
    cases = parity_cases(head(tiny_bert().config).eval())
    per_token = head is BertForTokenClassification
    assert all(case.logits and case.expected.shape[:-1] == case.input_ids.shape[: 1 + per_token] for case in cases)
    by_ids = {case.input_ids.tobytes(): case for case in cases}

    def shifted(ids, mask):
        answer = by_ids[ids.tobytes()].expected + 1
        return np.where(mask[..., None] > 0, answer, np.float32(1e6)) if per_token else answer

    def swapped(ids, mask):
        answer = 9 * by_ids[ids.tobytes()].expected
        answer[0] = answer[0, ..., ::-1]
        return answer

    assert agreement(shifted, cases).mean_cosine == pytest.approx(1)
    assert agreement(shifted, cases).max_difference > 0.5
    assert lowest_text_cosine(shifted, cases) == pytest.approx(1)
    worst = min(float(case.cosines(swapped(case.input_ids, case.attention_mask)).min()) for case in cases)
    assert lowest_text_cosine(swapped, cases) == pytest.approx(worst)
    assert worst < agreement(swapped, cases).mean_cosine < 1


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_format_leaves_only_its_own_file(tmp_path):
    write_formats(tiny_bert(), None, ["onnx-int8"], tmp_path)
    assert [path.name for path in (tmp_path / "onnx").iterdir()] == ["model_qint8.onnx"]


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_the_python_of_the_docs_runs(tmp_path, monkeypatch):
    """Each block of docs/deploying.md, in a folder that holds `my-student`."""
    student = tmp_path / "my-student"
    save_random_bert(student, find_model(DEFAULT_TEACHER).path)
    write_formats(AutoModel.from_pretrained(student).eval(), AutoTokenizer.from_pretrained(student), ["onnx"], student)
    page = (Path(__file__).parents[2] / "docs" / "deploying.md").read_text(encoding="utf-8")
    blocks = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    assert len(blocks) == 2
    monkeypatch.chdir(tmp_path)
    found = [names_left_by(block) for block in blocks]
    assert found[0]["embeddings"].shape[0] == 2
    assert found[1]["states"].shape[0] == 2


def names_left_by(code):
    """The names that a block of code leaves."""
    names = {}
    exec(compile(code, "docs/deploying.md", "exec"), names)
    return names
