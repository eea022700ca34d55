"""Text in any form becomes the same tokens; held-out text is never trained on; batches cover each epoch exactly."""

import gzip
import json
import lzma

import numpy as np
import pytest
from transformers import AutoTokenizer

from autodistil.data.sequences import PackedSequences, batch_indices
from autodistil.data.sources import iter_documents
from autodistil.data.tokens import special_affixes, tokenize_corpus
from autodistil.errors import CorpusError

SENTENCE = (
    "The quick brown fox jumps over the lazy dog while number {} is counted by the patient librarian of the town. "
)


def documents(count=400):
    return [SENTENCE.format(i) * 3 for i in range(count)]


@pytest.fixture(scope="module")
def tokenizer(quickstart_teacher_dir):
    return AutoTokenizer.from_pretrained(quickstart_teacher_dir)


def write(path, texts):
    kind = path.suffixes[0]
    if kind == ".jsonl":
        content = "".join(json.dumps({"id": i, "text": text}) + "\n" for i, text in enumerate(texts))
    elif kind == ".csv":
        content = "text\n" + "".join(f'"{text}"\n' for text in texts)
    else:
        content = "\n\n".join(texts)
    opener = {".xz": lzma.open, ".gz": gzip.open}.get(path.suffix, open)
    with opener(path, "wt", encoding="utf-8") as file:
        file.write(content)
    return path


@pytest.mark.parametrize("name", ["a.txt", "a.txt.xz", "a.txt.gz", "a.jsonl", "a.jsonl.gz", "a.csv"])
def test_every_form_yields_the_same_documents(tmp_path, name):
    path = write(tmp_path / name, documents(20))
    assert [text.strip() for text in iter_documents([str(path)])] == [text.strip() for text in documents(20)]


def test_folders_and_globs(tmp_path):
    write(tmp_path / "a.txt", documents(3))
    write(tmp_path / "b.jsonl", documents(2))
    assert len(list(iter_documents([str(tmp_path)]))) == 5
    assert len(list(iter_documents([str(tmp_path / "*.txt")]))) == 3


def test_tokens_are_cached_and_heldout_text_is_apart(tmp_path, tokenizer):
    path = write(tmp_path / "a.txt", documents())
    first = tokenize_corpus([str(path)], tokenizer, cache_dir=tmp_path / "cache")
    again = tokenize_corpus([str(path)], tokenizer, cache_dir=tmp_path / "cache")
    assert first.fingerprint == again.fingerprint
    assert np.array_equal(first.train.tokens, again.train.tokens)
    train, heldout = (tokenizer.decode(part.tokens) for part in (first.train, first.heldout))
    numbers = [{int(word) for word in text.split() if word.isdigit()} for text in (train, heldout)]
    assert numbers[0].isdisjoint(numbers[1])
    assert numbers[0] | numbers[1] == set(range(400))
    write(path, documents(401))
    assert tokenize_corpus([str(path)], tokenizer, cache_dir=tmp_path / "cache").fingerprint != first.fingerprint


def test_a_damaged_cache_is_built_again(tmp_path, tokenizer):
    path = write(tmp_path / "a.txt", documents())
    first = tokenize_corpus([str(path)], tokenizer, cache_dir=tmp_path / "cache")
    expected = np.array(first.train.tokens)
    for file in (tmp_path / "cache").rglob("train.bin"):
        file.write_bytes(b"damaged")
    again = tokenize_corpus([str(path)], tokenizer, cache_dir=tmp_path / "cache")
    assert np.array_equal(again.train.tokens, expected)


def test_one_giant_line_streams_in_pieces(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text(SENTENCE * 5000)
    pieces = list(iter_documents([str(path)]))
    assert max(map(len, pieces)) < 40_000
    assert " ".join(" ".join(pieces).split()) == " ".join((SENTENCE * 5000).split())


def test_packed_sequences_hold_the_stream(tmp_path, tokenizer):
    corpus = tokenize_corpus([str(write(tmp_path / "a.txt", documents()))], tokenizer, cache_dir=tmp_path / "cache")
    prefix, suffix = special_affixes(tokenizer)
    packed = PackedSequences(corpus.train, 32, prefix, suffix)
    rows = packed.take(np.arange(len(packed)))
    assert rows.shape == (len(packed), 32)
    assert (rows[:, 0] == tokenizer.cls_token_id).all()
    assert (rows[:, -1] == tokenizer.sep_token_id).all()
    assert np.array_equal(rows[:, 1:-1].ravel(), corpus.train.tokens[: rows[:, 1:-1].size])


def test_batch_order_is_stateless_and_quick_to_reach():
    late = batch_indices(10_000_000, 64, 100_000, 0)
    assert np.array_equal(late, batch_indices(10_000_000, 64, 100_000, 0))
    assert not np.array_equal(late, batch_indices(10_000_000, 64, 100_000, 1))
    assert len(set(late.tolist())) == 64


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("empty.txt", b""),
        ("blank.txt", b" \n\n \n"),
        ("word.txt", b"word"),
        ("binary.txt", b"some text \x00\x01\x02 more"),
        ("latin.txt", "caf\u00e9 ".encode("latin-1") * 10),
        ("data.xyz", b"text " * 100),
        ("nothing.csv", b"id,number\n1,2\n"),
        ("half.txt.xz", lzma.compress(b"text " * 1000)[:-20]),
        ("no.txt.gz", b"not gzip"),
        ("bad.jsonl", b'{"text": "a"'),
    ],
)
def test_bad_text_is_one_clear_line(tmp_path, tokenizer, name, content):
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(CorpusError) as caught:
        tokenize_corpus([str(path)], tokenizer, cache_dir=tmp_path / "cache")
    assert "\n" not in str(caught.value)


def test_missing_text_is_named(tmp_path, tokenizer):
    with pytest.raises(CorpusError, match="nowhere"):
        tokenize_corpus([str(tmp_path / "nowhere.txt")], tokenizer, cache_dir=tmp_path / "cache")


def test_a_cache_that_cannot_be_written_is_an_error(tmp_path, tokenizer):
    path = write(tmp_path / "a.txt", documents())
    (tmp_path / "cache").write_text("a file in the way")
    with pytest.raises(CorpusError, match="cache"):
        tokenize_corpus([str(path)], tokenizer, cache_dir=tmp_path / "cache")


@pytest.mark.slow
def test_python_docs_read_as_english(tokenizer, tmp_path):
    corpus = tokenize_corpus(["python-docs"], tokenizer, cache_dir=tmp_path)
    assert len(corpus.train) > 300_000
    text = tokenizer.decode(corpus.heldout.tokens[:20_000])
    words = text.split()
    assert sum(word in {"the", "of", "a", "to", "is", "and", "in"} for word in words) > 0.12 * len(words)
    assert ">>>" not in text
