"""An export over an earlier one: what a person made or changed there stays, and no moment loses what was there."""

import os
import shutil

import pytest

from autodistil.export.student_folder import _put_in_place
from autodistil.models.student_files import LIST, adding, is_as_written, read_list

EXPORT = {"model.safetensors": "weights", "config.json": "{}", "README.md": "card", "1_Pooling/config.json": "{}"}


def written(folder, files):
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(content)
    return folder


def exported(folder, weights="weights", card="card"):
    """Export to one place again and again; returns it and what was said."""
    shutil.rmtree(folder / ".building", ignore_errors=True)
    building = written(folder / ".building", {**EXPORT, "model.safetensors": weights, "README.md": card})
    return folder / "student", _put_in_place(building, folder / "student")


def content(folder):
    files = (path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_text() for path in files if path.name != LIST}


@pytest.mark.parametrize("empty", [False, True])
def test_a_new_folder_holds_the_export_and_its_list(tmp_path, empty):
    if empty:
        (tmp_path / "student").mkdir()
    to, notes = exported(tmp_path)
    assert (content(to), notes) == (EXPORT, [])
    assert all(is_as_written(to, name, read_list(to)) for name in EXPORT)


def test_what_people_and_later_commands_left_stays(tmp_path):
    to, _ = exported(tmp_path)
    mine = {"onnx/mine.onnx": "mine", "notes.txt": "mine"}
    written(to, mine)
    with adding(to, "evaluation.json", "README.md"):
        written(to, {"evaluation.json": "results", "README.md": "card with results"})
    _, notes = exported(tmp_path, card="new card")
    assert notes == []
    assert content(to) == {**EXPORT, **mine, "README.md": "new card", "evaluation.json": "results"}
    assert set(read_list(to)) == {*EXPORT, "evaluation.json"}


def test_results_of_other_weights_stay_and_leave_the_list(tmp_path):
    to, _ = exported(tmp_path)
    with adding(to, "evaluation.json"):
        written(to, {"evaluation.json": "results"})
    _, notes = exported(tmp_path, weights="refined")
    assert content(to) == {**EXPORT, "model.safetensors": "refined", "evaluation.json": "results"}
    assert set(read_list(to)) == set(EXPORT)
    assert notes == [f"evaluation.json in {to} belong to other weights than the student has now"]


def test_a_file_that_a_person_changed_is_kept_beside(tmp_path):
    to, _ = exported(tmp_path)
    for words, kept in (("my card", "README.kept.md"), ("my other card", "README.kept-2.md")):
        written(to, {"README.md": words})
        with adding(to, "README.md"):
            pass  # whatever is evaluated meanwhile: it stays the person's
        _, notes = exported(tmp_path)
        assert (to / "README.md").read_text() == "card"
        assert (to / kept).read_text() == words
        assert notes == [f"{to / 'README.md'} was changed since it was exported and is kept as {kept}"]


def test_an_export_of_an_earlier_release_is_taken_for_a_persons(tmp_path):
    to = written(tmp_path / "student", {**EXPORT, "README.md": "old card", "evaluation.json": "results"})
    exported(tmp_path)
    assert content(to) == {**EXPORT, "README.kept.md": "old card", "evaluation.json": "results"}


def test_a_damaged_list_costs_nothing(tmp_path):
    to, _ = exported(tmp_path)
    (to / LIST).write_text("{")
    exported(tmp_path, card="new card")
    assert content(to) == {**EXPORT, "README.md": "new card", "README.kept.md": "card"}


@pytest.mark.parametrize("moment", range(8))
def test_killed_at_any_moment_each_file_is_whole_and_the_next_export_mends_it(tmp_path, monkeypatch, moment):
    to, _ = exported(tmp_path)
    written(to, {"notes.txt": "mine"})
    replace, calls = os.replace, []

    def dies(source, target):
        calls.append(target)
        if len(calls) > moment:
            raise KeyboardInterrupt
        replace(source, target)

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", dies)
        with pytest.raises(KeyboardInterrupt):
            exported(tmp_path, "refined", "new card")
    found = content(to)
    assert found.keys() == {*EXPORT, "notes.txt"}
    assert found["model.safetensors"] in ("weights", "refined")
    exported(tmp_path, "refined", "new card")
    new = {**EXPORT, "notes.txt": "mine", "model.safetensors": "refined", "README.md": "new card"}
    assert content(to) == new
    assert all(is_as_written(to, name, read_list(to)) for name in EXPORT)


def test_a_folder_without_a_list_gets_none(tmp_path):
    with adding(tmp_path, "a.txt"):
        written(tmp_path, {"a.txt": "a"})
    assert read_list(tmp_path) == {}
