"""A run whose teacher is named by its id on the Hub is the run of its folder, and goes on with the same commit."""

import pytest
from hub_helpers import COMMIT, NAME, fill_hub_cache
from huggingface_hub import metadata_load
from run_helpers import write_corpus

import autodistil
from autodistil.config import RunConfig
from autodistil.errors import RunError
from autodistil.run.facts import provenance
from autodistil.run.inputs import default_folder
from autodistil.run.run import Run

pytestmark = pytest.mark.usefixtures("no_picture")
SPACE = "sub_spaces: {tiny: {num_layers: 1, hidden_size: 16, head_size: 16, mlp_ratio: 2}}"


@pytest.fixture
def options(tmp_path):
    (tmp_path / "space.yaml").write_text(SPACE)
    corpus = str(write_corpus(tmp_path / "corpus.txt"))
    sizes = {"train_steps": 1, "batch_size": 4, "seq_len": 16, "heldout_sequences": 4, "threads": 1}
    return {"corpus": [corpus], "space": str(tmp_path / "space.yaml"), **sizes}


def test_a_search_by_id_is_the_search_by_folder(hub_cache, sentence_folder, tmp_path, options):
    fill_hub_cache(hub_cache, NAME, sentence_folder)
    by_id, by_folder = (
        autodistil.search(tmp_path / str(number), budgets="1GFLOPs", teacher=teacher, **options)
        for number, teacher in enumerate([NAME, str(sentence_folder)])
    )
    assert by_id.table[by_id.best].loss == by_folder.table[by_folder.best].loss
    names = {path.name for path in by_folder.student.path.rglob("*")}
    assert {"modules.json", "1_Pooling", "2_Normalize", "sentence_bert_config.json", "LICENSE"} <= names
    for path in by_folder.student.path.rglob("*"):
        twin = by_id.student.path / path.relative_to(by_folder.student.path)
        assert twin.exists()
        told = {"README.md", "exported.json"}  # the card names the teacher, the list has the checksum of the card
        assert path.is_dir() or path.name in told or twin.read_bytes() == path.read_bytes(), path
    cards = [metadata_load(result.student.path / "README.md") for result in (by_id, by_folder)]
    assert cards[0] == {**cards[1], "base_model": NAME}
    assert cards[0]["license"] == "mit"


def test_a_run_goes_on_with_the_commit_that_it_began_with(hub_cache, sentence_folder, tiny_bert, tmp_path, options):
    snapshot = fill_hub_cache(hub_cache, NAME, sentence_folder)
    run = Run.open(tmp_path / "run", {**options, "teacher": NAME})
    assert run.inputs.text.unit == "sentences"
    run.inputs.write_record()
    record = run.folder.record()
    assert (record.options["teacher"], record.resolved["teacher_commit"]) == (NAME, COMMIT)
    assert f"commit {COMMIT}" in provenance(run.inputs, run.superlms)["teacher"]
    fill_hub_cache(hub_cache, NAME, tiny_bert, commit="f" * 40)  # main moves on
    assert Run.open(tmp_path / "new", {**options, "teacher": NAME}).inputs.teacher.pooling is None
    again = Run.open(tmp_path / "run").inputs
    assert (again.teacher.commit, again.teacher.pooling) == (COMMIT, "cls")
    (snapshot / "modules.json").unlink()  # as on a machine whose cache was never asked for it
    with pytest.raises(RunError, match="made with another objective: its teacher pools otherwise"):
        _ = Run.open(tmp_path / "run").inputs.objective


def test_the_folder_of_a_run_is_named_after_the_id_and_its_revision(hub_cache, sentence_folder, options):
    snapshot = fill_hub_cache(hub_cache, NAME, sentence_folder)
    (snapshot.parents[1] / "refs" / "pr").mkdir()
    (snapshot.parents[1] / "refs" / "pr" / "1").write_text(COMMIT)
    names = [default_folder(RunConfig(teacher=name, space=options["space"])).name for name in (NAME, f"{NAME}@pr/1")]
    assert names == ["encoder-space", "encoder@pr-1-space"]
