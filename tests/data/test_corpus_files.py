"""Corpus files of every kind, whole and hostile."""

import gzip
import json
import lzma
import os
import re
from collections.abc import Callable

import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from autodistil.data import readers as decoding
from autodistil.data.readers import read_documents, read_lines, read_text, read_texts
from autodistil.data.sources import iter_documents
from autodistil.errors import CorpusError

zstandard = pytest.importorskip("zstandard")

COMPRESS: dict[str, Callable[[bytes], bytes]] = {
    "": bytes,
    ".gz": gzip.compress,
    ".xz": lzma.compress,
    ".zst": lambda data: zstandard.ZstdCompressor(write_checksum=True).compress(data),
}
TEXT = "First document,\nin two lines.\r\n\r\nSecond: naïve café — 東京.\r\r\nThird.\n"
DOCUMENTS = ["First document,\nin two lines.", "Second: naïve café — 東京.", "Third."]


def documents(path):
    return list(iter_documents([str(path)]))


def write(path, content):
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def message(path):
    with pytest.raises(CorpusError) as caught:
        documents(path)
    text = str(caught.value)
    assert "\n" not in text
    assert path.name in text
    return text


@pytest.mark.parametrize("compression", COMPRESS)
@pytest.mark.parametrize("name", ["a.txt", "a.MD", "a.rst"])
def test_text_in_every_compression(tmp_path, name, compression):
    path = write(tmp_path / (name + compression), COMPRESS[compression](TEXT.encode()))
    assert documents(path) == DOCUMENTS


@pytest.mark.parametrize("compression", COMPRESS)
@pytest.mark.parametrize("kind", [".jsonl", ".csv", ".parquet"])
def test_tables_in_every_compression(tmp_path, kind, compression):
    table = pd.DataFrame({"id": [1, 2, 3], "label": ["x", "y", "z"], "text": DOCUMENTS})
    plain = tmp_path / f"plain{kind}"
    if kind == ".parquet":
        pytest.importorskip("pyarrow")
    writers = {
        ".jsonl": lambda: table.to_json(plain, orient="records", lines=True),
        ".csv": lambda: table.to_csv(plain, index=False),
        ".parquet": lambda: table.to_parquet(plain),
    }
    writers[kind]()
    path = write(tmp_path / f"a{kind}{compression}", COMPRESS[compression](plain.read_bytes()))
    assert documents(path) == DOCUMENTS


def test_frames_one_after_the_other(tmp_path):
    for name, compress in COMPRESS.items():
        path = write(tmp_path / f"a.txt{name}", compress(b"one ") + compress(b"two\n\n") + compress(b"three"))
        assert documents(path) == ["one two", "three"]


def test_byte_order_mark_is_left_out(tmp_path):
    assert documents(write(tmp_path / "a.txt", b"\xef\xbb\xbfHello there.")) == ["Hello there."]


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=50)
@given(text=st.text(alphabet="aé東🙂\r\n", max_size=60), size=st.integers(1, 7))
def test_chunked_reader_equals_whole_reader(tmp_path, text, size):
    path = write(tmp_path / "a.txt", text)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(decoding, "_chunks", lambda file: iter(lambda: file.read(size), b""))
        whole = text.replace("\r\n", "\n").replace("\r", "\n")
        assert "".join(read_text(path)) == whole
        assert "".join(read_lines(path)) == whole
        assert [line.removesuffix("\n") for line in read_lines(path)] == whole.removesuffix("\n").split("\n") * bool(
            whole
        )


# Tables


def test_tsv_has_no_quoting(tmp_path):
    path = write(tmp_path / "a.tsv", 'label\tsentence\n1\tthe "best\n0\tfilm" of all\n')
    assert documents(path) == ['the "best', 'film" of all']


def test_pairs_are_joined(tmp_path):
    path = write(tmp_path / "a.tsv", "text_a\ttext_b\tlabel\nIs it?\tIt is.\t1\n")
    assert documents(path) == ["Is it? It is."]


def test_csv_fields_over_several_lines_and_empty_rows(tmp_path):
    path = write(tmp_path / "a.csv", 'n,text\n1,"two\nlines, one ""field"""\n\n2,short\n3\n')
    assert documents(path) == ['two\nlines, one "field"', "short"]


def test_csv_field_longer_than_the_default_limit(tmp_path):
    path = write(tmp_path / "a.csv", "text\n" + "word " * 40_000 + "\n")
    assert sum(map(len, documents(path))) > 190_000


def test_first_column_with_words(tmp_path):
    path = write(tmp_path / "a.csv", "id,score,sentence,other\n1,0.5,Hello there,x\n")
    assert documents(path) == ["Hello there"]


def test_which_of_several_columns_is_taken_is_said(tmp_path, caplog):
    path = write(tmp_path / "a.csv", "id,sentence,other\n1,Hello there,x\n")
    documents(path)
    assert "text is taken from the column 'sentence', not from other; name another one 'text'" in caplog.text
    caplog.clear()
    documents(write(tmp_path / "b.csv", "id,text,other\n1,Hello there,x\n"))
    documents(write(tmp_path / "c.csv", "id,sentence\n1,Hello there\n"))
    assert not caplog.text


def test_json_lines_first_string_field(tmp_path):
    records = [{"id": 7, "body": "one", "title": "t"}, {"id": 8, "body": None}, {"id": 9}, {"body": "two"}]
    path = write(tmp_path / "a.jsonl", "\n\n".join(map(json.dumps, records)))
    assert documents(path) == ["one", "two"]


def test_json_lines_with_line_separators_and_lone_surrogates(tmp_path):
    path = write(tmp_path / "a.jsonl", '{"text": "a\u2028b"}\n{"text": "c\\ud800d"}')
    assert documents(path) == ["a\u2028b", "c?d"]


def test_parquet_of_many_batches_with_empty_values(tmp_path):
    pytest.importorskip("pyarrow")
    path = tmp_path / "a.parquet"
    texts = [None] * 1500 + [f"document {i}" for i in range(1500)]
    pd.DataFrame({"id": range(3000), "body": texts}).to_parquet(path, row_group_size=500)
    assert documents(path) == texts[1500:]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.csv", "id,score\n1,2.5\n2,3.5\n"),
        ("a.tsv", "id\tscore\n1\t2.5\n"),
        ("a.jsonl", '{"id": 1, "score": 2.5}\n'),
    ],
)
def test_no_text_column_names_the_columns(tmp_path, name, content):
    assert "has the columns id, score" in message(write(tmp_path / name, content))


def test_parquet_without_text_column(tmp_path):
    pytest.importorskip("pyarrow")
    path = tmp_path / "a.parquet"
    pd.DataFrame({"id": [1], "score": [2.5]}).to_parquet(path)
    assert "has the columns id, score" in message(path)


# Hostile files


@pytest.mark.parametrize("name", ["a.txt", "a.jsonl", "a.csv", "a.txt.gz", "a.txt.zst"])
def test_empty_file(tmp_path, name):
    assert "empty" in message(write(tmp_path / name, b""))


def test_file_of_blanks_and_table_of_header(tmp_path):
    assert "empty" in message(write(tmp_path / "a.txt", " \n\t\n\n"))
    assert "empty" in message(write(tmp_path / "b.csv", "text\n"))


def test_binary_file(tmp_path):
    assert "zero byte at byte 4" in message(write(tmp_path / "a.txt", b"ELF!\0\1\2"))


def test_utf16_file(tmp_path):
    assert "byte 0" in message(write(tmp_path / "a.txt", "\ufeffHello".encode("utf-16-be")[:1] + b"\xff"))
    assert "UTF-16" in message(write(tmp_path / "b.txt", "Hello".encode("utf-16-le")))


@pytest.mark.parametrize("size", [3, 1 << 20])
@pytest.mark.parametrize(("before", "bad"), [("café ", b"\xe9t"), ("東京", b"\xff"), ("end ", b"\xe6\x9d")])
def test_not_utf8_says_where(tmp_path, monkeypatch, size, before, bad):
    monkeypatch.setattr(decoding, "_chunks", lambda file: iter(lambda: file.read(size), b""))
    path = write(tmp_path / "a.txt", before.encode() + bad)
    assert f"at byte {len(before.encode())}:" in message(path)


@pytest.mark.parametrize("compression", [".gz", ".xz", ".zst"])
def test_truncated_archive(tmp_path, compression):
    data = COMPRESS[compression](os.urandom(3000).hex().encode())
    for length in (len(data) - 1, len(data) // 2, 5):
        assert "truncated" in message(write(tmp_path / f"a.txt{compression}", data[:length]))


@pytest.mark.parametrize("compression", [".gz", ".xz", ".zst"])
def test_archive_that_is_none(tmp_path, compression):
    assert "not what its extension says" in message(write(tmp_path / f"a.txt{compression}", "plain text"))


@pytest.mark.parametrize("content", [b"PAR1", b"", b"PAR1" + b"x" * 100 + b"PAR1", b"no parquet at all"])
def test_broken_parquet(tmp_path, content):
    pytest.importorskip("pyarrow")
    assert "Parquet" in message(write(tmp_path / "a.parquet", content))


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("not json", "line 2 is not JSON"),
        ('{"text": "cut', "line 2 is not JSON"),
        ("[" * 100_000, "line 2 is not JSON"),
        ('["text"]', "line 2 is a JSON list"),
        ("5", "line 2 is a JSON int"),
    ],
)
def test_broken_json_line(tmp_path, line, problem):
    assert problem in message(write(tmp_path / "a.jsonl", '{"text": "fine"}\n' + line))


def test_quote_that_is_never_closed(tmp_path):
    content = 'text\n"never closed\n' + "word,word\n" * 2_000_000
    assert "never closed" in message(write(tmp_path / "a.csv", content))


def test_record_that_never_ends(tmp_path, monkeypatch):
    monkeypatch.setattr(decoding, "MAX_LINE_CHARACTERS", 1000)
    assert "more than 1,000 characters" in message(write(tmp_path / "a.jsonl", "x" * 2000))


@pytest.mark.parametrize("kind", [".csv", ".tsv", ".jsonl"])
def test_a_table_of_very_many_columns_is_refused_at_its_first_row(tmp_path, kind, monkeypatch):
    monkeypatch.setattr(decoding, "MAX_COLUMNS", 100)
    names = [f"c{number}" for number in range(101)]
    row = {name: "some words" for name in names}
    separator = "\t" if kind == ".tsv" else ","
    content = json.dumps(row) if kind == ".jsonl" else f"{separator.join(names)}\n{separator.join(row.values())}"
    assert "has 101 columns; allowed: 100; keep the one with the text" in message(write(tmp_path / f"a{kind}", content))


def test_few_long_records_are_held_to_find_the_column(tmp_path, monkeypatch):
    held = []
    find = decoding._columns_with_text
    monkeypatch.setattr(decoding, "_columns_with_text", lambda head, where: held.append(head) or find(head, where))
    monkeypatch.setattr(decoding, "HEAD_CHARACTERS", 1000)
    lines = [json.dumps({"text": f"{number} " + "word " * 100}) for number in range(9)]
    path = write(tmp_path / "a.jsonl", "\n".join(lines))
    assert len(documents(path)) == 9
    assert [len(records) for records in held] == [2]


@pytest.mark.parametrize("compression", [".gz", ".xz", ".zst"])
def test_a_file_that_unpacks_to_far_more_than_text_does_is_refused_with_its_size(tmp_path, compression, monkeypatch):
    monkeypatch.setattr(decoding, "MAX_UNPACKED", 1 << 20)
    path = write(tmp_path / f"a.txt{compression}", COMPRESS[compression](b"words of a bomb " * (1 << 18)))
    text = message(path)
    assert re.search("unpacks to [24] MB or more, which may be a decompression bomb; allowed: 250 times its", text)
    assert f"of {path.stat().st_size / 1e6:,.3f} MB" in text
    monkeypatch.setattr(decoding, "MAX_UNPACKED", 1 << 22)
    assert len("".join(documents(path))) > 4_000_000


def test_unreadable_file(tmp_path, monkeypatch):
    path = write(tmp_path / "a.txt", "text")

    def refuse(*args, **kwargs):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("builtins.open", refuse)
    assert "Permission denied" in message(path)


@pytest.mark.parametrize("name", ["a.docx", "a", "a.xz", "a.json"])
def test_unknown_extension(tmp_path, name):
    text = message(write(tmp_path / name, "text"))
    assert "unknown extension" in text
    assert ".jsonl" in text


def test_missing_library(tmp_path, monkeypatch):
    path = write(tmp_path / "a.txt.zst", COMPRESS[".zst"](b"text"))
    monkeypatch.setitem(__import__("sys").modules, "zstandard", None)
    assert "pip install 'autodistil[data]'" in message(path)


def test_texts_keep_their_number_whatever_they_hold(tmp_path):
    """A record without text has its place, of a long one the first piece counts, and lines are texts of their own."""
    long = "a word and " * 3000
    records = tmp_path / "texts.jsonl"
    records.write_text("".join(json.dumps({"text": text}) + "\n" for text in ("one. two", "", f" {long}", "three ")))
    found = list(read_texts(records))
    assert [found[0], found[1], found[3]] == ["one. two", "", "three"]
    assert [text for text in found if text] == [*list(read_documents(records))[:2], "three"]
    lines = tmp_path / "texts.txt"
    lines.write_text("one. two\n\n  three \nfour")
    assert list(read_texts(lines)) == ["one. two", "three", "four"]
