"""Sources of samples: what a user names as a corpus, resolved to what it holds and what identifies its content.

A name stands for a file, a folder, a glob, the built-in corpus, or a Hugging Face data set, which is streamed:
`hf:name[@revision][:config][:split]`, or `owner/name` alone for text. `images` looks for images in the same places.
"""

from __future__ import annotations

import fnmatch
import glob
import os
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import chain, pairwise
from pathlib import Path
from typing import Any

from autodistil.data.python_docs import python_docs, python_docs_version
from autodistil.data.readers import (
    IMAGE_SUFFIXES,
    READERS,
    corpus_file_errors,
    kind_of,
    read_documents,
    record_documents,
    unpacked_suffix,
)
from autodistil.errors import AutodistilError, CorpusError, suggest
from autodistil.utils import optional_import

DEFAULT_CORPUS = "python-docs"
"""English documentation prose of Python's standard library and of installed packages."""

PREFIX = "hf:"
SPLITS = ("train", "validation", "test")
"""A single part after the name is a split where it is one of these or a slice of one, else a configuration."""

MAX_FOLDERS = 100_000
"""Folders that a glob may go through: what matches only after more is meant otherwise."""

_BARE_NAME = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")

_COLON = re.compile(r":(?![^\[\]]*\])")
"""A colon that is no part of a slice such as `train[:10%]`."""


@dataclass(frozen=True)
class CorpusSource:
    """One resolved corpus."""

    name: str
    """As the user wrote it."""
    identity: str
    """Changes when the content may have: a file's path, size and time of change; versions of packages; a name."""
    read: Callable[..., Iterator[Any]]
    """Reads it from the start: documents; or, told how many channels, Pillow images."""


@dataclass(frozen=True)
class CorpusKind:
    """What a teacher reads."""

    name: str
    """`text` or `images`."""
    allowed: str
    """What a corpus of it may be, for messages."""
    among: Callable[[Path], bool]
    """Whether a file is one of it, by its name."""
    source: Callable[[str], CorpusSource]
    """Resolves a name."""


def _text_source(name: str) -> CorpusSource:
    if name == DEFAULT_CORPUS:
        return CorpusSource(name, f"{name} {python_docs_version()}", python_docs)
    path = Path(os.path.expanduser(name))
    bare = is_bare_name(name) and path.suffix.lower() not in READERS and not path.parent.is_dir()
    if bare or name.startswith(PREFIX):
        dataset = parse_hub_dataset(name)
        return CorpusSource(name, repr(dataset), partial(hub_documents, dataset))
    with corpus_file_errors(path):
        if path.is_file():
            kind_of(path)
        paths = files_of(path, name, TEXT)
        return CorpusSource(name, identity_of(paths), lambda: chain.from_iterable(map(read_documents, paths)))


TEXT = CorpusKind(
    "text",
    f"files ({' '.join(READERS)}, also .xz .gz .zst), folders, globs, {PREFIX}owner/name, {DEFAULT_CORPUS}",
    lambda path: unpacked_suffix(path) in READERS,
    _text_source,
)


def resolve(sources: Sequence[str], kind: CorpusKind = TEXT) -> list[CorpusSource]:
    """Find what each name of a corpus stands for, without reading it.

    Raises:
        CorpusError: nothing is named, or a name stands for nothing that can be read.
    """
    names = [sources] if isinstance(sources, str) else list(sources)
    if not names:
        raise CorpusError(f"no corpus is given; allowed: {kind.allowed}; name one")
    if not all(map(str.strip, names)):
        raise CorpusError(f"a corpus has an empty name; allowed: {kind.allowed}; name one")
    return [kind.source(name) for name in names]


def identity_of(paths: Sequence[Path]) -> str:
    """What changes when the content of files may have."""
    status = [(path.resolve(), path.stat()) for path in paths]
    return "\n".join(f"{path}\t{stat.st_size}\t{stat.st_mtime_ns}" for path, stat in status)


def files_of(path: Path, name: str, kind: CorpusKind) -> list[Path]:
    """The files of a kind that a path, folder or glob stands for, sorted.

    Raises:
        CorpusError: there are none.
    """
    if path.exists() and not path.is_file() and not path.is_dir():
        raise CorpusError(f"corpus {name!r} is neither a file nor a folder; allowed: {kind.allowed}; save it to a file")
    matches = [path] if path.exists() else _matching(path, name)
    if not matches:
        raise _not_found(path, name, kind)
    files = sorted({file for match in matches for file in (files_below(match) if match.is_dir() else [match])})
    known = [file for file in files if kind.among(file)]
    if known:
        return known
    if files and all(file.suffix.lower() in IMAGE_SUFFIXES for file in files):
        found, advice = "holds images alone,", "give text, or a teacher that reads images"
    else:
        more = f"has no {kind.name} but {len(files)} other files, such as {files[0].name!r};" if files else ""
        found, advice = more or "holds no files;", "add or rename some"
    raise CorpusError(f"corpus {name!r} {found} this teacher reads {kind.name}; allowed: {kind.allowed}; {advice}")


def _matching(pattern: Path, name: str) -> list[Path]:
    """What a glob matches, as `glob.glob` with `**`, but in one walk, however often `**` stands in it.

    A folder is looked at once for all the parts of the pattern that its content may be: `glob` looks once for each
    way to share its parents among them, which are more than can be counted.

    Raises:
        CorpusError: it would go through more than `MAX_FOLDERS`.
    """
    parts = [part for before, part in pairwise(("", *pattern.parts)) if not before == part == "**"]
    parts += ["*"] if parts[-1] == "**" else []
    fixed = next((number for number, part in enumerate(parts) if glob.has_magic(part)), len(parts))
    if fixed == len(parts):
        return []
    matches, seen = [], 0
    todo = [(Path(*parts[:fixed]), _reached({fixed}, parts))]
    visited: set[tuple[str, frozenset[int]]] = set()
    while todo:
        folder, states = todo.pop()
        if not folder.is_dir() or (key := (os.path.realpath(folder), states)) in visited:
            continue
        visited.add(key)
        seen += 1
        if seen > MAX_FOLDERS:
            raise CorpusError(
                f"corpus {name!r} is a glob over more than {MAX_FOLDERS:,} folders; allowed: fewer; begin it with the "
                "folder that the files are in, or give that folder"
            )
        for entry in sorted(folder.iterdir()):
            fitting = [state for state in states if _fits(entry.name, parts[state])]
            reached = _reached({state if parts[state] == "**" else state + 1 for state in fitting}, parts)
            if len(parts) in reached:
                matches.append(entry)
            if reached - {len(parts)}:
                todo.append((entry, reached - {len(parts)}))
    return matches


def _fits(name: str, part: str) -> bool:
    """Whether one part of a pattern matches a name; hidden ones only where it says so."""
    hidden = name.startswith(".") and not part.startswith(".")
    return not hidden and (part == "**" or fnmatch.fnmatchcase(name, part))


def _reached(states: set[int], parts: Sequence[str]) -> frozenset[int]:
    """The parts of a pattern that may come next; `**` may stand for no folder at all."""
    reached = set(states)
    for state in sorted(states):
        while state < len(parts) and parts[state] == "**":
            state += 1
            reached.add(state)
    return frozenset(reached)


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


def _not_found(path: Path, name: str, kind: CorpusKind) -> CorpusError:
    """What is there instead, or how far the path exists."""
    folder = next(parent for parent in path.parents if parent.is_dir() or parent == parent.parent)
    siblings = sorted(entry.name for entry in folder.iterdir()) if folder == path.parent else []
    hint = suggest(path.name, siblings) or suggest(name, [DEFAULT_CORPUS] if kind is TEXT else [])
    shown = ", ".join(siblings[:5]) + (", …" if len(siblings) > 5 else "")
    there = f"{str(folder)!r} has {shown or 'no files'}" if folder == path.parent else f"only {str(folder)!r} exists"
    return CorpusError(
        f"corpus {name!r} not found{hint}; this teacher reads {kind.name}; {there}; allowed: {kind.allowed}; give one"
    )


def shown_names(sources: Sequence[CorpusSource]) -> str:
    """The first names of a corpus, such as `a.txt, b.txt, c.txt and 2 more`."""
    more = f" and {len(sources) - 3} more" if len(sources) > 3 else ""
    return ", ".join(source.name for source in sources[:3]) + more


def iter_documents(sources: Sequence[str]) -> Iterator[str]:
    """The documents of all sources in order, streamed in bounded memory.

    Args:
        sources: files, folders, globs, `hf:` data sets or `python-docs`.

    Raises:
        CorpusError: a source is missing, unreadable, malformed, binary, not UTF-8, or holds no text.
    """
    for source in resolve(sources):
        yield from source_documents(source)


def source_documents(source: CorpusSource) -> Iterator[str]:
    """The documents of one source.

    Raises:
        CorpusError: as `iter_documents`.
    """
    empty = True
    for document in source.read():
        empty = False
        yield document
    if empty:
        raise CorpusError(
            f"corpus {source.name!r} is empty: no text in it; give a file or folder with text, or {DEFAULT_CORPUS}"
        )


@dataclass(frozen=True)
class HubDataset:
    """A data set and the part of it that is read."""

    name: str
    revision: str | None = None
    config: str | None = None
    split: str = "train"

    @property
    def words(self) -> str:
        """How messages call it."""
        return f"Hugging Face data set {self.name!r}"

    def stream(self) -> Any:
        """The records, as an iterable data set.

        Raises:
            CorpusError: `datasets` is not installed.
        """
        datasets = optional_import("datasets", f"corpus '{PREFIX}{self.name}'")
        return datasets.load_dataset(self.name, self.config, split=self.split, revision=self.revision, streaming=True)


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
    with dataset_errors(dataset.words):
        yield from record_documents(dataset.stream(), dataset.words)


@contextmanager
def dataset_errors(where: str, advice: str = "check its name, config and split, and the network") -> Iterator[None]:
    """Turn what `datasets` may raise into a one-line `CorpusError`; errors of ours pass as they are."""
    try:
        yield
    except AutodistilError:
        raise
    except Exception as error:  # the library passes on whatever its many back ends raise
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise CorpusError(f"{where} cannot be read: {reason[:200]}; {advice}") from error
