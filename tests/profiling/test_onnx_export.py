"""ONNX files compute what PyTorch computes, at every shape, with padding, for every family."""

import shutil
import sys
from types import SimpleNamespace

import numpy as np
import pytest
from autodistil_helpers import FAMILY_CONFIGS, random_teacher
from hypothesis import given, settings
from hypothesis import strategies as st

from autodistil.errors import IntegrityError, ProfileError
from autodistil.formats.onnx import OPSET, OnnxRuntime, export_onnx, require
from autodistil.formats.parity import Case, Parity, agreement, check_agreement, load_cases, parity_cases, save_cases
from autodistil.models.superlm import SuperLM
from tests.profiling.conftest import tiny_bert


@pytest.fixture(scope="module")
def run(exported):
    return OnnxRuntime(exported.path).run


@pytest.mark.slow
@pytest.mark.timeout(600)
@settings(max_examples=25)
@given(st.data())
def test_one_file_takes_every_shape_and_padding(run, data):
    batch, length = data.draw(st.integers(1, 5)), data.draw(st.integers(1, 40))
    ids = np.random.default_rng(0).integers(0, 97, (batch, length))
    mask = np.ones_like(ids)
    for row in mask[1:]:
        row[data.draw(st.integers(1, length)) :] = 0
    import torch

    with torch.no_grad():
        expected = MODEL(input_ids=torch.tensor(ids), attention_mask=torch.tensor(mask)).last_hidden_state.numpy()
    check_agreement(agreement(run, [Case({"input_ids": ids, "attention_mask": mask}, expected)]), "the file")


MODEL = tiny_bert()


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_the_file_states_its_opset_and_names(exported):
    import onnx

    graph = onnx.load(exported.path)
    assert {opset.domain: opset.version for opset in graph.opset_import} == {"": OPSET}
    assert [value.name for value in graph.graph.input] == ["input_ids", "attention_mask"]
    assert [value.name for value in graph.graph.output] == ["last_hidden_state"]
    onnx.checker.check_model(graph)


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("kind", FAMILY_CONFIGS)
def test_students_of_every_family_are_exported(kind, tmp_path):
    from autodistil_helpers import small_space

    superlm = SuperLM.from_teacher(random_teacher(kind), small_space(random_teacher(kind)))
    model = superlm.extract(superlm.sub_space.smallest)
    assert export_onnx(model, tmp_path / "model.onnx").max_difference < 1e-5


def test_a_file_that_differs_is_refused_and_not_written(lookup, tmp_path, monkeypatch):
    class Program:
        model = SimpleNamespace(graph=())

        def save(self, path, external_data):
            shutil.copyfile(lookup.path, path)

    monkeypatch.setattr("autodistil.formats.onnx._export", lambda model, embed: Program())
    with pytest.raises(IntegrityError, match=r"differs from PyTorch by .*allowed 1e-04"):
        export_onnx(tiny_bert(), tmp_path / "model.onnx")
    assert list(tmp_path.iterdir()) == []


def test_cases_are_the_same_after_a_file_and_have_padding(tmp_path):
    cases = parity_cases(tiny_bert())
    for ours, theirs in zip(cases, load_cases(save_cases(cases, tmp_path / "cases.npz")), strict=True):
        np.testing.assert_equal(vars(ours), vars(theirs))
    assert any((case.mask == 0).any() for case in cases)
    assert len({case.inputs["input_ids"].shape for case in cases}) == len(cases)


def test_what_a_runtime_makes_of_padding_does_not_matter_and_nan_does():
    cases = parity_cases(tiny_bert())

    def answer(fill):
        by_ids = {case.inputs["input_ids"].tobytes(): case for case in cases}

        def run(inputs):
            case = by_ids[inputs["input_ids"].tobytes()]
            return np.where(inputs["attention_mask"][..., None] > 0, case.expected, np.float32(fill))

        return run

    assert agreement(answer(1e9), cases).max_difference == 0
    assert agreement(answer(1e9), cases).mean_cosine == pytest.approx(1)
    for least in (None, 0.9):
        with pytest.raises(IntegrityError):
            check_agreement(Parity(float("nan"), float("nan")), "it", least)
        with pytest.raises(IntegrityError):
            check_agreement(Parity(0.5, 0.5), "it", least)
    check_agreement(Parity(0.5, 0.95), "it", min_cosine=0.9)


def test_a_missing_library_is_named_with_the_line_that_installs_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    with pytest.raises(
        ProfileError, match=r"onnxscript, which is not installed; run: pip install 'autodistil\[onnx\]'"
    ):
        require("onnxscript")
