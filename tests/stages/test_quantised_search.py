"""A search under megabytes where students differ in the bits of their weights: picked, refined rounded, served."""

import json

import numpy as np
import onnxruntime
import pandas as pd
import pytest
from run_helpers import run_options
from transformers import AutoModel

from autodistil import pipeline
from autodistil.formats.onnx_bits import ONNX_BITS
from autodistil.formats.setting import RuntimeSetting
from autodistil.profiling.device_costs import as_run
from autodistil.profiling.latency_model import fit_cost_model, workload
from autodistil.run.run import Run
from autodistil.space.shape import EncoderShape
from autodistil.space.student import StudentConfig

SPACE = """
sub_spaces:
  tiny: {num_layers: [2], hidden_size: [32], head_size: 16, mlp_ratio: [2.0], embedding_bits: [4, 32],
         layer_bits: [4, 32]}
"""


@pytest.fixture
def options(tmp_path, quickstart_teacher_dir):
    return run_options(tmp_path, quickstart_teacher_dir, SPACE, train_steps=2, refine_steps=2, budgets=["1.5MB"])


def test_the_budget_is_held_by_the_file_that_is_served(options, tmp_path):
    run = Run.open(tmp_path / "run", options)
    planned = pipeline.plan(run).disk.student
    result = pipeline.search(run)
    files = [result.student.path / name for name in ("model.safetensors", ONNX_BITS.file)]
    assert 0 <= planned - sum(file.stat().st_size for file in files) < 50_000
    table = pd.read_csv(run.folder.path / "candidates.csv").set_index("id")
    assert {*zip(table["embedding_bits"], table["layer_bits"], strict=True)} == {(4, 4), (4, 32), (32, 4), (32, 32)}
    assert (table["feasible"] == (table["embedding_bits"] == 4)).all()
    assert table[table["feasible"]]["loss"].nunique() == 2
    student = run.folder.path / "students" / result.best
    assert (student / ONNX_BITS.file).stat().st_size <= 1.5e6
    model = AutoModel.from_pretrained(student)
    values = model.get_input_embeddings().weight[:, :32].detach().numpy()
    assert max(len(np.unique(row)) for row in values[:100]) <= 16
    session = onnxruntime.InferenceSession(student / ONNX_BITS.file)
    ids = np.array([[101, 2023, 102]])
    states = session.run(["last_hidden_state"], {"input_ids": ids, "attention_mask": np.ones_like(ids)})[0]
    assert states.shape == (1, 3, 32)
    config = json.loads((student / "config.json").read_text())
    assert config["weight_bits"]["embeddings"] == 4
    card = (student / "README.md").read_text()
    assert "| bits of embeddings | 4 | 32 |" in card
    assert "also as onnx-bits" in card


def test_runtimes_of_floats_see_one_student_where_bits_differ(tmp_path):
    few, plain = StudentConfig.of_label("L2-H32-A2-F64-EB4-LB4"), StudentConfig.of_label("L2-H32-A2-F64")
    assert as_run(few, RuntimeSetting("cpu", "onnx", 1, 1, 16)) == plain
    assert as_run(few, RuntimeSetting("cpu", "onnx-bits", 1, 1, 16)) == few


def test_integers_have_a_price_of_their_own():
    """Times of which students of integers take a third: prices find that, and floats as before."""
    shape = EncoderShape(vocab_size=1000, other_embedding_rows=64, embedding_size=None, pooler=False)
    students = [
        StudentConfig(layers, hidden, hidden // 32, 32, 4 * hidden, layer_bits=bits)
        for layers in (2, 4, 6) for hidden in (64, 128, 256) for bits in (None, 4)
    ]  # fmt: skip
    load = workload(students, shape, 1, 128)
    plain = workload([student.architecture for student in students], shape, 1, 128)
    products = plain.time_features[[("attention projections", "products"), ("FFN", "products")]].sum(axis=1)
    values = products * [1.0 if student.layer_bits is None else 1 / 3 for student in students]
    model = fit_cost_model("ms", load, values)
    assert model.cross_validated.mape < 0.02
    assert model.predict(load)["value"].to_numpy() == pytest.approx(values.to_numpy(), rel=0.02)
    for cost in ("ram_mb", "file_mb"):
        assert (load.features(cost) >= 0).all(axis=None)


@pytest.mark.slow
def test_a_device_budget_by_the_runtime_of_few_bits(options, tmp_path):
    budget = "900ms@cpu,threads=1,runtime=onnx-bits,seq=16"
    run = Run.open(tmp_path / "run", {**options, "budgets": [budget, "1.5MB"]})
    result = pipeline.search(run)
    measured = result.candidates.loc[result.best].filter(like="measured")
    assert (measured > 0).all()
    assert len(measured) == 1
