"""A retrieval collection: documents, queries, and which documents people judged to answer which query.

The layout of a folder is that of BEIR (Thakur et al. 2021, arXiv 2104.08663):

    corpus.jsonl         `_id`, `title` (may be left out) and `text`; .xz, .gz and .zst are read too
    queries.jsonl        `_id` and `text`
    qrels/test.tsv       a header, then query, document and grade, separated by tabs; a pair that is not there counts 0
    candidates.tsv       only where documents are reranked: a header, then query and document; only these are ranked
"""

from __future__ import annotations

import hashlib
import json
import math
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from autodistil.data.readers import COMPRESSIONS, read_lines
from autodistil.errors import TaskError
from autodistil.tasks.catalogue import task_folders

_QRELS = Path("qrels") / "test.tsv"


@dataclass(frozen=True)
class Collection:
    """Documents, judged queries and their judgments."""

    name: str
    documents: tuple[str, ...]
    """Title and text of each."""
    queries: tuple[str, ...]
    """Those that have a judgment."""
    grades: tuple[Mapping[int, float], ...]
    """Per query: index of a judged document -> its grade, above 0 where it is relevant."""
    candidates: tuple[np.ndarray, ...] | None
    """Per query: the indices of the documents to rank; None: all."""
    origin: str
    """Where it came from, without the machine's own paths."""
    fingerprint: str
    """Hash of all of it."""

    @property
    def evaluated_name(self) -> str:
        """Name of the split of judgments."""
        return "test"

    @property
    def evaluated(self) -> tuple[str, ...]:
        """What scores are a mean over."""
        return self.queries


def find_collection(name: str, data_dir: Path | None) -> Collection | None:
    """The collection of a name in a folder of tasks, None where no folder of that name has a corpus.

    Raises:
        TaskError: as `read_collection` and `task_folders`.
    """
    for folder in task_folders(name, data_dir):
        for suffix in ("", *COMPRESSIONS):
            corpus = folder / f"corpus.jsonl{suffix}"
            if data_dir and corpus.is_file():
                return read_collection(corpus, name, f"{folder.relative_to(data_dir)} (local)")
    return None


def read_collection(corpus: Path, name: str, origin: str) -> Collection:
    """Read a collection.

    Args:
        corpus: the file of documents, the others beside it.
        name: what the task is called.
        origin: where the folder is, as results say it.

    Raises:
        TaskError: a file is missing or malformed, names what is not there, or no query has a relevant document.
        CorpusError: a file cannot be read, or is not UTF-8.
    """
    folder = corpus.parent
    documents = {key: f"{record.get('title') or ''} {record['text']}".strip() for key, record in _records(corpus)}
    queries = {key: record["text"] for key, record in _records(folder / "queries.jsonl")}
    places = {key: place for place, key in enumerate(documents)}
    graded: dict[str, dict[int, float]] = defaultdict(dict)
    for number, (query, document, *grade) in _pairs(folder / _QRELS, queries, documents):
        graded[query][places[document]] = _grade(grade, folder / _QRELS, number)
    judged = [key for key in queries if any(grade > 0 for grade in graded[key].values())]
    if not judged:
        raise TaskError(f"task {name!r} ({origin}) has no query with a relevant document; correct {_QRELS}")
    candidates = None
    if (folder / "candidates.tsv").is_file():
        listed: dict[str, list[int]] = defaultdict(list)
        for _, (query, document, *_) in _pairs(folder / "candidates.tsv", queries, documents):
            listed[query].append(places[document])
        candidates = tuple(np.array(sorted(set(listed[key])), dtype=np.int64) for key in judged)
    return Collection(
        name,
        tuple(documents.values()),
        tuple(queries[key] for key in judged),
        tuple(dict(graded[key]) for key in judged),
        candidates,
        origin,
        _fingerprint(documents, queries, graded, candidates),
    )


def _records(path: Path) -> Iterator[tuple[str, Mapping[str, str]]]:
    """Identifier and record of each line that is not empty."""
    if not path.is_file():
        raise TaskError(
            f"{str(path.parent)!r} has no {path.name}; a collection is corpus.jsonl, queries.jsonl, {_QRELS}"
        )
    seen = set()
    for number, line in enumerate(read_lines(path), 1):
        if not line.strip():
            continue
        try:
            record = json.loads(line)
            key = record["_id"]
            if not (isinstance(key, str) and isinstance(record["text"], str)):
                raise TypeError
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise TaskError(
                f"{str(path)!r}, line {number} is no JSON object with the strings _id and text; correct it"
            ) from error
        if key in seen:
            raise TaskError(f"{str(path)!r}, line {number} has the _id {key[:50]!r} a second time; remove one of them")
        seen.add(key)
        yield key, record


def _pairs(path: Path, queries: Mapping[str, str], documents: Mapping[str, str]) -> Iterator[tuple[int, list[str]]]:
    """Line number and fields of each line behind the header, query and document first, both of which there are."""
    if not path.is_file():
        raise TaskError(f"collection {str(path.parent.parent)!r} has no {_QRELS} with its judgments; add it")
    for number, line in enumerate(read_lines(path), 1):
        fields = line.rstrip("\n").split("\t")
        if number == 1 or fields == [""]:
            continue
        if len(fields) < 2 or fields[0] not in queries or fields[1] not in documents:
            raise TaskError(
                f"{str(path)!r}, line {number} is {line.strip()[:60]!r}; allowed: the _id of a query of queries.jsonl, "
                "a tab, the _id of a document of the corpus; correct it"
            )
        yield number, fields


def _grade(fields: list[str], path: Path, number: int) -> float:
    try:
        grade = float(fields[0])
    except (ValueError, IndexError):
        grade = math.nan
    if not math.isfinite(grade):
        raise TaskError(f"{str(path)!r}, line {number} has no grade as its third field; give a number, 0 or more")
    return max(grade, 0.0)


def _fingerprint(*parts: object) -> str:
    return hashlib.sha256(json.dumps(parts, default=lambda rows: rows.tolist()).encode()).hexdigest()[:16]
