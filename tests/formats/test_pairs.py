"""A pair is read alike whether its token types are given or not."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from autodistil.formats.onnx import OnnxRuntime
from autodistil.formats.pairs import reads_pairs, types_of
from autodistil.formats.writing import write_formats


@pytest.fixture(scope="module")
def scorer(tiny_bert):
    torch.manual_seed(0)
    model = AutoModelForSequenceClassification.from_pretrained(tiny_bert, num_labels=3).eval()
    with torch.no_grad():
        for weight in (model.bert.embeddings.token_type_embeddings.weight, model.classifier.weight):
            weight.normal_()
    return model, AutoTokenizer.from_pretrained(tiny_bert)


@given(lengths=st.lists(st.tuples(st.integers(1, 4), st.integers(1, 4)), min_size=1, max_size=4))
def test_types_are_those_of_the_tokenizer(tiny_bert, lengths):
    tokenizer = AutoTokenizer.from_pretrained(tiny_bert)
    pairs = [("word " * one, "word " * other) for one, other in lengths]
    batch = tokenizer(*map(list, zip(*pairs, strict=True)), padding=True, return_tensors="pt")
    real = batch["attention_mask"].bool()
    assert torch.equal(types_of(batch["input_ids"], tokenizer.sep_token_id)[real], batch["token_type_ids"][real])


def test_an_onnx_file_tells_the_texts_of_a_pair_apart(scorer, tmp_path):
    model, tokenizer = scorer
    with reads_pairs(model, tokenizer):
        write_formats(model, tokenizer, ["onnx"], tmp_path)
    texts = ["a phone", "it is broken and old"], ["is it lovely", "no"]
    batch = tokenizer(*texts, padding=True, return_tensors="pt")
    with torch.no_grad():
        expected, untold = model(**batch).logits, model(batch["input_ids"], batch["attention_mask"]).logits
    run = OnnxRuntime(tmp_path / "onnx" / "model.onnx").run
    found = torch.from_numpy(run({name: batch[name].numpy() for name in ("input_ids", "attention_mask")}))
    assert torch.allclose(found, expected, atol=1e-4)
    assert not torch.allclose(untold, expected, atol=1e-3), "and afterwards the model is as it was"
