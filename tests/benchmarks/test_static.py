"""A static model of a tiny teacher, by model2vec."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from quality_table.cells import Cell
from quality_table.make import make_row
from quality_table.rows import RowSpec, RowStore
from quality_table.static import is_static, make_static, static_encoder
from quality_table.students import Made
from tokenizers_helpers import TEXTS
from transformers import BertConfig, BertModel, BertTokenizerFast

from autodistil.models.teacher import load_teacher
from autodistil.utils import Progress


@pytest.fixture(scope="module")
def teacher(tmp_path_factory):
    folder = tmp_path_factory.mktemp("teacher")
    words = sorted({word for text in TEXTS for word in text.lower().split() if word.isalpha()})
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    vocabulary = {word: number for number, word in enumerate([*special, *words])}
    torch.manual_seed(0)
    size = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 64}
    BertModel(BertConfig(**size, vocab_size=len(vocabulary), max_position_embeddings=64)).save_pretrained(folder)
    BertTokenizerFast(vocab=vocabulary).save_pretrained(folder)
    return folder


def test_it_loads_gives_embeddings_and_costs_nothing(teacher, tmp_path):
    bench = SimpleNamespace(
        run=SimpleNamespace(inputs=SimpleNamespace(teacher=load_teacher(str(teacher)))), device=torch.device("cpu")
    )
    facts = make_static(bench, RowSpec("static"), tmp_path / "static")
    assert (facts["flops"], facts["flops_share"], facts["steps"]) == (0, 0.0, 0)
    assert is_static(tmp_path / "static")
    assert not is_static(teacher)
    assert not [path for path in tmp_path.rglob("*") if path.suffix in (".bin", ".pkl", ".pt")], "no pickle"
    encode = static_encoder(tmp_path / "static", 8)
    first, again, other, long = encode(["return the object", "return the object", "false", "false " * 20])
    assert np.array_equal(first, again)
    assert not np.allclose(first, other)
    assert np.allclose(other, long, atol=1e-5), "a mean of the same vector"


def test_only_what_asks_for_embeddings_is_measured(tmp_path, monkeypatch):
    monkeypatch.setattr("quality_table.make.make", lambda bench, spec: Made(Path("nowhere"), {"label": "static"}))
    monkeypatch.setattr("quality_table.make.row_key", lambda bench, spec: "key")
    cells = [
        Cell("heldout", "k", lambda folder: pytest.fail("it has no layers")),
        Cell("med", "k", lambda folder: {"value": 0.5}, of_embeddings=True),
    ]
    row = make_row(SimpleNamespace(progress=Progress()), RowStore(tmp_path), RowSpec("static"), cells)
    assert row.cells.keys() == {"med@k"}
