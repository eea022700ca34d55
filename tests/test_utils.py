"""What every room may use."""

import os

import pytest
from safetensors import SafetensorError

from autodistil.errors import RunError
from autodistil.utils import atomic_path, check_sum, disk_errors, shown, write_text


@pytest.mark.parametrize(
    ("value", "others_see"),
    [
        ("/home/me/secret/corpus.txt", "corpus.txt"),
        ("~/texts/*.md", "*.md"),
        ("../other/texts", "texts"),
        ("C:\\Users\\me\\corpus.txt", "corpus.txt"),
        ("laptop=/home/me/table.json", "laptop=table.json"),
        ("laptop=table.json", "laptop=table.json"),
        ("postgresql+psycopg://me:word@host:5432/studies?sslmode=require", "postgresql+psycopg://.../studies"),
        ("postgresql://me@host", "postgresql://.../"),
        ("sqlite:////home/me/study.db", "sqlite://.../study.db"),
        ("hf:org/texts", "hf:org/texts"),
        ("org/teacher", "org/teacher"),
        ("texts/corpus.txt", "texts/corpus.txt"),
        ("relation-kl+0.5*embedding-similarity", "relation-kl+0.5*embedding-similarity"),
        ("/", "/"),
        (["/a/b.txt", "python-docs"], ["b.txt", "python-docs"]),
        (("/a/b.txt",), ["b.txt"]),
        (None, None),
        (3, 3),
    ],
)
def test_others_are_shown_no_folders_and_no_addresses(value, others_see):
    assert shown(value) == others_see


def test_a_file_that_is_not_what_was_written_is_told_by_its_checksum(tmp_path):
    path = tmp_path / "a file.csv"
    path.write_text("of an earlier release")
    check_sum(path)
    write_text(path, "whole content", summed=True)
    check_sum(path)
    for damaged in ("whole cont", "whole cOntent", "", "whole content "):
        path.write_text(damaged)
        with pytest.raises(ValueError, match="checksum differs"):
            check_sum(path)
    write_text(path, "other content", summed=True)
    check_sum(path)


def test_killed_before_the_file_is_replaced_what_was_there_is_whole(tmp_path, monkeypatch):
    path = write_text(tmp_path / "file.csv", "first", summed=True)
    replace = os.replace
    monkeypatch.setattr(os, "replace", lambda source, target: replace(source, target) if target != path else dies())
    for content in ("second", "third"):
        with pytest.raises(KeyboardInterrupt):
            write_text(path, content, summed=True)
        assert path.read_text() == "first"
        check_sum(path)


def dies():
    raise KeyboardInterrupt


@pytest.mark.parametrize("kind", [SafetensorError, Exception])
def test_what_safetensors_and_tokenizers_say_of_a_full_disk_is_a_full_disk(kind, tmp_path):
    error = kind("Error while serializing: I/O error: No space left on device (os error 28)")
    with pytest.raises(RunError, match="the disk is full"), atomic_path(tmp_path / "file"):
        raise error
    with pytest.raises(SafetensorError), disk_errors(tmp_path):
        raise SafetensorError("header too large")
    assert not list(tmp_path.iterdir())
