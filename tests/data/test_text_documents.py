"""Plain text to documents: how it is chunked makes no difference, and nothing is lost."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from autodistil.data import readers
from autodistil.data.readers import MAX_DOCUMENT_CHARACTERS, cut, text_documents

TEXT = st.text(alphabet="ab \n\n\t\u00a0\x0b\u2028é", max_size=120)


def chunked(text, sizes):
    start = 0
    for size in sizes:
        yield text[start : start + size]
        start += size
    yield text[start:]


@pytest.fixture(autouse=True, scope="module")
def short_documents():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(readers, "MAX_DOCUMENT_CHARACTERS", 16)
        yield


@given(TEXT, st.lists(st.integers(0, 40), max_size=20))
def test_chunks_make_no_difference(text, sizes):
    assert list(text_documents(chunked(text, sizes))) == list(text_documents([text]))


@given(TEXT)
def test_nothing_but_white_space_is_lost_and_documents_are_short(text):
    documents = list(text_documents([text]))
    assert "".join("".join(documents).split()) == "".join(text.split())
    assert all(0 < len(document) <= 16 for document in documents)


@given(TEXT)
def test_pieces_end_at_white_space_where_there_is_any(text):
    pieces, rest = cut(text.replace("\n", " "))
    assert rest == ""
    whole = text.replace("\n", " ").replace("\t", " ").split(" ")
    if all(len(word) <= 16 for word in whole):
        assert [word for piece in pieces for word in piece.replace("\t", " ").split(" ") if word] == list(
            filter(None, whole)
        )


def test_empty_line_ends_a_document_and_a_single_line_end_does_not():
    assert list(text_documents(["\n\na\nb\n \t\n\n\nc\n"])) == ["a\nb", "c"]


def test_endless_line_streams():
    def endless():
        while True:
            yield "word " * 10

    documents = text_documents(endless())
    assert [next(documents) for _ in range(3)] == ["word word word"] * 3


def test_endless_word_is_cut_hard():
    assert cut("x" * 40) == (["x" * 16, "x" * 16, "x" * 8], "")


def test_default_length_of_a_document():
    assert MAX_DOCUMENT_CHARACTERS == 16384
