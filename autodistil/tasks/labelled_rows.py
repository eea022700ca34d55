"""Labelled rows of a task as they are written: from tab-separated files, or from a data set of the Hugging Face Hub.

A file is UTF-8 with a header; its columns are `text_a`, `text_b` (pairs only) and `label`, in its place `score` where
numbers are scores even if all are whole, or `tokens` and `tags` where each word has a label of its own, in any order;
what is in `teacher_text` a teacher reads beside, others are left out.
There is no quoting: a `"` is a plain character, and a tab always ends a field.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from autodistil.data.sources import dataset_errors
from autodistil.errors import CorpusError, TaskError
from autodistil.utils import optional_import

_TEXTS, _WORDS = ("text_a", "label"), ("tokens", "tags")
"""Columns of text and label, of rows and of words."""
_PRIVILEGED, _SCORE = "teacher_text", "score"


@dataclass(frozen=True)
class LabelledRows:
    """Rows of one split, in order; labels are not interpreted yet."""

    text_a: tuple[str, ...]
    text_b: tuple[str, ...] | None
    """Second texts, None where each row is a single text."""
    labels: tuple[str, ...]
    words: bool = False
    """Texts are words separated by blanks, and labels a tag of each."""
    teacher_text: tuple[str, ...] | None = None
    """What a teacher may read beside."""
    scores: bool = False
    """Labels are called scores, and are numbers."""


@dataclass(frozen=True)
class HubTable:
    """A labelled set on the Hub."""

    name: str
    config: str | None
    columns: tuple[str, ...]
    """Names of the text columns, one or two."""
    label: str
    """Name of the label column."""
    splits: Mapping[str, str]
    """Our split (`train`, `dev`, `test`) -> theirs; only splits that are labelled."""


def read_rows(path: Path) -> LabelledRows:
    """Read a tab-separated file.

    Raises:
        TaskError: it cannot be read, lacks a column or has no row, or a row has another number of fields.
    """
    lines = _lines(path, "task file", "tab-separated columns")
    header, *rows = [line.split("\t") for line in lines] or [[]]
    words = _TEXTS[0] not in header and _WORDS[0] in header
    text, label = _WORDS if words else _TEXTS
    scores = not words and label not in header and _SCORE in header
    label = _SCORE if scores else label
    missing = [name for name in (text, label) if name not in header]
    if missing:
        found = ", ".join(header)[:100]
        raise TaskError(
            f"task file {str(path)!r} has no column {' and no column '.join(missing)}; its header is {found!r}; "
            "allowed: text_a, text_b (pairs), label or score, or tokens and tags, separated by tabs"
        )
    for number, row in enumerate(rows, 2):
        if len(row) != len(header):
            raise TaskError(
                f"task file {str(path)!r}, line {number} has {len(row)} fields, its header {len(header)}; "
                "replace tabs and line ends inside a text by spaces"
            )
    if not rows:
        raise TaskError(f"task file {str(path)!r} has a header but no rows; add rows, or remove the file")
    wanted = (text, label) if words else (text, "text_b", label, _PRIVILEGED)
    columns = {name: tuple(row[header.index(name)] for row in rows) for name in wanted if name in header}
    return LabelledRows(columns[text], columns.get("text_b"), columns[label], words, columns.get(_PRIVILEGED), scores)


def _lines(path: Path, what: str, of: str) -> list[str]:
    """The lines of a file, without their ends."""
    try:
        with open(path, encoding="utf-8-sig", newline="\n") as file:
            return [line.rstrip("\r\n") for line in file]
    except (OSError, UnicodeDecodeError) as error:
        reason = "is not UTF-8" if isinstance(error, UnicodeDecodeError) else f"cannot be read ({error.strerror})"
        raise TaskError(f"{what} {str(path)!r} {reason}; give a UTF-8 file of {of}") from error


def read_texts(path: Path, pairs: bool) -> list[tuple[str, str | None]]:
    """Texts without labels: lines of a file, or columns of a table: `text_a` and, of pairs, `text_b`; or `tokens`.

    Raises:
        TaskError: it cannot be read, holds no text, or no pairs where these are wanted.
    """
    lines = _lines(path, "text file", "lines")
    header = lines[0].split("\t") if lines else []
    allowed = ("text_a", "text_b") if pairs else ("text_a", "tokens")
    columns = [name for name in allowed if name in header][: 1 + pairs]
    if pairs and len(columns) < 2:
        raise TaskError(
            f"text file {str(path)!r} has no columns text_a and text_b, but the task is of pairs; allowed: a header "
            "with both, separated by tabs"
        )
    if not columns:
        texts: list[tuple[str, str | None]] = [(line, None) for line in lines if line.strip()]
    else:
        places = [header.index(name) for name in columns]
        split = [line.split("\t") for line in lines[1:] if line.strip()]
        short = next((number for number, row in enumerate(split, 2) if len(row) <= max(places)), None)
        if short is not None:
            raise TaskError(f"text file {str(path)!r}, line {short} has too few fields; correct it")
        texts = [(row[places[0]], row[places[1]] if pairs else None) for row in split]
    if not texts:
        raise TaskError(f"text file {str(path)!r} holds no text; add some, or leave it out")
    return texts


def hub_rows(table: HubTable) -> dict[str, LabelledRows]:
    """The labelled splits of a set on the Hub, downloaded once and cached by `datasets`.

    Raises:
        TaskError: `datasets` is not installed, or the set cannot be had.
    """
    where = f"Hugging Face data set {table.name!r}" + (f" ({table.config})" if table.config else "")
    found = {}
    try:
        datasets = optional_import("datasets", where)
        with dataset_errors(where):
            for split, theirs in table.splits.items():
                records = datasets.load_dataset(table.name, table.config, split=theirs)
                first, *second, labels = (tuple(map(str, records[name])) for name in (*table.columns, table.label))
                found[split] = LabelledRows(first, second[0] if second else None, labels)
    except CorpusError as error:
        raise TaskError(f"{error}; or give --data a folder that holds the task") from error
    return found
