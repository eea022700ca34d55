"""What a user may name as a corpus: files, folders, globs, data sets; and names that stand for nothing."""

import glob
import os
import sys
from itertools import product
from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from autodistil.data import sources
from autodistil.data.sources import (
    TEXT,
    HubDataset,
    _matching,
    files_below,
    files_of,
    is_bare_name,
    iter_documents,
    parse_hub_dataset,
    resolve,
)
from autodistil.errors import CorpusError


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """The working folder, with a few files."""
    monkeypatch.chdir(tmp_path)
    files = {
        "b.txt": "b",
        "a/x.md": "x",
        "a/y.jsonl": '{"text": "y"}',
        "a/skip.png": "\0",
        ".git/z.txt": "z",
        "[1].txt": "1",
    }
    for name, text in files.items():
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
    return tmp_path


def message(*names):
    with pytest.raises(CorpusError) as caught:
        list(iter_documents(names))
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["."], "1xyb"),
        (["a"], "xy"),
        (["a/"], "xy"),
        (["b.txt", "a"], "bxy"),
        (["*.txt"], "1b"),
        (["**/*"], "1xyb"),
        (["a/*"], "xy"),
        (["[1].txt"], "1"),
        (["b.txt", "b.txt"], "bb"),
    ],
)
def test_files_folders_and_globs(folder, names, expected):
    assert "".join(iter_documents(names)) == expected


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
    """Files in folders four deep, hidden ones among them."""
    root = tmp_path_factory.mktemp("tree")
    for folders in product(["a", "b", ".h"], repeat=4):
        for depth in range(5):
            path = root.joinpath(*folders[:depth], "a.txt")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()
    return root


FOLDERS = ("**", "*", "a", "[ab]", ".h")
"""Parts of a glob before its last one: of what is behind a file the library finds the file itself."""


@settings(deadline=None, max_examples=60)
@given(st.lists(st.sampled_from(FOLDERS), max_size=4), st.sampled_from([*FOLDERS, "?.txt", "a.txt"]))
def test_globs_match_what_the_standard_library_matches(tree, folders, last):
    pattern = str(tree.joinpath(*folders, last))
    assume(glob.has_magic(pattern))

    def files(paths):
        return sorted({file for path in map(Path, paths) for file in ([path] if path.is_file() else files_below(path))})

    assert files(_matching(Path(pattern), pattern)) == files(glob.glob(pattern, recursive=True))


def test_a_glob_of_many_stars_takes_one_walk(tree):
    """`glob` goes through a folder once for each way to share its parents among them."""
    (tree / "loop").symlink_to(tree)
    assert len(files_of(tree / "/".join(["**"] * 300 + ["*.txt"]), "many", TEXT)) == 31
    assert len(files_of(tree / "/".join(["**/*"] * 3 + ["*.txt"]), "many", TEXT)) > 10
    with pytest.raises(CorpusError, match="not found"):
        files_of(tree / "/".join(["**/*"] * 200 + ["*.txt"]), "many", TEXT)


def test_a_glob_over_too_many_folders_is_refused(tree, monkeypatch):
    monkeypatch.setattr("autodistil.data.sources.MAX_FOLDERS", 10)
    with pytest.raises(
        CorpusError, match="is a glob over more than 10 folders; allowed: fewer; begin it with"
    ) as caught:
        files_of(tree / "**" / "*.txt", "all", TEXT)
    assert "\n" not in str(caught.value)


def test_a_single_name_is_no_list_of_letters(folder):
    assert list(iter_documents("b.txt")) == ["b"]


def test_home_folder(folder, monkeypatch):
    monkeypatch.setenv("HOME", str(folder))
    assert list(iter_documents(["~/b.txt"])) == ["b"]


def test_links_to_folders_are_followed_once(folder):
    (folder / "a" / "loop").symlink_to(folder / "a")
    (folder / "linked").symlink_to(folder / "a")
    (folder / "dangling.txt").symlink_to(folder / "nowhere.txt")
    assert sorted(iter_documents(["."])) == ["1", "b", "x", "y"]


def test_builtin_comes_before_a_file_of_its_name(folder, monkeypatch):
    (folder / "python-docs").mkdir()
    monkeypatch.setattr(sources, "python_docs", lambda: iter(["built in"]))
    assert list(iter_documents(["python-docs"])) == ["built in"]
    assert "no files" in message("./python-docs")


# Names that stand for nothing


def test_missing_file(folder):
    assert "did you mean 'b.txt'?" in message("bb.txt")
    assert "only '.' exists" in message("no/such/file.txt")
    assert "did you mean 'python-docs'?" in message("python-doc")


@pytest.mark.parametrize("name", ["*.csv", "a/*.png", "x" * 5000, "nul\0byte.txt", "", "  ", "a/missing.txt"])
def test_nothing_there(folder, name):
    assert "allowed: " in message(name) or "File name too long" in message(name)


def test_no_corpus(folder):
    assert "no corpus is given" in message()


def test_folder_without_text(folder):
    (folder / "empty").mkdir()
    assert "no files" in message("empty")
    (folder / "empty" / "a.png").write_text("")
    assert "holds images alone, this teacher reads text" in message("empty")
    (folder / "empty" / "b.exe").write_text("")
    assert "such as 'a.png'" in message("empty")


def test_empty_files_matter_only_when_all_are(folder):
    (folder / "a" / "empty.txt").write_text("")
    assert "".join(iter_documents(["a"])) == "xy"
    assert "'a/empty.txt' is empty" in message("b.txt", "a/empty.txt")


def test_neither_file_nor_folder(folder):
    os.mkfifo(folder / "pipe.txt")
    assert "neither a file nor a folder" in message("pipe.txt")


def test_unreadable_folder(folder, monkeypatch):
    def refuse(path):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(os, "scandir", refuse)
    assert "Permission denied" in message("a")


# Identity


def test_identity_changes_with_the_file(folder):
    def identity():
        return resolve(["b.txt"])[0].identity

    first = identity()
    assert first == identity()
    os.utime("b.txt", ns=(1, 1))
    second = identity()
    (folder / "b.txt").write_text("longer")
    os.utime("b.txt", ns=(1, 1))
    assert len({first, second, identity()}) == 3


def test_identity_of_a_folder_changes_with_its_files(folder):
    before = resolve(["a"])[0].identity
    (folder / "a" / "new.txt").write_text("new")
    assert resolve(["a"])[0].identity != before


# Hugging Face data sets


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("hf:imdb", HubDataset("imdb")),
        ("owner/name", HubDataset("owner/name")),
        ("hf:owner/name:test", HubDataset("owner/name", split="test")),
        ("hf:owner/name:train[:10%]", HubDataset("owner/name", split="train[:10%]")),
        ("hf:wikitext:wikitext-103-raw-v1", HubDataset("wikitext", config="wikitext-103-raw-v1")),
        ("hf:w:c:validation", HubDataset("w", config="c", split="validation")),
        ("hf:w:c:train[5:9]", HubDataset("w", config="c", split="train[5:9]")),
        ("hf:w@abc:c", HubDataset("w", "abc", "c")),
        ("hf:w::unsupervised", HubDataset("w", split="unsupervised")),
    ],
)
def test_names_of_data_sets(text, expected):
    assert parse_hub_dataset(text) == expected


@pytest.mark.parametrize("text", ["hf:", "hf::train", "hf:a:b:c:d", "hf:@x"])
def test_bad_names_of_data_sets(text):
    assert "names no Hugging Face data set" in message(text)


@given(st.text(max_size=20))
def test_any_name_is_read_or_refused(name):
    try:
        assert parse_hub_dataset(f"hf:{name}").name
    except CorpusError:
        assert not is_bare_name(name)


@pytest.fixture
def hub(monkeypatch):
    """Stands in for `datasets`; holds what it was asked for."""
    asked = []

    def load_dataset(name, config, **options):
        asked.append((name, config, options))
        if name == "owner/broken":
            raise ConnectionError("no network\nlong trace")
        return iter([{"label": 1, "text": "one"}, {"label": 0, "text": "two"}])

    monkeypatch.setitem(sys.modules, "datasets", SimpleNamespace(load_dataset=load_dataset))
    return asked


def test_data_set_is_streamed(folder, hub):
    assert list(iter_documents(["owner/name", "hf:other:config:test"])) == ["one", "two"] * 2
    assert hub == [
        ("owner/name", None, {"split": "train", "revision": None, "streaming": True}),
        ("other", "config", {"split": "test", "revision": None, "streaming": True}),
    ]


def test_data_set_that_cannot_be_had(folder, hub, monkeypatch):
    assert "cannot be read: no network;" in message("owner/broken")
    monkeypatch.setitem(sys.modules, "datasets", None)
    assert "pip install 'autodistil[data]'" in message("hf:owner/name")


def test_names_in_an_existing_folder_are_paths(folder, hub):
    assert "not found" in message("a/missing")
    assert hub == []
