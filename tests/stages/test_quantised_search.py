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
from autodistil.run.run import Run

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
    result = pipeline.search(run)
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
