"""The sentence-transformers pipeline of a student: where its modules lie is ours to say, not its teacher's."""

import json
from types import SimpleNamespace

import pytest
import torch

from autodistil.errors import TeacherError
from autodistil.export.sentence_pipeline import is_plain_pipeline, write_sentence_pipeline
from autodistil.models.pooling import linear_head, read_pooling

LIBRARY = "sentence_transformers.models."


def folder_of(path, *modules):
    """A folder with a pooling in `pool/ing`, and such modules."""
    (path / "pool" / "ing").mkdir(parents=True)
    (path / "pool" / "ing" / "config.json").write_text(json.dumps({"pooling_mode": "mean", "embedding_dimension": 384}))
    entries = [{"idx": i, "name": str(i), "path": where, "type": kind} for i, (kind, where) in enumerate(modules)]
    (path / "modules.json").write_text(json.dumps(entries))
    return path


def test_modules_lie_where_the_library_saves_them(tmp_path):
    modules = [(f"{LIBRARY}Transformer", ""), (f"{LIBRARY}Pooling", "pool/ing"), (f"{LIBRARY}Normalize", "n")]
    teacher = folder_of(tmp_path / "teacher", *modules)
    (tmp_path / "student").mkdir()
    assert write_sentence_pipeline(SimpleNamespace(folder=teacher), 96, tmp_path / "student")
    written = {str(path.relative_to(tmp_path / "student")) for path in (tmp_path / "student").rglob("*")}
    assert written == {"modules.json", "1_Pooling", "1_Pooling/config.json", "2_Normalize"}
    options = json.loads((tmp_path / "student" / "1_Pooling" / "config.json").read_text())
    assert options == {"pooling_mode": "mean", "embedding_dimension": 96}
    assert read_pooling(tmp_path / "student") == "mean"


@pytest.mark.parametrize("where", ["../victim", "a/../../victim", "..\\victim", "ABSOLUTE"])
def test_a_crafted_teacher_writes_nothing_elsewhere(tmp_path, where):
    victim = tmp_path / "victim"
    victim.mkdir()
    (victim / "config.json").write_text('{"pooling_mode": "mean", "embedding_dimension": 384}')
    path = str(victim) if where == "ABSOLUTE" else where
    teacher = folder_of(tmp_path / "teacher", (f"{LIBRARY}Transformer", ""), (f"{LIBRARY}Pooling", path))
    (tmp_path / "student").mkdir()
    with pytest.raises(TeacherError, match=r"^[^\n]*modules.json[^\n]*$"):
        write_sentence_pipeline(SimpleNamespace(folder=teacher), 96, tmp_path / "student")
    assert json.loads((victim / "config.json").read_text())["embedding_dimension"] == 384


def test_modules_of_other_origin_are_not_carried_over(tmp_path):
    """The student would ask who loads it to run them."""
    teacher = folder_of(
        tmp_path, (f"{LIBRARY}Transformer", ""), (f"{LIBRARY}Pooling", "pool/ing"), ("own.Normalize", "n")
    )
    assert not is_plain_pipeline(teacher)
    assert read_pooling(teacher) == "mean"


def test_a_linear_layer_is_a_head_only_where_it_stands_behind_the_pooling(tmp_path):
    """Behind a scaling it would map other vectors: such a pipeline is the library's to run."""
    head = torch.randn(3, 4)
    (tmp_path / "student").mkdir()
    write_sentence_pipeline(SimpleNamespace(folder=None, pooling="mean"), 4, tmp_path / "student", head)
    assert torch.equal(linear_head(tmp_path / "student"), head)
    entries = json.loads((tmp_path / "student" / "modules.json").read_text())
    (tmp_path / "student" / "modules.json").write_text(json.dumps([*entries[:2], entries[3], entries[2]]))
    assert linear_head(tmp_path / "student") is None
