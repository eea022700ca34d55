"""A model named by its id on the Hub is what a copy of it is, and what a folder names stays inside of it."""

import json
import shutil

import pytest
import torch
from hub_helpers import COMMIT, MODULES, NAME, fill_hub_cache
from hypothesis import given
from hypothesis import strategies as st

from autodistil.errors import TeacherError
from autodistil.models.hf_folder import EvaluatedModel
from autodistil.models.model_folder import find_model, weight_files
from autodistil.models.pooling import is_below, read_modules
from autodistil.models.teacher import load_teacher


def test_an_id_is_what_its_folder_is(hub_cache, sentence_folder, caplog):
    snapshot = fill_hub_cache(hub_cache, NAME, sentence_folder)
    by_id, by_folder = load_teacher(NAME), load_teacher(str(sentence_folder))
    assert (by_id.fingerprint, by_id.pooling) == (by_folder.fingerprint, "cls")
    assert (by_id.folder, by_id.hub_id, by_id.commit) == (snapshot, NAME, COMMIT)
    assert (by_folder.hub_id, by_folder.commit) == (None, None)
    evaluated = EvaluatedModel.open(NAME)
    assert (evaluated.folder, evaluated.users_own) == (snapshot, False)
    assert evaluated.fingerprint == EvaluatedModel.open(str(sentence_folder)).fingerprint
    assert not caplog.records


def test_a_revision_is_a_name_or_a_commit(hub_cache, sentence_folder, tiny_bert):
    other = "f" * 40
    fill_hub_cache(hub_cache, NAME, tiny_bert, commit=other)
    snapshot = fill_hub_cache(hub_cache, NAME, sentence_folder)
    (snapshot.parents[1] / "refs" / "v1").write_text(other)
    assert find_model(NAME).commit == COMMIT
    assert find_model(f"{NAME}@v1").commit == find_model(f"{NAME}@{other}").commit == other
    assert find_model(f"{NAME}@v1", commit=COMMIT).commit == COMMIT
    assert find_model(f"{NAME}@v1").hub_id == NAME


@pytest.mark.parametrize("file", ["config.json", "1_Pooling/config.json", "model.safetensors"])
def test_a_cache_that_lacks_a_file_is_said_in_a_line(hub_cache, sentence_folder, file):
    fill_hub_cache(hub_cache, NAME, sentence_folder, without=[file])
    for read in (load_teacher, EvaluatedModel.open):
        with pytest.raises(TeacherError, match=rf"^[^\n]*lacks {file}, and the Hub cannot be asked[^\n]*$"):
            read(NAME)


def test_what_is_not_known_of_an_id_is_said(hub_cache, sentence_folder, caplog):
    snapshot = fill_hub_cache(hub_cache, NAME, sentence_folder, without=["modules.json"])
    assert load_teacher(NAME).pooling is None
    assert EvaluatedModel.open(NAME).folder == snapshot
    assert len(caplog.records) == 2
    assert all("lacks modules.json" in record.getMessage() for record in caplog.records)
    caplog.clear()
    absent = snapshot.parents[1] / ".no_exist" / COMMIT / "modules.json"  # what the library notes once it has asked
    absent.parent.mkdir(parents=True)
    absent.touch()
    assert load_teacher(NAME).pooling is None
    assert not caplog.records


@pytest.mark.parametrize(
    "source", ["nobody/nothing", f"{NAME}@v9", f"{NAME}@{'e' * 40}", f"{NAME}@../../refs/main", "no space", "a/b/c"]
)
def test_an_id_that_is_not_there_is_refused_in_a_line(hub_cache, sentence_folder, source):
    fill_hub_cache(hub_cache, NAME, sentence_folder)
    with pytest.raises(TeacherError, match=r"^[^\n]+$"):
        find_model(source)


# ---- what a folder names


@given(st.lists(st.sampled_from(["..", ".", "a", "C:", "", "/", "\\", "~"]), max_size=5))
def test_a_path_that_is_below_never_leaves(parts):
    from pathlib import Path

    for separator in "/\\":
        path = separator.join(parts)
        if is_below(path):
            assert (Path("/folder") / path.replace("\\", "/")).resolve().is_relative_to("/folder")


@pytest.mark.parametrize("path", ["../other", "/etc", "a/../../other", "C:\\other", "..\\other", "\\\\host\\share"])
@pytest.mark.parametrize("module", [0, 1, 2])
def test_modules_elsewhere_are_refused(sentence_folder, tmp_path, path, module):
    entries = [dict(entry) for entry in MODULES]
    entries[module]["path"] = path
    (tmp_path / "modules.json").write_text(json.dumps(entries))
    with pytest.raises(TeacherError, match=r"^[^\n]*allowed: folders inside[^\n]*$"):
        read_modules(tmp_path)


@pytest.mark.parametrize("content", ["null", "[3]", '[{"type": "a"}]', "{", "[" * 100_000])
def test_damaged_modules_are_said_in_a_line(tmp_path, content):
    (tmp_path / "modules.json").write_text(content)
    with pytest.raises(TeacherError, match=r"^[^\n]*cannot be read[^\n]*$"):
        read_modules(tmp_path)


def sharded(folder, to, name):
    """A copy of a model folder whose index names `name` as its weights."""
    shutil.copytree(folder, to)
    shard = to / "model-00001-of-00001.safetensors"
    (to / "model.safetensors").rename(shard)
    from safetensors import safe_open

    with safe_open(shard, "pt") as file:
        index = {"metadata": {}, "weight_map": dict.fromkeys(file.keys(), name)}
    (to / "model.safetensors.index.json").write_text(json.dumps(index))
    return to


def test_weights_in_parts_are_read(tiny_bert, tmp_path):
    folder = sharded(tiny_bert, tmp_path / "parts", "model-00001-of-00001.safetensors")
    assert weight_files(folder) == ("model-00001-of-00001.safetensors",)
    assert load_teacher(str(folder)).fingerprint == load_teacher(str(tiny_bert)).fingerprint


@pytest.mark.parametrize("name", ["weights.bin", "../elsewhere/model.safetensors", "/elsewhere/model.safetensors", 3])
def test_weights_that_are_a_pickle_or_lie_elsewhere_are_never_read(tiny_bert, tmp_path, name, monkeypatch):
    monkeypatch.setattr(torch, "load", lambda *_args, **_options: pytest.fail("a pickle was read"))
    folder = sharded(tiny_bert, tmp_path / "parts", name)
    torch.save({}, folder / "weights.bin")
    shutil.copytree(tiny_bert, tmp_path / "elsewhere")
    with pytest.raises(TeacherError, match=r"^[^\n]*names .* as weights; allowed: [^\n]*$"):
        load_teacher(str(folder))


@pytest.mark.parametrize("file", ["adapter_config.json", "transformers_weights"])
def test_weights_beside_those_of_the_model_are_never_read(tiny_bert, tmp_path, file, monkeypatch):
    monkeypatch.setattr(torch, "load", lambda *_args, **_options: pytest.fail("a pickle was read"))
    folder = tmp_path / "model"
    shutil.copytree(tiny_bert, folder)
    torch.save({}, folder / "adapter_model.bin")
    if file == "adapter_config.json":
        (folder / file).write_text(json.dumps({"base_model_name_or_path": "../elsewhere"}))
    else:
        config = json.loads((folder / "config.json").read_text())
        (folder / "config.json").write_text(json.dumps({**config, file: "adapter_model.bin"}))
    with pytest.raises(TeacherError, match=file):
        load_teacher(str(folder))
