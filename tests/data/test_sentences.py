"""Sentences of a stream: nothing twice, nothing lost but scraps, ends where sentences end, steps independent."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from autodistil.data.batch import PADDING
from autodistil.data.sequences import MIN_TOKENS, Sentences, length_grouped_indices, sentence_end_ids
from autodistil.data.tokens import TokenStream, separator_ids
from autodistil.errors import CorpusError
from autodistil.models.teacher import load_teacher

END, FIRST, LAST = 1, 2, 3


def sentences_of(tmp_path, tokens, seq_len=20):
    path = tmp_path / "train.bin"
    np.array(tokens, dtype=np.uint16).tofile(path)
    return Sentences(TokenStream(path, "uint16", len(tokens)), seq_len, [FIRST], [LAST], np.array([END]))


@settings(deadline=None, max_examples=50)
@given(st.lists(st.sampled_from([END, *range(10, 30)]), min_size=40, max_size=200), st.integers(2 * MIN_TOKENS + 2, 40))
def test_sentences_cover_the_stream_in_order_but_for_scraps(tmp_path_factory, tokens, seq_len):
    tokens = [*range(10, 10 + MIN_TOKENS), END, *tokens]
    sentences = sentences_of(tmp_path_factory.mktemp("stream"), tokens, seq_len)
    covered = np.concatenate([np.arange(*span) for span in sentences.spans])
    assert (np.diff(covered) > 0).all()
    for first, last in sentences.spans:
        assert MIN_TOKENS <= last - first <= seq_len - 2
        assert END not in tokens[first : last - 1]
    ends = [0, *[i + 1 for i, token in enumerate(tokens) if token == END], len(tokens)]
    for first, last in pairwise(ends):
        if MIN_TOKENS <= last - first <= seq_len - 2:
            assert (sentences.spans == [first, last]).all(1).any()


def test_texts_are_framed_and_padded(tmp_path):
    sentences = sentences_of(tmp_path, [*range(10, 17), END, *range(20, 24), END])
    assert sentences.take(np.arange(2)).tolist() == [
        [FIRST, *range(10, 17), END, LAST],
        [FIRST, *range(20, 24), END, LAST, *[PADDING] * 3],
    ]


def test_steps_see_every_sentence_once_an_epoch_with_like_lengths(tmp_path):
    generator = np.random.default_rng(0)
    tokens = [token for _ in range(320) for token in [*[10] * generator.integers(5, 60), END]]
    sentences = sentences_of(tmp_path, tokens, 70)
    steps = [length_grouped_indices(sentences, 4, step, seed=5) for step in range(80)]
    assert sorted(np.concatenate(steps).tolist()) == list(range(320))
    lengths = [np.diff(sentences.spans[step], axis=1) for step in steps]
    assert np.mean([spread.max() - spread.min() for spread in lengths]) < 10
    assert np.corrcoef(range(16), [part.mean() for part in lengths[:16]])[0, 1] < 0.9  # in random order
    assert not np.array_equal(steps[0], length_grouped_indices(sentences, 4, 0, seed=6))


def test_sentences_of_the_real_tokenizer(tmp_path):
    tokenizer = load_teacher().tokenizer
    ends = sentence_end_ids(tokenizer, separator_ids(tokenizer))
    assert {".", "!", "?", "[SEP]"} <= set(tokenizer.convert_ids_to_tokens(ends.tolist()))
    assert not {",", "the", "##s"} & set(tokenizer.convert_ids_to_tokens(ends.tolist()))
    ids = tokenizer("How good is it? A small student is better than none. No.", add_special_tokens=False)["input_ids"]
    path = tmp_path / "train.bin"
    np.array(ids, dtype=np.uint16).tofile(path)
    sentences = Sentences(TokenStream(path, "uint16", len(ids)), 64, [101], [102], ends)
    texts = [tokenizer.decode([i for i in row if i != PADDING]) for row in sentences.take(np.arange(len(sentences)))]
    assert texts == ["[CLS] how good is it? [SEP]", "[CLS] a small student is better than none. [SEP]"]


def test_streams_without_sentences_are_refused(tmp_path):
    with pytest.raises(CorpusError, match="no sentence"):
        sentences_of(tmp_path, [END] * 30)
    with pytest.raises(CorpusError, match="allowed: 12 or more"):
        sentences_of(tmp_path, [10] * 30, seq_len=6)
