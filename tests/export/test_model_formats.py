"""A model as it is, in further formats: the same model, with files that answer as it does; wrong input."""

import shutil

import numpy as np
import onnxruntime
import pytest
import torch
from sentence_transformers import SentenceTransformer
from transformers import AutoModel

from autodistil.cli import main
from autodistil.errors import ExportError
from autodistil.export.model_formats import export_model


def test_the_model_is_the_same_and_its_files_answer_as_it_does(sentence_folder, tmp_path):
    source = shutil.copytree(sentence_folder, tmp_path / "source")
    (source / "LICENSE").write_text("free")
    (source / "optimizer.pt").write_bytes(b"not of the model")
    found = export_model(str(source), tmp_path / "to", ["onnx", "onnx-bits"])
    assert [one.format for one in found] == ["onnx", "onnx-bits"]
    kept = {path.relative_to(tmp_path / "to").as_posix() for path in (tmp_path / "to").rglob("*") if path.is_file()}
    assert {"LICENSE", "1_Pooling/config.json", "onnx/model.onnx", "onnx/model_bits.onnx"} <= kept
    assert "optimizer.pt" not in kept
    ours, theirs = (AutoModel.from_pretrained(folder).state_dict() for folder in (tmp_path / "to", source))
    assert all(torch.equal(value, theirs[name]) for name, value in ours.items())
    model = SentenceTransformer(str(tmp_path / "to"), device="cpu")
    inputs = model.tokenizer(["a text", "another text"], padding=True, return_tensors="np")
    session = onnxruntime.InferenceSession(tmp_path / "to" / "onnx" / "model_bits.onnx")
    given = {name: inputs[name].astype(np.int64) for name in ("input_ids", "attention_mask")}
    (embeddings,) = session.run(["sentence_embedding"], given)
    assert ((embeddings * model.encode(["a text", "another text"])).sum(1) > 0.9).all()


@pytest.mark.parametrize("formats", [[], ["hf"], ["sentence-transformers"]])
def test_without_a_format_to_write_there_is_nothing_to_do(formats, tmp_path):
    with pytest.raises(ExportError, match=r"no format to write; give --format, one of onnx, "):
        export_model("all-MiniLM-L6-v2", tmp_path / "to", formats)


def test_a_target_that_is_there_is_left_alone(tmp_path):
    with pytest.raises(ExportError, match="exists; give --to a new folder"):
        export_model("all-MiniLM-L6-v2", tmp_path, ["onnx"])


@pytest.mark.parametrize("given", [[], ["--run", "runs/x", "--model", "all-MiniLM-L6-v2"]])
def test_a_run_or_a_model_is_exported(given, tmp_path, capsys):
    with pytest.raises(SystemExit):
        main(["export", *given, "--to", str(tmp_path / "to"), "--format", "onnx"])
    assert "give one of them" in capsys.readouterr().err
