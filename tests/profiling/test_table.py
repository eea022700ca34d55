"""Latency tables: the same after a file, nothing of a hostile file gets through, a table of elsewhere is refused."""

import copy
import json
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from autodistil.errors import AutodistilError, ProfileError
from autodistil.formats.setting import RuntimeSetting
from autodistil.profiling.fingerprint import DeviceFingerprint, this_device
from autodistil.profiling.latency_table import (
    LatencyEntry,
    LatencyTable,
    check_device,
    of_teacher,
    read_table,
    table_from_dict,
    write_table,
)
from autodistil.space.student import StudentConfig

DEVICE = DeviceFingerprint("Some CPU", 8, "Linux", "x86_64")
SMALL = StudentConfig(3, 192, 6, 32, 576)
PRUNED = StudentConfig(3, 192, 6, 32, 576, vocab_size=8000, embedding_size=64)
TABLE = LatencyTable(
    device=DEVICE,
    runtime="onnx",
    threads=2,
    family="bert",
    vocab_size=30522,
    versions={"onnxruntime": "1.32.0"},
    reference_ms=1.5,
    entries=(
        LatencyEntry(SMALL, 1, 128, 3.1, 3.0, 3.3, 30, False, 61.5, 48.2),
        LatencyEntry(PRUNED, 8, 32, 9.0, 8.5, 9.9, 31, True, None, 12.0),
    ),
)


def test_a_table_is_the_same_after_a_file(tmp_path):
    path = write_table(TABLE, tmp_path / "table.json")
    assert read_table(path) == TABLE
    assert [entry.busy for entry in TABLE.entries] == [False, True]
    assert (
        str(RuntimeSetting(TABLE.device.kind, TABLE.runtime, TABLE.threads, 8, 32))
        == "cpu, onnx, 2 threads, batch 8, length 32"
    )


entries = st.builds(
    LatencyEntry,
    student=st.builds(StudentConfig, *[st.integers(1, 4096)] * 5, st.none() | st.integers(1, 99_999)),
    batch=st.integers(1, 64),
    seq_len=st.integers(1, 512),
    median_ms=st.just(2.0),
    low_ms=st.floats(0.01, 2.0),
    high_ms=st.floats(2.0, 1e6),
    rounds=st.integers(1, 1000),
    busy=st.booleans(),
    peak_memory_mb=st.none() | st.floats(0, 1e5),
    file_mb=st.floats(0, 1e5),
)


@given(st.lists(entries, max_size=4, unique_by=lambda entry: (entry.student, entry.batch, entry.seq_len)))
def test_every_table_is_the_same_after_json(rows):
    table = replace(TABLE, entries=tuple(rows))
    assert table_from_dict(json.loads(json.dumps(table.to_dict()))) == table


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


def _paths(value, prefix=()):
    """The keys that lead to each value of a nested structure."""
    keys = value if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ()
    for key in keys:
        yield (*prefix, key)
        yield from _paths(value[key], (*prefix, key))


RAW = json.loads(json.dumps(TABLE.to_dict()))


@settings(max_examples=300)
@given(st.sampled_from(list(_paths(RAW))), values)
def test_any_value_anywhere_is_read_or_refused_on_one_line(path, value):
    raw = copy.deepcopy(RAW)
    *parents, last = path
    target = raw
    for key in parents:
        target = target[key]
    target[last] = value
    try:
        table = table_from_dict(raw)
    except ProfileError as error:
        message = str(error)
    else:
        message = ""
        assert table_from_dict(json.loads(json.dumps(table.to_dict()))) == table
    assert "\n" not in message
    assert len(message) < 1000


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "Expecting value"),
        ("[]", "allowed: a JSON object"),
        ("[" * 100_000, "table"),
        ('{"version": 2}', "version: got 2; allowed: 1"),
        ('{"version": NaN}', "NaN"),
        ("\xff", "table"),
        (json.dumps({**RAW, "runtime": "onix"}), "did you mean 'onnx'"),
        (json.dumps({**RAW, "runtime": "onnx\n"}), "runtime"),
        (json.dumps({**RAW, "threads": 0}), "threads: got 0"),
        (json.dumps({**RAW, "entries": RAW["entries"][:1] * 2}), "twice"),
        (json.dumps({**RAW, "device": {**RAW["device"], "cpu": "Another"}}), "id"),
        (json.dumps({key: RAW[key] for key in RAW if key != "threads"}), "got no threads"),
        (json.dumps({**RAW, "more": 1}), "unknown key 'more'"),
        (json.dumps({**RAW, "entries": [{**RAW["entries"][0], "rounds": -3}]}), "rounds: got -3"),
        (json.dumps({**RAW, "entries": [{**RAW["entries"][0], "median_ms": -1}]}), "median_ms"),
        (json.dumps({**RAW, "entries": [{**RAW["entries"][0], "low_ms": 4.0}]}), "low_ms <= median_ms"),
    ],
)
def test_what_is_no_table_is_refused_on_one_line(tmp_path, text, says):
    path = tmp_path / "table.json"
    path.write_text(text, encoding="latin-1")
    with pytest.raises(ProfileError, match="autodistil profile") as error:
        read_table(path)
    assert says in str(error.value)
    assert "\n" not in str(error.value)


def test_a_missing_table_is_one_line(tmp_path):
    with pytest.raises(ProfileError, match="No such file"):
        read_table(tmp_path / "none.json")


def test_a_table_of_another_device_is_refused_unless_forced():
    here = replace(DEVICE, cpu="This CPU")
    check_device(TABLE, DEVICE)
    check_device(TABLE, here, force=True)
    with pytest.raises(ProfileError, match=r"of another device, Some CPU.*this is This CPU"):
        check_device(TABLE, here)


def test_this_device_is_described_the_same_each_time():
    assert this_device() == this_device()
    assert this_device().id == this_device().id != this_device("Some GPU").id
    assert this_device("Some GPU").kind == "cuda"


@pytest.mark.parametrize(
    "wrong", [{"runtime": "tvm"}, {"threads": 0}, {"threads": True}, {"batch": -1}, {"seq_len": 1_000_000}]
)
def test_settings_that_nothing_runs_in_are_refused(wrong):
    with pytest.raises(AutodistilError, match=r"got .*allowed"):
        RuntimeSetting(**wrong)


def test_a_table_of_another_teacher_is_refused():
    with pytest.raises(ProfileError, match="got students of the family 'bert'; allowed: 'mpnet', as the teacher has"):
        of_teacher(TABLE, "mpnet", 30522)
    with pytest.raises(ProfileError, match="got students of 30,522 tokens; allowed: at most 8,000"):
        of_teacher(TABLE, "bert", 8000)


def test_students_are_called_by_the_tokens_that_they_have():
    """One with all of a smaller vocabulary is none with all of the teacher's."""
    assert of_teacher(TABLE, "bert", 30522) == TABLE
    students = [entry.student for entry in of_teacher(TABLE, "bert", 50_000).entries]
    assert students == [replace(SMALL, vocab_size=30522), PRUNED]
    pruned = replace(TABLE, vocab_size=8000, entries=(replace(TABLE.entries[0]),))
    of_it = of_teacher(pruned, "bert", 30522)
    assert [entry.student.vocab_size for entry in of_it.entries] == [8000]
    whole = replace(pruned, entries=(replace(TABLE.entries[0], student=replace(SMALL, vocab_size=30522)),))
    assert of_teacher(whole, "bert", 30522).entries[0].student == SMALL
