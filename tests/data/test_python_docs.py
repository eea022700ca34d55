"""The built-in corpus reads as English."""

import inspect
from itertools import islice

import pytest

from autodistil.data import python_docs as docstrings
from autodistil.data.python_docs import (
    english_paragraphs,
    is_english,
    python_docs,
    python_docs_version,
    source_files,
    without_markup,
)
from autodistil.data.sources import iter_documents

DOCSTRING = """
    Compute the median of the values along the given axis of an array.

    The median is the middle of the sorted values; see :func:`~numpy.mean` or
    `the manual <https://example.org>`_ for other averages [1]_.

    Parameters
    ----------
    values : array_like, with a type that is described here at length.
        The array whose medians are wanted. It is converted
        to an array if it is not one already.
    axis, other : int
        Axis.

    .. versionadded:: 1.2

    .. note::
        This is a note that should be kept since it is a sentence.

    * the first item is too short
    * This item of a list is a sentence that goes on
      in the next line, and it is kept.

    Args:
        size (`int`, *optional*, defaults to 3): The number of neighbours that are
            looked at on either side of it.
        other: Short.

    Examples
    --------
    This introduces the example that is shown in the next lines here.

    >>> median([1, 2, 3])
    This is the output and it is not to be kept since it is not prose.

    ```python
    This is code in a fence, and it is not to be kept in the corpus either.
    ```

    ======  ===========================================
    Name    This is the heading of a table and not a sentence in prose.
    ======  ===========================================
    | A row of the table which has the words that are used in a sentence. |

    x = compute(y) is a line of code in the middle of the words of a sentence.
    Use ``axis=0`` for **all** the *columns* of [the table](docs/table.md) that are in use.
"""


def test_paragraphs_of_a_docstring():
    assert list(english_paragraphs(inspect.cleandoc(DOCSTRING))) == [
        "Compute the median of the values along the given axis of an array.",
        "The median is the middle of the sorted values; see numpy.mean or the manual for other averages.",
        "The array whose medians are wanted. It is converted to an array if it is not one already.",
        "This is a note that should be kept since it is a sentence.",
        "This item of a list is a sentence that goes on in the next line, and it is kept.",
        "The number of neighbours that are looked at on either side of it.",
        "This introduces the example that is shown in the next lines here.",
    ]


@pytest.mark.parametrize(
    ("text", "seen"),
    [
        (":class:`~package.Thing` and :meth:`!run`", "package.Thing and run"),
        (":ref:`the text <label>`, `other`_ and ``__init__``", "the text, other and __init__"),
        ("[`Trainer`] and [a link](address)", "Trainer and a link"),
        ("**bold**, *slanted* and 2 * 3 * 4", "bold, slanted and 2 * 3 * 4"),
        ("a note [1]_, [2]_ and <b>tags</b>", "a note, and tags"),
        (r"the \*args  here", "the *args here"),
    ],
)
def test_markup_is_replaced_by_what_is_seen(text, seen):
    assert without_markup(text) == seen


@pytest.mark.parametrize(
    "paragraph",
    [
        "Too short to be used.",
        "The sentence that is about the thing has no end and goes on and",
        "and the sentence that begins in the middle is not a whole one.",
        "Red green blue yellow orange purple black white brown grey pink colours.",
        "The value of x_1 + y_2 ** z_3 is 1 2 3 4 5 6 7 8 9 10 11 12 and 13.",
        "The function is called as f(x) = {y} and the rest of it is the same as before.",
        "The manual of it can be found at http://example.org and in the archive of the site.",
        "",
    ],
)
def test_not_english(paragraph):
    assert not is_english(paragraph)


def test_docstrings_in_order_of_appearance(tmp_path):
    path = tmp_path / "module.py"
    path.write_text(
        '"""Module."""\nimport nowhere\nclass A:\n    """A."""\n    async def f(self):\n        "A.f"\n        def g():\n'  # noqa: E501
        '            """g"""\n\nadd_docstr(x.y, """Of C\n\n    code.""" + r"""\nmore""")\nname = """no\n\ndoc"""\ndef h(): "h"\n'  # noqa: E501
    )
    assert list(docstrings.docstrings(path)) == ["Module.", "A.", "A.f", "g", "Of C\n\ncode.", "h"]


@pytest.mark.parametrize("content", [b"def broken(:", b"\xff\xfe", b"a = '\0'", b"(" * 5000])
def test_sources_that_cannot_be_parsed_are_passed_over(tmp_path, content):
    path = tmp_path / "module.py"
    path.write_bytes(content)
    assert list(docstrings.docstrings(path)) == []
    assert list(docstrings.docstrings(tmp_path / "missing.py")) == []


def test_nearest_sources_come_first_up_to_the_limit(tmp_path):
    for name in ("a/b/deep.py", "a/x.py", "z.py", "b.py", "tests/t.py", "a/_vendor/v.py", "notes.txt"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("#" * 10)
    assert [path.name for path in source_files(tmp_path, 1000)] == ["b.py", "z.py", "x.py", "deep.py"]
    assert [path.name for path in source_files(tmp_path, 39)] == ["b.py", "z.py", "x.py"]


def test_same_documents_every_time_with_each_paragraph_once():
    first, second = (list(islice(python_docs(), 60)) for _ in range(2))
    assert first == second == list(islice(iter_documents(["python-docs"]), 60))
    paragraphs = [paragraph for document in first for paragraph in document.split("\n")]
    assert len(paragraphs) == len(set(paragraphs))
    assert all(map(is_english, paragraphs))
    assert all(len(document) >= docstrings.MIN_DOCUMENT_CHARACTERS for document in first)


def test_version_names_python_and_packages(monkeypatch):
    before = python_docs_version()
    assert "torch=" in before
    monkeypatch.setattr(docstrings, "PACKAGE_BYTES", {"no-such-package": 1})
    assert "no-such-package=absent" in python_docs_version()
    assert python_docs_version() != before


@pytest.mark.slow
def test_size_of_the_whole_corpus():
    characters = sum(map(len, python_docs()))
    assert 2e6 < characters < 1e7
