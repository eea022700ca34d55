"""Hugging Face data sets as a corpus, streamed: `hf:name[@revision][:config][:split]`, or `owner/name` alone.

Where text comes from: what a user names as a corpus, resolved to documents and to what identifies their content.
"""

from __future__ import annotations

import glob
import os
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from autodistil.data.python_docs import python_docs, python_docs_version
from autodistil.data.readers import (
    IMAGE_SUFFIXES,
    READERS,
    corpus_file_errors,
    kind_of,
    read_documents,
    record_documents,
)
from autodistil.errors import CorpusError, suggest
from autodistil.utils import optional_import

PREFIX = "hf:"
SPLITS = ("train", "validation", "test")
"""A single part after the name is a split where it is one of these or a slice of one, else a configuration."""

_BARE_NAME = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")

_COLON = re.compile(r":(?![^\[\]]*\])")
"""A colon that is no part of a slice such as `train[:10%]`."""


@dataclass(frozen=True)
class HubDataset:
    """A data set and the part of it that is read."""

    name: str
    revision: str | None = None
    config: str | None = None
    split: str = "train"


def is_bare_name(text: str) -> bool:
    """Whether `text` looks like the `owner/name` of a data set."""
    return _BARE_NAME.fullmatch(text) is not None


def parse_hub_dataset(text: str) -> HubDataset:
    """Read `hf:name[@revision][:config][:split]`; `hf:name::split` has no configuration.

    Raises:
        CorpusError: no name, or too many parts.
    """
    name, *parts = _COLON.split(text.removeprefix(PREFIX))
    name, _, revision = name.partition("@")
    if not name or len(parts) > 2:
        raise CorpusError(
            f"corpus {text!r} names no Hugging Face data set; allowed: hf:name[@revision][:config][:split], "
            "such as hf:wikitext:wikitext-103-raw-v1:train"
        )
    if len(parts) == 1 and parts[0].partition("[")[0] in SPLITS:
        parts.insert(0, "")
    config, split = (*parts, "", "")[:2]
    return HubDataset(name, revision or None, config or None, split or "train")


def hub_documents(dataset: HubDataset) -> Iterator[str]:
    """The documents of a data set in its order, streamed.

    Raises:
        CorpusError: `datasets` is not installed, the data set cannot be had, or no column holds text.
    """
    where = f"Hugging Face data set {dataset.name!r}"
    datasets = optional_import("datasets", f"corpus '{PREFIX}{dataset.name}'")
    try:
        records = datasets.load_dataset(
            dataset.name, dataset.config, split=dataset.split, revision=dataset.revision, streaming=True
        )
        yield from record_documents(records, where)
    except CorpusError:
        raise
    except Exception as error:  # the library passes on whatever its many back ends raise
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise CorpusError(
            f"{where} cannot be read: {reason}; check its name, config and split, and the network"
        ) from error


DEFAULT_CORPUS = "python-docs"
"""English documentation prose of Python's standard library and of installed packages."""

ALLOWED = f"files ({' '.join(READERS)}, also .xz .gz .zst), folders, globs, {PREFIX}owner/name, {DEFAULT_CORPUS}"


@dataclass(frozen=True)
class Source:
    """One resolved corpus."""

    name: str
    """As the user wrote it."""
    identity: str
    """Changes when the content may have: a file's path, size and time of change; versions of packages; a name."""
    documents: Callable[[], Iterator[str]]
    """Reads it from the start."""


def iter_documents(sources: Sequence[str]) -> Iterator[str]:
    """The documents of all sources in order, streamed in bounded memory.

    Args:
        sources: files, folders, globs, `hf:` data sets or `python-docs`.

    Raises:
        CorpusError: a source is missing, unreadable, malformed, binary, not UTF-8, or holds no text.
    """
    for source in resolve(sources):
        yield from source_documents(source)


def source_documents(source: Source) -> Iterator[str]:
    """The documents of one source.

    Raises:
        CorpusError: as `iter_documents`.
    """
    empty = True
    for document in source.documents():
        empty = False
        yield document
    if empty:
        raise CorpusError(
            f"corpus {source.name!r} is empty: no text in it; give a file or folder with text, or {DEFAULT_CORPUS}"
        )


def resolve(sources: Sequence[str]) -> list[Source]:
    """Find what each name stands for, without reading it.

    Raises:
        CorpusError: nothing is named, or a name stands for nothing that can be read.
    """
    names = [sources] if isinstance(sources, str) else list(sources)
    if not names:
        raise CorpusError(f"no corpus is given; allowed: {ALLOWED}; name one")
    return [_resolve(name) for name in names]


def _resolve(name: str) -> Source:
    if not name.strip():
        raise CorpusError(f"a corpus has an empty name; allowed: {ALLOWED}; name one")
    if name == DEFAULT_CORPUS:
        return Source(name, f"{name} {python_docs_version()}", python_docs)
    if name.startswith(PREFIX):
        return _hub_source(name)
    path = Path(os.path.expanduser(name))
    with corpus_file_errors(path):
        paths = _files_of(path, name)
        if paths is None and is_bare_name(name) and path.suffix.lower() not in READERS and not path.parent.is_dir():
            return _hub_source(name)
        if paths is None:
            raise _not_found(path, name)
        identity = "\n".join(map(file_identity, paths))
    return Source(name, identity, partial(_documents_of, paths))


def _hub_source(name: str) -> Source:
    dataset = parse_hub_dataset(name)
    return Source(name, repr(dataset), partial(hub_documents, dataset))


def _documents_of(paths: Sequence[Path]) -> Iterator[str]:
    for path in paths:
        yield from read_documents(path)


def file_identity(path: Path) -> str:
    """What changes when the content of a file may have."""
    status = path.stat()
    return f"{path.resolve()}\t{status.st_size}\t{status.st_mtime_ns}"


def _files_of(path: Path, name: str) -> list[Path] | None:
    """The files that a path or glob stands for, sorted; None where there is nothing."""
    if path.is_dir():
        return _readable(files_below(path), name)
    if path.exists():
        kind_of(path)
        if not path.is_file():
            raise CorpusError(f"corpus {name!r} is neither a file nor a folder; allowed: {ALLOWED}; save it to a file")
        return [path]
    matches = [Path(match) for match in sorted(glob.glob(str(path), recursive=True))]
    if not matches:
        return None
    files = [file for match in matches for file in (files_below(match) if match.is_dir() else [match])]
    return _readable(sorted(set(files)), name)


def files_below(folder: Path) -> list[Path]:
    """Regular files in a folder and its subfolders but hidden ones, sorted; links are followed, each folder once."""
    found: list[Path] = []
    visited: set[str] = set()
    for parent, subfolders, names in os.walk(folder, onerror=_raise, followlinks=True):
        real = os.path.realpath(parent)
        if real in visited:
            subfolders.clear()
            continue
        visited.add(real)
        subfolders[:] = sorted(name for name in subfolders if not name.startswith("."))
        found += [Path(parent, name) for name in names if not name.startswith(".")]
    return sorted(path for path in found if path.is_file())


def _raise(error: OSError) -> None:
    raise error


def _readable(files: Sequence[Path], name: str) -> list[Path]:
    """The files with a known extension."""
    known = [file for file in files if _has_known_kind(file)]
    if not known:
        if files and all(file.suffix.lower() in IMAGE_SUFFIXES for file in files):
            raise CorpusError(
                f"corpus {name!r} holds images alone, this teacher reads text; allowed: {ALLOWED}; give text, "
                "or a teacher that reads images"
            )
        found = f"{len(files)} files, such as {files[0].name!r}" if files else "no files"
        raise CorpusError(
            f"corpus {name!r} has {found}, but none of a known kind; allowed: {ALLOWED}; add or rename some"
        )
    return known


def _has_known_kind(path: Path) -> bool:
    try:
        kind_of(path)
    except CorpusError:
        return False
    return True


def _not_found(path: Path, name: str) -> CorpusError:
    """What is there instead, or how far the path exists."""
    folder = next(parent for parent in path.parents if parent.is_dir() or parent == parent.parent)
    siblings = sorted(entry.name for entry in folder.iterdir()) if folder == path.parent else []
    hint = suggest(path.name, siblings) or suggest(name, [DEFAULT_CORPUS])
    shown = ", ".join(siblings[:5]) + (", …" if len(siblings) > 5 else "")
    there = f"{str(folder)!r} has {shown or 'no files'}" if folder == path.parent else f"only {str(folder)!r} exists"
    return CorpusError(f"corpus {name!r} not found{hint}; {there}; allowed: {ALLOWED}")
