"""A teacher is the same one as long as it computes the same function."""

import json
import os
from pathlib import Path

import pytest
import torch
from run_helpers import save_random_bert
from safetensors.torch import load_file, save_file

from autodistil.errors import TeacherError
from autodistil.models.hf_folder import EvaluatedModel
from autodistil.models.teacher import load_teacher


def folder_with(original: Path, to: Path, **changed) -> Path:
    """The folder of a model with another config.json; nothing else is copied."""
    to.mkdir()
    for path in original.iterdir():
        if path.is_file():
            os.symlink(path, to / path.name)
    (to / "config.json").unlink()
    config = json.loads((original / "config.json").read_text())
    (to / "config.json").write_text(json.dumps({**config, **changed}))
    return to


@pytest.mark.parametrize(
    ("changed", "same"),
    [
        ({"transformers_version": "99.0", "use_cache": False, "architectures": ["BertForMaskedLM"]}, True),
        ({"layer_norm_eps": 1e-5}, False),
        ({"hidden_act": "relu"}, False),
    ],
)
def test_what_makes_another_teacher(quickstart_teacher_dir, tmp_path, changed, same):
    other = load_teacher(str(folder_with(quickstart_teacher_dir, tmp_path / "other", **changed)))
    assert (other.fingerprint == load_teacher().fingerprint) is same


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_not_finite_are_refused_when_they_are_read(quickstart_teacher_dir, tmp_path, value):
    folder = save_random_bert(tmp_path / "teacher", quickstart_teacher_dir, num_layers=1)
    weights = load_file(folder / "model.safetensors")
    weights["encoder.layer.0.output.dense.weight"][3, 5] = value
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    said = r"weights of (teacher|model) .* encoder\.layer\.0\.output\.dense\.weight holds numbers that are not finite"
    with pytest.raises(TeacherError, match=said):
        load_teacher(str(folder))
    with pytest.raises(TeacherError, match=said):
        EvaluatedModel.open(str(folder)).encoder(torch.device("cpu"))
