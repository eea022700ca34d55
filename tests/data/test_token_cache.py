"""Tokenised corpora: the split into training and held-out text, and a cache that is whole or not there."""

import errno
import json
import logging
import os
import pickle
import time
from concurrent.futures import ThreadPoolExecutor
from itertools import chain
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from autodistil.data import cache, tokens
from autodistil.data.cache import default_cache_dir
from autodistil.data.tokens import (
    TokenStream,
    separator_ids,
    special_affixes,
    token_ids,
    tokenize_corpus,
    tokenizer_fingerprint,
)
from autodistil.errors import CorpusError


def split(stream: TokenStream, separator: int) -> list[tuple[int, ...]]:
    """The documents of a stream."""
    assert stream.tokens[-1] == separator
    parts = np.split(stream.tokens, np.flatnonzero(stream.tokens == separator) + 1)
    return [tuple(part[:-1].tolist()) for part in parts[:-1]]


@pytest.fixture
def corpus(tmp_path, word_tokenizer, prose, write_text):
    """Tokenises 300 documents of 20 words: `corpus(**options)`."""
    path = write_text(prose(300, 20))

    def make(**options):
        return tokenize_corpus([path], word_tokenizer, cache_dir=tmp_path / "cache", **options)

    return make


# The split


def test_every_document_is_on_one_side_once(tmp_path, minilm_tokenizer, prose, write_text):
    texts = prose(500, 30)
    path = write_text(texts + texts[:100])
    result = tokenize_corpus([path, path], minilm_tokenizer, cache_dir=tmp_path, min_heldout_tokens=200)
    separator = minilm_tokenizer.sep_token_id
    train, heldout = split(result.train, separator), split(result.heldout, separator)
    assert sorted(train + heldout) == sorted(map(tuple, token_ids(minilm_tokenizer, texts)))
    assert 0 < len(heldout) < 50
    assert result.description == f"{path}, {path}: 500 documents, {len(result.train) + len(result.heldout):,} tokens"


@settings(max_examples=5)
@given(order=st.randoms(use_true_random=False), documents=st.integers(40, 80))
def test_split_does_not_depend_on_the_order(minilm_tokenizer, tmp_path_factory, order, documents):
    folder = tmp_path_factory.mktemp("order")
    texts = [f"Document {i} is one of those that are read in any order. " * 4 for i in range(documents)]
    sides = []
    for name in ("a.txt", "b.txt"):
        (folder / name).write_text("\n\n".join(texts))
        result = tokenize_corpus([str(folder / name)], minilm_tokenizer, cache_dir=folder, min_heldout_tokens=100)
        sides.append([sorted(split(part, minilm_tokenizer.sep_token_id)) for part in (result.train, result.heldout)])
        order.shuffle(texts)
    assert sides[0] == sides[1]
    assert sum(map(len, sides[0])) == documents


@settings(max_examples=30)
@given(documents=st.integers(1, 60), words=st.integers(1, 400), wanted=st.integers(1, 5000))
def test_small_corpora_are_held_out_from_too(word_tokenizer, tmp_path_factory, documents, words, wanted):
    folder = tmp_path_factory.mktemp("small")
    texts = [" ".join(tokens_of(word_tokenizer, words, seed)) for seed in range(documents)]
    (folder / "a.txt").write_text("\n\n".join(texts))

    def tokenized():
        return tokenize_corpus([str(folder / "a.txt")], word_tokenizer, cache_dir=folder, min_heldout_tokens=wanted)

    total = len({*texts}) * words
    if total < tokens.MIN_TOKENS:
        with pytest.raises(CorpusError, match=f"has {total:,} tokens; needed: 1,024"):
            tokenized()
        return
    result = tokenized()
    assert len(result.train) + len(result.heldout) == total
    assert len(result.heldout) >= min(wanted, total // 4)
    assert len(result.train) >= total // 2
    both = np.sort(np.concatenate([result.train.tokens, result.heldout.tokens]))
    assert np.array_equal(both, np.sort(list(chain.from_iterable(token_ids(word_tokenizer, texts)))))


def tokens_of(tokenizer, count, seed):
    words = sorted(tokenizer.get_vocab())
    return [words[i] for i in np.random.default_rng(seed).integers(2, len(words), count)]


def test_one_long_line_is_cut(tmp_path, word_tokenizer, prose, write_text):
    path = write_text(prose(1, 1500))
    result = tokenize_corpus([path], word_tokenizer, cache_dir=tmp_path)
    assert len(result.heldout) == 375
    whole = token_ids(word_tokenizer, [Path(path).read_text()])[0]
    assert [*result.train.tokens, *result.heldout.tokens] == whole


def test_more_is_held_out_of_a_larger_share(corpus, monkeypatch):
    monkeypatch.setattr(tokens, "HELDOUT_SHARE", 0.1)
    small = corpus(min_heldout_tokens=1)
    monkeypatch.setattr(tokens, "HELDOUT_SHARE", 0.4)
    large = corpus(min_heldout_tokens=1)
    assert len(small.heldout) < len(large.heldout)
    assert small.fingerprint != large.fingerprint


def test_one_word_is_too_small(tmp_path, minilm_tokenizer, write_text):
    with pytest.raises(CorpusError, match="has 2 tokens; needed: 1,024 or more"):
        tokenize_corpus([write_text(["word"])], minilm_tokenizer, cache_dir=tmp_path)
    assert list((tmp_path / "tokens").iterdir()) == []


def test_repeated_text_counts_once(tmp_path, minilm_tokenizer, write_text):
    with pytest.raises(CorpusError, match="has 7 tokens"):
        tokenize_corpus([write_text(["The same text over again."] * 1000)], minilm_tokenizer, cache_dir=tmp_path)


# Tokenising


def test_no_warnings_and_no_truncation_of_long_documents(tmp_path, minilm_tokenizer, write_text, caplog, recwarn):
    path = write_text(["many words here " * 1000, "short " * 2000])
    with caplog.at_level(logging.WARNING):
        result = tokenize_corpus([path], minilm_tokenizer, cache_dir=tmp_path)
    assert len(result.train) + len(result.heldout) == 3000 + 2000 + 2
    assert not caplog.records
    assert not recwarn.list


def test_state_of_the_tokenizer_does_not_matter(minilm_tokenizer):
    before = tokenizer_fingerprint(minilm_tokenizer)
    expected = token_ids(minilm_tokenizer, ["word " * 600])
    minilm_tokenizer("word " * 600, truncation=True, max_length=8, padding="max_length")
    assert tokenizer_fingerprint(minilm_tokenizer) == before
    assert token_ids(minilm_tokenizer, ["word " * 600]) == expected


def test_affixes(minilm_tokenizer, word_tokenizer):
    cls, sep = minilm_tokenizer.cls_token_id, minilm_tokenizer.sep_token_id
    assert special_affixes(minilm_tokenizer) == ([cls], [sep])
    assert separator_ids(minilm_tokenizer) == [sep]
    assert special_affixes(word_tokenizer) == ([], [])
    assert separator_ids(word_tokenizer) == []


def test_progress_counts_documents_and_tokens(corpus, monkeypatch):
    monkeypatch.setattr(tokens, "BATCH_CHARACTERS", 5000)
    seen = []
    result = corpus(progress=lambda *counts: seen.append(counts), min_heldout_tokens=1)
    assert seen == sorted(seen)
    assert len(seen) > 2
    assert seen[-1] == (300, len(result.train) + len(result.heldout))
    corpus(progress=lambda *counts: pytest.fail("read from the cache"), min_heldout_tokens=1)


def test_wide_vocabularies_take_four_bytes(corpus, monkeypatch):
    assert corpus().train.dtype == "uint16"
    monkeypatch.setattr(tokens, "vocabulary_size", lambda tokenizer: (1 << 16) + 1)
    monkeypatch.setattr(tokens, "FORMAT", 0)
    assert corpus().train.dtype == "uint32"


def test_streams_pickle_as_paths(corpus):
    stream = corpus().train
    assert len(stream.tokens) == len(stream)
    copied = pickle.dumps(stream)
    assert len(copied) < 1000
    assert np.array_equal(pickle.loads(copied).tokens, stream.tokens)


# The fingerprint


def test_same_text_elsewhere_has_the_same_content_but_another_fingerprint(tmp_path, word_tokenizer, prose, write_text):
    first, second = (
        tokenize_corpus([write_text(prose(100, 20), name)], word_tokenizer, cache_dir=tmp_path)
        for name in ("a.txt", "b.txt")
    )
    assert first.content_hash == second.content_hash
    assert first.fingerprint != second.fingerprint


def test_changed_file_and_other_tokenizer_change_the_fingerprint(
    tmp_path, word_tokenizer, minilm_tokenizer, prose, write_text
):
    path = write_text(prose(100, 20))
    fingerprints = [tokenize_corpus([path], word_tokenizer, cache_dir=tmp_path).fingerprint]
    fingerprints.append(tokenize_corpus([path], minilm_tokenizer, cache_dir=tmp_path).fingerprint)
    os.utime(path, ns=(1, 1))
    fingerprints.append(tokenize_corpus([path], word_tokenizer, cache_dir=tmp_path).fingerprint)
    write_text(prose(100, 20, seed=1))
    changed = tokenize_corpus([path], word_tokenizer, cache_dir=tmp_path)
    assert len({*fingerprints, changed.fingerprint}) == 4


# The cache


def entry(corpus):
    return corpus.train.path.parent


@pytest.mark.parametrize(
    "damage",
    [
        lambda folder: (folder / "train.bin").write_bytes(b"short"),
        lambda folder: (folder / "train.bin").unlink(),
        lambda folder: (folder / "heldout.bin").write_bytes(bytes((folder / "heldout.bin").stat().st_size)),
        lambda folder: (folder / "meta.json").unlink(),
        lambda folder: (folder / "meta.json").write_text("{"),
        lambda folder: (folder / "meta.json").write_text("[]"),
        lambda folder: (folder / "meta.json").write_text(json.dumps({"files": {"train.bin": {}}})),
        lambda folder: (folder / "meta.json").write_bytes(b"\xff"),
    ],
)
def test_damaged_entry_is_built_again(corpus, damage):
    first = corpus()
    expected = first.train.tokens.tolist(), first.heldout.tokens.tolist()
    damage(entry(first))
    again = corpus()
    assert (again.train.tokens.tolist(), again.heldout.tokens.tolist()) == expected
    assert again == first
    assert [path.name for path in entry(first).parent.iterdir()] == [first.fingerprint]


def test_file_in_place_of_an_entry_is_replaced(corpus):
    first = corpus()
    for path in entry(first).iterdir():
        path.unlink()
    entry(first).rmdir()
    entry(first).write_text("in the way")
    assert corpus() == first


def test_large_files_are_checked_by_size(corpus, monkeypatch):
    monkeypatch.setattr(cache, "FULL_CHECK_BYTES", 10)
    first = corpus()
    monkeypatch.setattr(cache, "_size_and_digest", lambda path: pytest.fail("read"))
    assert corpus() == first


def test_interrupted_build_leaves_nothing(corpus, tmp_path):
    def interrupt(documents, token_count):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        corpus(progress=interrupt)
    assert list((tmp_path / "cache" / "tokens").iterdir()) == []


def test_what_killed_builds_left_is_removed_after_a_day(corpus, tmp_path):
    root = tmp_path / "cache" / "tokens"
    for name, age in (("old", 2 * 86400), ("new", 60)):
        folder = root / f".building-{name}"
        folder.mkdir(parents=True)
        (folder / "train.bin").touch()
        for path in (folder / "train.bin", folder):
            os.utime(path, (time.time() - age,) * 2)
    corpus()
    assert [path.name for path in root.glob(".building-*")] == [".building-new"]


def test_concurrent_writers_agree(corpus, caplog):
    with ThreadPoolExecutor(4) as pool:
        results = list(pool.map(lambda _: corpus(), range(8)))
    assert len({result.content_hash for result in results}) == 1
    assert os.listdir(entry(results[0]).parent) == [results[0].fingerprint]


def test_entry_of_a_faster_writer_stays(tmp_path):
    target = tmp_path / "entry"
    with cache.new_entry(target) as ours:
        (ours / "data").write_text("ours")
        cache.seal(ours, {"by": "us"})
        with cache.new_entry(target) as theirs:
            (theirs / "data").write_text("theirs")
            cache.seal(theirs, {"by": "them"})
    meta = cache.read_entry(target)
    assert meta is not None
    assert meta["by"] == "them"
    assert os.listdir(tmp_path) == ["entry"]


def test_cache_of_which_a_part_is_a_file(corpus, tmp_path):
    (tmp_path / "cache").write_text("in the way")
    with pytest.raises(CorpusError, match=r"the cache .* cannot be written: .*AUTODISTIL_CACHE") as caught:
        corpus()
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("number", [errno.EACCES, errno.EROFS, errno.ENOSPC])
def test_cache_that_refuses(corpus, monkeypatch, number):
    def refuse(*args, **kwargs):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr("tempfile.mkdtemp", refuse)
    with pytest.raises(CorpusError, match=os.strerror(number)):
        corpus()


def test_disk_that_fills_up_is_not_blamed_on_the_source(corpus, monkeypatch, tmp_path):
    def full(*args, **kwargs):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(cache, "seal", full)
    with pytest.raises(CorpusError, match=r"the cache .*No space left"):
        corpus()
    assert list((tmp_path / "cache" / "tokens").iterdir()) == []


def test_existing_entry_needs_no_writing(corpus, monkeypatch):
    first = corpus()
    monkeypatch.setattr("tempfile.mkdtemp", lambda *args, **kwargs: pytest.fail("written"))
    assert corpus() == first


def test_place_of_the_cache(monkeypatch, tmp_path):
    monkeypatch.setenv("AUTODISTIL_CACHE", "~/x")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert default_cache_dir() == tmp_path / "x"
    monkeypatch.delenv("AUTODISTIL_CACHE")
    assert default_cache_dir() == tmp_path / ".cache" / "autodistil"
