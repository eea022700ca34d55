"""Each word is answered for by its first token, with tokenizers of every kind."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tokenizers_helpers import byte_level_bpe, packaged, unigram
from transformers import AutoTokenizer

from autodistil.errors import TeacherError
from autodistil.tasks.batching import TokenizedRows
from autodistil.tasks.words import UNSEEN, WordPlaces, first_tokens, words

WORD = st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=1, max_size=12)
TEXT = st.lists(WORD, max_size=6).map(" ".join)


@pytest.fixture(scope="module")
def tokenizers(quickstart_teacher_dir):
    return {"wordpiece": packaged(quickstart_teacher_dir), "bpe": byte_level_bpe(), "unigram": unigram()}


@pytest.mark.parametrize("kind", ["wordpiece", "bpe", "unigram"])
@given(text=TEXT)
def test_the_tokens_from_one_words_first_to_the_next_words_are_the_word(kind, text, tokenizers):
    offsets = tokenizers[kind](text, return_offsets_mapping=True)["offset_mapping"]
    found = first_tokens(text, offsets)
    assert len(found) == len(words(text))
    assert (found != UNSEEN).all()
    ends = [*found, len(offsets) - 1][1:]  # the last token is a special one
    for word, first, end in zip(words(text), found, ends, strict=True):
        assert text[offsets[first][0] : offsets[end - 1][1]].strip() == word


@given(text=TEXT)
def test_wordpiece_reads_words_as_if_they_came_one_by_one(text, tokenizers):
    """`is_split_into_words`, which Hugging Face's examples use, gives the same ids and the same first tokens."""
    whole = tokenizers["wordpiece"](text, return_offsets_mapping=True)
    split = tokenizers["wordpiece"](words(text), is_split_into_words=True)
    assert whole["input_ids"] == split["input_ids"]
    ids = split.word_ids()
    assert first_tokens(text, whole["offset_mapping"]).tolist() == [ids.index(i) for i in range(len(words(text)))]


def test_a_word_after_a_blank_is_read_as_one_in_running_text(tokenizers):
    """RoBERTa's tokenizer would read words that come one by one as if there were no blanks, and refuses to."""
    rows = TokenizedRows.of(tokenizers["bpe"], ["the list of the arguments"], None, 32, words=True)
    assert rows.ids[0] == tokenizers["bpe"]("the list of the arguments")["input_ids"]
    assert tokenizers["bpe"].convert_ids_to_tokens([rows.ids[0][rows.places.tokens[1]]])[0].startswith("Ġ")


def test_words_without_a_token_have_no_answer(tokenizers):
    texts = ["one \u200d two", "", "a b c d e f g h", "\u200d"]
    rows = TokenizedRows.of(tokenizers["wordpiece"], texts, None, 6, words=True)
    assert rows.seen.tolist() == [True, False, True, *[True] * 4, *[False] * 4, False]
    assert rows.places.counts.tolist() == [3, 0, 8, 1]
    assert rows.places.tokens.tolist() == [1, UNSEEN, 2, 1, 2, 3, 4, *[UNSEEN] * 4, UNSEEN]
    logits = torch.arange(4 * 6 * 2.0).view(4, 6, 2)
    picked = np.array([2, 0, 3, 1])
    assert rows.units(picked).tolist() == [3, 4, 5, 6, 0, 2]
    assert torch.equal(rows.by_unit(logits, picked), torch.cat([logits[0, 1:5], logits[1, 1:3]]))
    left = rows.only(~np.isin(np.arange(12), [0, 4]))
    assert left.units(picked).tolist() == [3, 5, 6, 2]
    assert rows.by_unit(logits, picked[2:]).shape == (0, 2)


def test_rows_of_one_answer_are_as_they_were(tokenizers):
    rows = TokenizedRows.of(tokenizers["wordpiece"], ["one", "two words"], None, 6)
    logits, picked = torch.rand(2, 3), np.array([1, 0])
    assert rows.by_unit(logits, picked) is logits
    assert rows.units(picked) is picked
    assert rows.seen.tolist() == [True, True]
    assert rows.only(np.array([False, True])) is rows


@given(st.lists(st.lists(st.integers(-1, 5), max_size=4), min_size=1, max_size=5), st.randoms())
def test_any_rows_give_their_own_words(tokens, random):
    places = WordPlaces(np.array([len(row) for row in tokens]), np.array([t for row in tokens for t in row], dtype=int))
    order = list(range(len(tokens)))
    random.shuffle(order)
    expected = [
        (sum(map(len, tokens[:row])) + word, place, token)
        for place, row in enumerate(order)
        for word, token in enumerate(tokens[row])
        if token != UNSEEN
    ]
    found = (places.words(np.array(order)), *places.tokens_of(np.array(order)))
    assert list(zip(*(part.tolist() for part in found), strict=True)) == expected


def test_a_tokenizer_that_does_not_say_where_tokens_stand_is_refused(monkeypatch, quickstart_teacher_dir):
    tokenizer = AutoTokenizer.from_pretrained(quickstart_teacher_dir)
    monkeypatch.setattr(type(tokenizer), "is_fast", property(lambda self: False))
    with pytest.raises(TeacherError, match=r"give a model with a tokenizer\.json"):
        TokenizedRows.of(tokenizer, ["a"], None, 8, words=True)
