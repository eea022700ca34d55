"""Sentences of a stream: nothing twice, nothing lost but scraps, ends where sentences end, steps independent."""

from collections import Counter
from itertools import pairwise

import numpy as np
import pytest
from autodistil_helpers import END, FIRST, LAST, sentences_of
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers_helpers import byte_level_bpe, unigram
from transformers import ByT5Tokenizer

from autodistil.data.batch import PADDING
from autodistil.data.sequences import MIN_TOKENS, Sentences, length_grouped_indices
from autodistil.data.tokens import ids_and_ends, token_ids, tokenize_corpus
from autodistil.errors import CorpusError


def texts_of(sentences):
    return [tuple(row[row != PADDING].tolist()) for row in sentences.take(np.arange(len(sentences)))]


@settings(deadline=None, max_examples=50)
@given(st.lists(st.sampled_from([END, *range(10, 30)]), min_size=40, max_size=200), st.integers(2 * MIN_TOKENS + 2, 40))
def test_sentences_cover_the_stream_in_order_but_for_scraps_and_copies(tmp_path_factory, tokens, seq_len):
    tokens = [*range(10, 10 + MIN_TOKENS), END, *tokens]
    sentences = sentences_of(tmp_path_factory.mktemp("stream"), tokens, seq_len)
    covered = np.concatenate([np.arange(*span) for span in sentences.spans])
    assert (np.diff(covered) > 0).all()
    for first, last in sentences.spans:
        assert MIN_TOKENS <= last - first <= seq_len - 2
        assert END not in tokens[first : last - 1]
    found = texts_of(sentences)
    ends = [0, *[i + 1 for i, token in enumerate(tokens) if token == END], len(tokens)]
    for first, last in pairwise(ends):
        if MIN_TOKENS <= last - first <= seq_len - 2:
            assert (FIRST, *tokens[first:last], LAST) in found


few_sentences = st.lists(
    st.lists(st.sampled_from([10, 11]), min_size=MIN_TOKENS, max_size=MIN_TOKENS + 2).map(tuple),
    min_size=1,
    max_size=40,
)


@settings(deadline=None, max_examples=50)
@given(few_sentences, few_sentences, st.integers(1, 12), st.integers(0, 60), st.integers(0, 2**70))
def test_no_batch_has_a_sentence_twice_or_one_that_is_held_out(tmp_path_factory, own, held, batch_size, step, seed):
    folder = tmp_path_factory.mktemp("stream")
    heldout = sentences_of(folder, [token for sentence in held for token in (*sentence, END)], name="heldout")
    assert len(heldout) == len(set(held))
    tokens = [token for sentence in (*own, (20,) * MIN_TOKENS) for token in (*sentence, END)]
    train = sentences_of(folder, tokens, without=heldout)
    expected = {(FIRST, *sentence, END, LAST) for sentence in {*own, (20,) * MIN_TOKENS} - set(held)}
    assert sorted(texts_of(train)) == sorted(expected)
    batch = length_grouped_indices(train, batch_size, step, seed)
    assert len(set(batch.tolist())) == len(batch) == min(batch_size, len(train))


@settings(deadline=None, max_examples=20)
@given(st.integers(1, 200), st.integers(1, 70), st.integers(0, 3))
def test_an_epoch_has_every_sentence_once_but_for_less_than_a_batch(stream_of_numbers, count, batch_size, seed):
    sentences = stream_of_numbers(count)
    steps = count // min(batch_size, count)
    for epoch in range(3):
        drawn = [length_grouped_indices(sentences, batch_size, epoch * steps + step, seed) for step in range(steps)]
        every = np.concatenate(drawn)
        assert len(set(every.tolist())) == len(every) > count - min(batch_size, count)


@pytest.fixture(scope="module")
def stream_of_numbers(tmp_path_factory):
    """Different sentences of several lengths."""
    folder = tmp_path_factory.mktemp("streams")

    def make(count):
        rows = [[10 + i % 100, 10 + i // 100, *[200] * (MIN_TOKENS + i % 7), END] for i in range(count)]
        return sentences_of(folder, [token for row in rows for token in row])

    return make


def test_texts_are_framed_and_padded(tmp_path):
    sentences = sentences_of(tmp_path, [*range(10, 17), END, *range(20, 24), END])
    assert sentences.take(np.arange(2)).tolist() == [
        [FIRST, *range(10, 17), END, LAST],
        [FIRST, *range(20, 24), END, LAST, *[PADDING] * 3],
    ]


def test_steps_see_every_sentence_once_an_epoch_with_like_lengths(tmp_path):
    generator = np.random.default_rng(0)
    tokens = [token for i in range(320) for token in [10 + i, *[9] * generator.integers(5, 60), END]]
    sentences = sentences_of(tmp_path, tokens, 70)
    steps = [length_grouped_indices(sentences, 4, step, seed=5) for step in range(80)]
    assert sorted(np.concatenate(steps).tolist()) == list(range(320))
    lengths = [np.diff(sentences.spans[step], axis=1) for step in steps]
    assert np.mean([spread.max() - spread.min() for spread in lengths]) < 10
    assert np.corrcoef(range(16), [part.mean() for part in lengths[:16]])[0, 1] < 0.9  # in random order
    assert not np.array_equal(steps[0], length_grouped_indices(sentences, 4, 0, seed=6))


# ---- where sentences end in a text

SENTENCES = [
    'Python 3.12 is at python.org, e.g. as "os.path".',
    "How good is it?",
    'It says "no!"',
    "(So we stop.)",
    "No more",
]
WITHOUT_SPACES = ["这是一个句子。", "这是另一个"]


@pytest.mark.parametrize("kind", ["wordpiece", "bytes", "unigram", "slow"])
def test_sentences_end_in_the_text_never_inside_a_word_or_number(kind, minilm_tokenizer):
    make = {"wordpiece": lambda: minilm_tokenizer, "bytes": byte_level_bpe, "unigram": unigram, "slow": ByT5Tokenizer}
    tokenizer = make[kind]()
    for sentences, between in [(SENTENCES, " "), *([] if kind == "unigram" else [(WITHOUT_SPACES, "")])]:
        text = between.join(sentences)
        ((ids, ends),) = ids_and_ends(tokenizer, [text])
        assert ids == token_ids(tokenizer, [text])[0]
        shown = [tokenizer.decode(ids[first:last]) for first, last in pairwise([0, *ends, len(ids)])]
        expected = [tokenizer.decode(token_ids(tokenizer, [sentence])[0]) for sentence in sentences]
        assert ["".join(text.split()) for text in shown] == ["".join(text.split()) for text in expected]


@pytest.mark.parametrize("stop", ["", "."])
def test_a_text_has_each_special_token_once_whether_or_not_it_ends_with_a_stop(
    stop, minilm_tokenizer, prose, write_text, tmp_path
):
    path = write_text([f"{document}{stop}" for document in prose(200, 9)])
    corpus = tokenize_corpus([path], minilm_tokenizer, cache_dir=tmp_path / "cache")
    cls, sep = minilm_tokenizer.cls_token_id, minilm_tokenizer.sep_token_id
    sentences = Sentences(corpus.train, 64, [cls], [sep])
    for text in texts_of(sentences):
        assert (Counter(text)[cls], Counter(text)[sep]) == (1, 1)


def test_documents_are_whole_or_their_beginning_each_once(minilm_tokenizer, write_text, tmp_path):
    """Stops and repeated words within them do not matter; a document that is held out is not trained on."""
    documents = [f"Number {i} is here. It is a house. {'And so on. ' * (i % 9)}" for i in range(300)]
    path = write_text([*documents, *documents[:20], "Too short."])
    corpus = tokenize_corpus([path], minilm_tokenizer, cache_dir=tmp_path / "cache")
    cls, sep = minilm_tokenizer.cls_token_id, minilm_tokenizer.sep_token_id
    heldout = Sentences(corpus.heldout, 24, [cls], [sep], whole=True)
    train = Sentences(corpus.train, 24, [cls], [sep], heldout, whole=True)
    expected = minilm_tokenizer(documents, truncation=True, max_length=24)["input_ids"]
    assert sorted(texts_of(train) + texts_of(heldout)) == sorted(map(tuple, expected))
    assert texts_of(train.only(np.arange(3, 9)).only(np.array([1, 4]))) == texts_of(train)[4:8:3]


def test_a_corpus_of_one_long_document_keeps_its_sentences(minilm_tokenizer, prose, write_text, tmp_path):
    path = write_text([" ".join(f"{sentence}." for sentence in prose(150, 9))])
    corpus = tokenize_corpus([path], minilm_tokenizer, cache_dir=tmp_path / "cache")
    dot = minilm_tokenizer.convert_tokens_to_ids(".")
    for stream in (corpus.train, corpus.heldout):
        found = texts_of(Sentences(stream, 64, [], []))
        assert all(text.count(dot) == 1 and text[-1] == dot for text in found[:-1])
        assert len(found) > 20


def test_streams_without_sentences_are_refused(tmp_path):
    with pytest.raises(CorpusError, match="no sentence"):
        sentences_of(tmp_path, [END] * 30)
    with pytest.raises(CorpusError, match="allowed: 12 or more"):
        sentences_of(tmp_path, [10] * 30, seq_len=6)
