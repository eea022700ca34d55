"""Documents of a corpus file by its kind: plain text, JSON lines, CSV, TSV and Parquet, whatever its compression.

In plain text an empty line ends a document. In tables the text is the column `text`, the columns `text_a` and `text_b`
together, or the first column with words in it. Documents beyond `MAX_DOCUMENT_CHARACTERS` come in pieces. All of it
streams in bounded memory, and errors name the file and the place in it.
"""

from __future__ import annotations

import codecs
import csv
import gzip
import io
import json
import logging
import lzma
import re
import tempfile
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from itertools import chain, islice
from pathlib import Path
from typing import IO, Any

from autodistil.errors import CorpusError
from autodistil.utils import grouped, optional_import

logger = logging.getLogger(__name__)

CHUNK_BYTES = 1 << 20
MAX_LINE_CHARACTERS = 1 << 26
"""Longest record of a `.jsonl`, `.csv` or `.tsv` file; lines of plain text have no limit."""

MAX_DOCUMENT_CHARACTERS = 1 << 14
"""Longer documents are cut at white space, so that a file of one endless line streams too."""

MAX_CSV_FIELD = 1 << 24
"""Characters of one CSV field: more means a quote that is never closed."""

HEAD_RECORDS, HEAD_CHARACTERS = 50, 1 << 24
"""Records that are looked at to find the text column; fewer where they are so long together."""

MAX_COLUMNS = 10_000
"""Columns of a record."""

MAX_UNPACKED, MAX_UNPACKED_RATIO = 1 << 26, 250
"""Bytes that any compressed file may unpack to, and how many times its size a larger one: text takes 3 to 20 times."""

IMAGE_SUFFIXES = (".bmp", ".gif", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp")
"""Endings of files that are taken for images (`images.py`)."""

_EMPTY_LINES = re.compile(r"\n[ \t]*\n[ \t\n]*")
_BLANK = " \t\n"

Record = Mapping[str, Any]
"""Column -> value."""


@contextmanager
def corpus_file_errors(path: Path) -> Iterator[None]:
    """Turn what reading `path` may raise into a one-line `CorpusError`."""
    try:
        yield
    except (EOFError, zlib.error, lzma.LZMAError, gzip.BadGzipFile) as error:
        raise CorpusError(
            f"{_where(path)} is truncated or not what its extension says ({error}); get a whole copy of it"
        ) from error
    except OSError as error:
        raise CorpusError(
            f"{_where(path)} cannot be read: {error.strerror or error}; check its permissions and the disk"
        ) from error


def _where(path: Path) -> str:
    return f"corpus file {str(path)!r}"


# ---- bytes, characters and lines


def _opened(opened: Callable[..., IO[bytes] | gzip.GzipFile | lzma.LZMAFile], path: Path) -> Iterator[bytes]:
    with opened(path, "rb") as file:
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


COMPRESSIONS: Mapping[str, Callable[[Path], Iterator[bytes]]] = {
    ".xz": partial(_opened, lzma.open),
    ".gz": partial(_opened, gzip.open),
    ".zst": lambda path: map(b"".join, grouped(_zstd(path), CHUNK_BYTES)),
}
"""Extension -> the decompressed bytes of a file, in pieces."""


def _chunks(file: IO[bytes] | gzip.GzipFile, size: int = CHUNK_BYTES) -> Iterator[bytes]:
    return iter(lambda: file.read(size), b"")


def read_bytes(path: Path) -> Iterator[bytes]:
    """The content of a file in pieces, decompressed where its extension says so.

    Raises:
        CorpusError: it cannot be read, is cut off, or unpacks to far more than text does.
    """
    with corpus_file_errors(path):
        if path.suffix.lower() not in COMPRESSIONS:
            yield from _opened(open, path)
            return
        packed, unpacked = path.stat().st_size, 0
        for piece in COMPRESSIONS[path.suffix.lower()](path):
            unpacked += len(piece)
            if unpacked > max(MAX_UNPACKED, MAX_UNPACKED_RATIO * packed):
                raise CorpusError(
                    f"{_where(path)} of {packed / 1e6:,.3f} MB unpacks to {unpacked / 1e6:,.0f} MB or more, which may "
                    f"be a decompression bomb; allowed: {MAX_UNPACKED_RATIO} times its size; if it is meant, unpack it "
                    "and give the unpacked file"
                )
            yield piece


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
            f"{_where(path)} is binary or UTF-16 (a zero byte at byte {position + nul}); "
            "allowed: UTF-8 text; convert it, or leave it out"
        )
    waiting = len(decoder.getstate()[0])
    try:
        return decoder.decode(chunk, final)
    except UnicodeDecodeError as error:
        raise CorpusError(
            f"{_where(path)} is not UTF-8 (at byte {position - waiting + error.start}: {error.reason}); "
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
                f"{_where(path)} has a line of more than {MAX_LINE_CHARACTERS:,} characters; "
                "allowed: one record a line; split it, or give it as .txt"
            )
    if any(begun):
        yield "".join(begun)


# ---- documents


def read_documents(path: Path) -> Iterator[str]:
    """The documents of a file, at most `MAX_DOCUMENT_CHARACTERS` long, in the file's order.

    Raises:
        CorpusError: unknown extension, unreadable, cut off, binary, not UTF-8, malformed, or without a text column.
    """
    return READERS[kind_of(path)](path)


def read_texts(path: Path) -> Iterator[str]:
    """The texts of a file that has one a line: those of a `.jsonl` file's records, or the lines with text of a `.txt`.

    Each is what `read_documents` makes of it, the first piece of a long one; of a record without text it is empty.

    Raises:
        CorpusError: as `read_documents`.
    """
    records = kind_of(path) == ".jsonl"
    texts = record_texts(_json_records(path), _where(path)) if records else filter(str.strip, read_lines(path))
    for text in texts:
        yield next(iter(cut(text.strip(_BLANK))[0]), "")


def unpacked_suffix(path: Path) -> str:
    """The extension of a file in small letters, without that of a compression."""
    name = path.name.lower()
    for compression in COMPRESSIONS:
        name = name.removesuffix(compression)
    return Path(name).suffix


def kind_of(path: Path) -> str:
    """The extension that says how to read a file, without that of a compression.

    Raises:
        CorpusError: it is not in `READERS`.
    """
    kind = unpacked_suffix(path)
    if kind in IMAGE_SUFFIXES:
        raise CorpusError(
            f"{_where(path)} is among the images, this teacher reads text; allowed: {', '.join(READERS)}; "
            "give text, or a teacher that reads images"
        )
    if kind not in READERS:
        raise CorpusError(
            f"{_where(path)} has the unknown extension {kind!r}; allowed: {', '.join(READERS)}, each also "
            f"with {', '.join(COMPRESSIONS)}; rename it if it is plain text (.txt), else save its text as such a file"
        )
    return kind


def cut(text: str, final: bool = True) -> tuple[list[str], str]:
    """Pieces of at most `MAX_DOCUMENT_CHARACTERS`, ended at white space where there is any.

    Args:
        text: text without an empty line.
        final: nothing follows; otherwise what may still grow is returned as the rest.
    """
    pieces = []
    start = 0
    while len(text) - start > MAX_DOCUMENT_CHARACTERS:
        limit = start + MAX_DOCUMENT_CHARACTERS
        end = max(text.rfind(blank, start + 1, limit + 1) for blank in _BLANK)
        end = end if end > start else limit
        pieces.append(text[start:end].strip(_BLANK))
        start = end
        while start < len(text) and text[start] in _BLANK:
            start += 1
    rest = text[start:]
    if final:
        pieces.append(rest.strip(_BLANK))
        rest = ""
    return [piece for piece in pieces if piece], rest


def text_documents(chunks: Iterable[str]) -> Iterator[str]:
    """Documents of plain text that comes in chunks of any size; how it is chunked makes no difference."""
    rest = ""
    for chunk in chunks:
        *complete, rest = _EMPTY_LINES.split(rest + chunk)
        for document in complete:
            yield from cut(document.strip(_BLANK))[0]
        pieces, rest = cut(rest.lstrip(_BLANK), final=False)
        yield from pieces
    yield from cut(rest)[0]


def record_documents(records: Iterable[Record], where: str, columns: Sequence[str] = ()) -> Iterator[str]:
    """Documents of records that map column names to values: their texts (`record_texts`), cut where they are long."""
    for text in record_texts(records, where, columns):
        yield from cut(text)[0]


def record_texts(records: Iterable[Record], where: str, columns: Sequence[str] = ()) -> Iterator[str]:
    """The text of each record, empty where it has none.

    Args:
        records: they map column names to values.
        where: file or data set, for the messages.
        columns: the columns to join; found in the first records unless given.

    Raises:
        CorpusError: no column holds text, or there are more than `MAX_COLUMNS`.
    """
    records = iter(records)
    head = _head(records, where)
    if not head:
        return
    columns = columns or _columns_with_text(head, where)
    skipped = 0
    for record in chain(head, records):
        texts = [value for value in map(record.get, columns) if isinstance(value, str)]
        skipped += not texts
        yield " ".join(texts).encode(errors="replace").decode()  # JSON can smuggle in lone surrogates
    if skipped:
        logger.warning("%s: %d records hold no text under %s and were passed over", where, skipped, " + ".join(columns))


def _head(records: Iterator[Record], where: str) -> list[Record]:
    """The first records, as many as fit into `HEAD_RECORDS` and `HEAD_CHARACTERS`, at least one if there is one."""
    head: list[Record] = []
    characters = 0
    for record in islice(records, HEAD_RECORDS):
        if len(record) > MAX_COLUMNS:
            raise CorpusError(
                f"{where} has {len(record):,} columns; allowed: {MAX_COLUMNS:,}; keep the one with the text"
            )
        head.append(record)
        characters += sum(len(value) for value in record.values() if isinstance(value, str))
        if characters > HEAD_CHARACTERS:
            break
    return head


def _columns_with_text(records: Sequence[Record], where: str) -> tuple[str, ...]:
    """The columns to read, by what is in them."""
    every = list(dict.fromkeys(chain.from_iterable(records)))
    with_words = {
        column
        for record in records
        for column, value in record.items()
        if isinstance(value, str) and any(map(str.isalpha, value[:1000]))
    }
    return text_columns([column for column in every if column in with_words], every, where)


def text_columns(with_text: Sequence[str], all_columns: Sequence[str], where: str) -> tuple[str, ...]:
    """The columns to read; says which, where others hold text too.

    Args:
        with_text: columns that hold text, in order.
        all_columns: every column, for the message.
        where: file or data set, for the message.

    Raises:
        CorpusError: `with_text` is empty.
    """
    for wanted in (("text",), ("text_a", "text_b"), ("text_a",)):
        if set(wanted) <= set(with_text):
            return wanted
    if not with_text:
        names = ", ".join(map(str, all_columns[:20])) or "none"
        raise CorpusError(f"{where} has no text column; it has the columns {names}; name the one with the text 'text'")
    if len(with_text) > 1:
        others = ", ".join(map(str, with_text[1:20]))
        logger.warning(
            "%s: text is taken from the column %r, not from %s; name another one 'text'", where, with_text[0], others
        )
    return (with_text[0],)


# ---- kinds of files


def _json_records(path: Path) -> Iterator[Record]:
    for number, line in enumerate(read_lines(path), 1):
        if not line.strip():
            continue
        try:
            record = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise CorpusError(
                f"{_where(path)}, line {number} is not JSON ({error}); write one object a line"
            ) from error
        if not isinstance(record, dict):
            raise CorpusError(
                f"{_where(path)}, line {number} is a JSON {type(record).__name__}; allowed: one object a line, "
                'as {"text": "…"}'
            )
        yield record


def _csv_records(path: Path, **dialect: Any) -> Iterator[Record]:
    csv.field_size_limit(max(MAX_CSV_FIELD, csv.field_size_limit()))
    rows = csv.reader(read_lines(path), **dialect)
    try:
        header = next(rows, [])
        for row in filter(None, rows):
            yield dict(zip(header, row, strict=False))
    except csv.Error as error:
        raise CorpusError(
            f"{_where(path)}, near line {rows.line_num} is malformed ({error}); look for a quote that is never closed"
        ) from error


def _parquet(path: Path) -> Iterator[str]:
    parquet = optional_import("pyarrow.parquet", f"reading {path.name!r}")
    arrow = optional_import("pyarrow", f"reading {path.name!r}")
    text_types = (arrow.types.is_string, arrow.types.is_large_string, arrow.types.is_string_view)
    with _seekable(path) as file:
        try:
            table = parquet.ParquetFile(file)
            schema = table.schema_arrow
            with_text = [field.name for field in schema if any(is_text(field.type) for is_text in text_types)]
            columns = text_columns(with_text, schema.names, _where(path))
            batches = table.iter_batches(batch_size=1000, columns=list(columns))
            records = chain.from_iterable(batch.to_pylist() for batch in batches)
            yield from record_documents(records, _where(path), columns)
        except arrow.ArrowException as error:
            raise CorpusError(
                f"{_where(path)} is not a whole Parquet file ({str(error).splitlines()[0]}); get a whole copy of it"
            ) from error


@contextmanager
def _seekable(path: Path) -> Iterator[IO[bytes]]:
    """A file as Parquet needs it; a compressed one is unpacked to disk first."""
    packed = path.suffix.lower() in COMPRESSIONS
    with corpus_file_errors(path), tempfile.TemporaryFile() if packed else open(path, "rb") as file:
        if packed:
            file.writelines(read_bytes(path))
            file.seek(0)
        yield file


READERS: Mapping[str, Callable[[Path], Iterator[str]]] = {
    **dict.fromkeys((".txt", ".text", ".md", ".markdown", ".rst"), lambda path: text_documents(read_text(path))),
    ".jsonl": lambda path: record_documents(_json_records(path), _where(path)),
    ".csv": lambda path: record_documents(_csv_records(path), _where(path)),
    # a .tsv has no quoting (IANA text/tab-separated-values; GLUE's files rely on it)
    ".tsv": lambda path: record_documents(_csv_records(path, delimiter="\t", quoting=csv.QUOTE_NONE), _where(path)),
    ".parquet": _parquet,
}
"""Extension -> the documents of a file."""
