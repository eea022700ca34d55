"""Windows of texts: every answer is where its characters are, and the best span is that of all."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers_helpers import byte_level_bpe
from transformers import AutoTokenizer

from autodistil.errors import TeacherError
from autodistil.tasks.context_windows import LONGEST_ANSWER, LONGEST_QUESTION, ContextWindows, best_span
from autodistil.tasks.squad import Answer, exact_match

TEXT = "The train goes to Paris, and on to Lyon. " * 40
WORDS = TEXT.split()


@pytest.fixture(scope="module", params=["wordpiece", "byte-level"])
def tokenizer(request, quickstart_teacher_dir):
    return AutoTokenizer.from_pretrained(quickstart_teacher_dir) if request.param == "wordpiece" else byte_level_bpe()


def logits_of(windows, places, high=5.0):
    """Logits that are high at the places alone."""
    found = []
    for ids, of_window in zip(windows.rows.ids, places, strict=True):
        logits = np.zeros((2, len(ids)), dtype=np.float32)
        logits[[0, 1], of_window] = high
        found.append(logits)
    return found


@settings(max_examples=15)
@given(first=st.integers(0, len(WORDS) - 1), words=st.integers(1, 5), length=st.sampled_from([16, 48, 384]))
def test_an_answer_goes_through_tokens_and_comes_back(tokenizer, first, words, length):
    start = sum(len(word) + 1 for word in WORDS[:first])
    answer = " ".join(WORDS[first : first + words])
    windows = ContextWindows.of(tokenizer, ["Where to?", "And then?"], [TEXT, TEXT], length)
    assert max(windows.rows.lengths) <= length
    places = windows.places([Answer(start, answer), None])
    there = places[:, 0] != windows.none
    if length >= 48:  # neighbours share more tokens than the answer has
        assert there.any()
    assert not there[windows.questions == 1].any()
    if there.any():
        assert exact_match(windows.best(logits_of(windows, places), [TEXT, TEXT], False)[0], answer)
    assert windows.best(logits_of(windows, places), [TEXT, TEXT], True)[1] == ""
    assert windows.candidates(np.arange(len(windows)))[np.arange(len(windows)), windows.none].all()


def test_windows_cover_the_text_and_share_tokens(tokenizer):
    windows = ContextWindows.of(tokenizer, ["Where to?"], [TEXT], 64)
    spans = [(of[0, 0], of[-1, 1]) for of in windows.offsets]
    assert (spans[0][0], spans[-1][1]) == (0, len(TEXT.rstrip()) if tokenizer.cls_token == "[CLS]" else len(TEXT))
    assert all(one[1] > other[0] for one, other in pairwise(spans))
    assert windows.alike(windows)
    assert not windows.alike(ContextWindows.of(tokenizer, ["Where to?"], [TEXT], 63))


def test_long_questions_are_cut_and_empty_texts_have_no_answer(tokenizer):
    windows = ContextWindows.of(tokenizer, ["why " * 500, "Where?"], [TEXT, ""], 384)
    assert windows.first[0] <= LONGEST_QUESTION + 4
    assert len(windows.offsets[-1]) == 0
    assert windows.best(logits_of(windows, windows.places([None, None])), [TEXT, ""], False)[1] == ""


@given(st.lists(st.tuples(st.integers(-9, 9), st.integers(-9, 9)), min_size=1, max_size=60))
def test_the_best_span_is_that_of_all(logits):
    starts, ends = np.array(logits, dtype=np.float32).T
    every = [starts[i] + ends[j] for i in range(len(starts)) for j in range(i, min(len(ends), i + LONGEST_ANSWER))]
    score, first, last = best_span(starts, ends)
    assert score == max(every) == starts[first] + ends[last]
    assert 0 <= last - first < LONGEST_ANSWER


def test_no_answer_has_to_be_better_than_the_best_in_every_window(tokenizer):
    windows = ContextWindows.of(tokenizer, ["Where to?"], [TEXT], 64)
    logits = logits_of(windows, windows.places([None]))
    assert windows.best(logits, [TEXT], True) == [""]
    logits[1][:, windows.none[1]] = -5  # one window is sure that it holds the answer
    assert windows.best(logits, [TEXT], True) != [""]


def test_a_slow_tokenizer_is_one_line():
    class Slow:
        is_fast = False

    with pytest.raises(TeacherError, match="which tasks of spans need; give a model with a tokenizer"):
        ContextWindows.of(Slow(), ["Where?"], ["There."], 64)
