"""What every room may use."""

import os

import pytest
from hypothesis import given
from hypothesis import strategies as st
from safetensors import SafetensorError

from autodistil.errors import RunError, one_line, one_line_named
from autodistil.utils import atomic_path, check_sum, disk_errors, shown, write_text


@given(st.text(), st.integers(1, 60))
def test_what_an_error_says_is_cut_between_words(text, most):
    words, said = text.split(), one_line(ValueError(text), most)
    assert said == " ".join(words) or (said.endswith(" ...") and len(said) <= most + 4)
    assert said.splitlines() in ([said], [])
    kept = said.removesuffix(" ...").split()
    assert kept == words[: len(kept)] or len(kept) == 1


def test_an_address_is_whole_or_left_out():
    address = "https://example.org/" + "a" * 40
    error = OSError(f"the server said no to\n{address}")
    assert one_line(error, 200) == f"the server said no to {address}"
    assert one_line(error, 50) == "the server said no to ..."
    assert one_line_named(error, 30) == "OSError: the server said no to ..."


@pytest.mark.parametrize(
    ("value", "others_see"),
    [
        ("/home/me/secret/corpus.txt", "corpus.txt"),
        ("~/texts/*.md", "*.md"),
        ("../other/texts", "texts"),
        ("C:\\Users\\me\\corpus.txt", "corpus.txt"),
        ("laptop=/home/me/table.json", "laptop=table.json"),
        ("2*/home/me/model", "2*model"),
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
