"""Bytes and characters of a corpus file, whatever its compression, in bounded memory and with errors that name it."""

from __future__ import annotations

import codecs
import gzip
import io
import lzma
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType
from typing import IO

from autodistil.data.grouping import grouped
from autodistil.data.optional import optional_import
from autodistil.errors import CorpusError

CHUNK_BYTES = 1 << 20
MAX_LINE_CHARACTERS = 1 << 26
"""Longest record of a `.jsonl`, `.csv` or `.tsv` file; lines of plain text have no limit."""


@contextmanager
def corpus_file_errors(path: Path) -> Iterator[None]:
    """Turn what reading `path` may raise into a one-line `CorpusError`."""
    try:
        yield
    except (EOFError, zlib.error, lzma.LZMAError, gzip.BadGzipFile) as error:
        raise CorpusError(
            f"corpus file {str(path)!r} is truncated or not what its extension says ({error}); get a whole copy of it"
        ) from error
    except OSError as error:
        raise CorpusError(
            f"corpus file {str(path)!r} cannot be read: {error.strerror or error}; check its permissions and the disk"
        ) from error


def _plain(path: Path) -> Iterator[bytes]:
    with open(path, "rb") as file:
        yield from _chunks(file)


def _gzipped(path: Path) -> Iterator[bytes]:
    with gzip.open(path, "rb") as file:
        yield from _chunks(file)


def _xz(path: Path) -> Iterator[bytes]:
    with lzma.open(path, "rb") as file:
        yield from _chunks(file)


def _zstd(path: Path) -> Iterator[bytes]:
    """The frames of a file; `stream_reader` would not notice that the last one is cut off."""
    zstandard = optional_import("zstandard", f"reading {path.name!r}")
    frame = None
    with open(path, "rb") as file:
        for data in _chunks(file, 1 << 9):  # small, since one byte may stand for 32 KiB
            while data:
                frame = frame or zstandard.ZstdDecompressor().decompressobj()
                try:
                    piece = frame.decompress(data)
                except zstandard.ZstdError as error:
                    raise EOFError(str(error)) from error
                yield piece
                data = frame.unused_data
                frame = None if frame.eof else frame
    if frame:
        raise EOFError("compressed data ended before the end of its frame")


COMPRESSIONS: Mapping[str, Callable[[Path], Iterator[bytes]]] = MappingProxyType(
    {".xz": _xz, ".gz": _gzipped, ".zst": lambda path: map(b"".join, grouped(_zstd(path), CHUNK_BYTES))}
)
"""Extension -> the decompressed bytes of a file, in pieces."""


def _chunks(file: IO[bytes] | gzip.GzipFile, size: int = CHUNK_BYTES) -> Iterator[bytes]:
    return iter(lambda: file.read(size), b"")


def read_bytes(path: Path) -> Iterator[bytes]:
    """The content of a file in pieces, decompressed where its extension says so.

    Raises:
        CorpusError: it cannot be read, or is cut off.
    """
    with corpus_file_errors(path):
        yield from COMPRESSIONS.get(path.suffix.lower(), _plain)(path)


def read_text(path: Path) -> Iterator[str]:
    """The UTF-8 text of a file in pieces, with every line ended by a line feed.

    Raises:
        CorpusError: as `read_bytes`, and for binary content or another encoding, with the place in the file.
    """
    decoder = codecs.getincrementaldecoder("utf-8")()
    newlines = io.IncrementalNewlineDecoder(None, translate=True)
    position = 0
    for chunk in read_bytes(path):
        text = _decoded(decoder, chunk, position, path)
        if position == 0:
            text = text.removeprefix("\ufeff")
        yield newlines.decode(text)
        position += len(chunk)
    yield newlines.decode(_decoded(decoder, b"", position, path, final=True), final=True)


def _decoded(decoder: codecs.IncrementalDecoder, chunk: bytes, position: int, path: Path, final: bool = False) -> str:
    """The text of the chunk that starts at byte `position`; a character cut in two waits for the next chunk."""
    nul = chunk.find(b"\0")
    if nul >= 0:
        raise CorpusError(
            f"corpus file {str(path)!r} is binary or UTF-16 (a zero byte at byte {position + nul}); "
            "allowed: UTF-8 text; convert it, or leave it out"
        )
    waiting = len(decoder.getstate()[0])
    try:
        return decoder.decode(chunk, final)
    except UnicodeDecodeError as error:
        raise CorpusError(
            f"corpus file {str(path)!r} is not UTF-8 (at byte {position - waiting + error.start}: {error.reason}); "
            "convert it, for example with iconv -f latin1 -t utf-8"
        ) from error


def read_lines(path: Path) -> Iterator[str]:
    """The lines of a file, each with its line feed but perhaps for the last.

    Raises:
        CorpusError: as `read_text`, and for a line beyond `MAX_LINE_CHARACTERS`.
    """
    begun: list[str] = []
    for text in read_text(path):
        *lines, rest = text.split("\n")
        for line in lines:
            yield "".join((*begun, line, "\n"))
            begun = []
        begun.append(rest)
        if sum(map(len, begun)) > MAX_LINE_CHARACTERS:
            raise CorpusError(
                f"corpus file {str(path)!r} has a line of more than {MAX_LINE_CHARACTERS:,} characters; "
                "allowed: one record a line; split it, or give it as .txt"
            )
    if any(begun):
        yield "".join(begun)
