"""`autodistil profile`: what it writes and prints, and that every wrong input is one line."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
from run_helpers import one_line, save_random_bert

from autodistil.cli import main
from autodistil.cli.profile import notes
from autodistil.errors import ProfileError
from autodistil.profiling.latency_model import choose_students
from autodistil.profiling.latency_table import read_table
from autodistil.profiling.profile import Profile
from autodistil.profiling.session import Measurements
from autodistil.space.space import SubSpace
from autodistil.space.student import Candidate, StudentConfig
from autodistil.stages.profiling import choose, folder_sources
from tests.profiling.test_table import TABLE


@pytest.fixture(scope="module")
def student(tmp_path_factory, quickstart_teacher_dir):
    return save_random_bert(tmp_path_factory.mktemp("student") / "mine", quickstart_teacher_dir)


def command(*words):
    """Run it; returns its exit status."""
    with pytest.raises(SystemExit) as stop:
        main(["profile", *map(str, words)])
    return stop.value.code


@pytest.fixture
def no_machine(monkeypatch):
    """Nothing is exported or measured: every student takes 2 ms."""

    def measure(plan, students, header, on_round):
        row = {"median_ms": 2.0, "low_ms": 1.9, "high_ms": 2.1, "rounds": 30, "busy": True}
        row = {**row, "peak_memory_mb": None, "file_mb": 1.0}
        entries = [
            {"student": dict(student.student), "batch": batch, "seq_len": seq_len, **row}
            for student in students
            for batch, seq_len in plan.shapes
        ]
        device = TABLE.to_dict()["device"]
        plans = {"runtime": plan.runtime, "threads": plan.threads, "reference_ms": 1.0}
        return Measurements({**header, **plans, "device": device, "entries": entries}, 0.98)

    monkeypatch.setattr("autodistil.profiling.profile.probe", lambda plan: {})
    from autodistil.profiling import profile

    real = profile.profile_students
    monkeypatch.setattr(
        profile, "profile_students", lambda *arguments, **options: real(*arguments, **{**options, "run": measure})
    )


def test_it_writes_the_table_and_says_that_the_machine_was_busy(student, no_machine, tmp_path, capsys):
    out = tmp_path / "table.json"
    assert (
        command("--student", student, "--runtime", "torch", "--batch", "1,8", "--seq-len", "16, 32", "--out", out) == 0
    )
    shown = capsys.readouterr().out
    table = read_table(out)
    assert [(entry.batch, entry.seq_len) for entry in table.entries] == [(1, 16), (1, 32), (8, 16), (8, 32)]
    assert table.entries[0].student == StudentConfig(4, 64, 4, 16, 256)
    assert "the machine was busy: 4 of 4 entries" in shown
    assert str(out) in shown


def test_json_is_one_object(student, no_machine, tmp_path, capsys):
    assert command("--student", student, "--runtime", "torch", "--json", "--out", tmp_path / "table.json") == 0
    assert json.loads(capsys.readouterr().out)["entries"][0]["median_ms"] == 2.0


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ([], "got neither --run nor --student, or both"),
        (["--run", "a", "--student", "b"], "got neither --run nor --student, or both"),
        (["--student", "a", "--runtime", "onyx"], "runtime: got 'onyx' (did you mean 'onnx'?)"),
        (["--student", "a", "--threads", "0"], "threads: got 0"),
        (["--student", "a", "--threads", "two"], "valid integer"),
        (["--student", "a", "--rounds", "-30"], "rounds: got -30"),
        (["--student", "a", "--batch", "1,-8"], "--batch: got '1,-8'"),
        (["--student", "a", "--seq-len", ""], "--seq-len: got ''"),
        (["--student", "a", "--seq-len", "0"], "sequence length: got 0"),
        (["--student", "a", "--device", "tpu"], "device: got 'tpu'; allowed: cpu, cuda, ray:LABEL"),
        (["--student", "a", "--device", "ray:"], "device: got 'ray:'"),
        (["--student", "a", "--out", "."], "--out: got '.', which is a folder"),
        (["--student", "no-such-folder"], "no-such-folder"),
        (["--run", "no-such-run"], "no-such-run"),
        (["--run", "no-such-run", "--students", "0"], "--students: got 0"),
    ],
)
def test_wrong_input_is_one_line(words, says, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert command(*words) == 2
    assert says in one_line(capsys)
    assert list(tmp_path.iterdir()) == []


def test_lengths_beyond_the_positions_are_refused_before_anything_is_exported(student, capsys):
    assert command("--student", student, "--seq-len", "500") == 2
    assert "at most the students' 128 positions" in one_line(capsys)


def test_one_architecture_twice_is_refused(student):
    with pytest.raises(ProfileError, match="one architecture twice"):
        folder_sources([student, student])


def test_quantised_tables_say_how_close_they_are():
    quiet = replace(TABLE, entries=TABLE.entries[:1], runtime="onnx-int8")
    assert notes(Profile(quiet, 0.9876)) == [
        "cosine of quantised outputs with PyTorch's: 0.988 (the lowest student's mean)"
    ]
    assert notes(Profile(replace(quiet, runtime="onnx"), 1.0)) == []


GRID = {"num_layers": (1, 2, 3), "hidden_size": (32, 64), "num_heads": (2,), "mlp_ratio": (1.0, 2.0)}
SUBS = [SubSpace(name, GRID) for name in ("left", "right")]
CANDIDATES = [Candidate(sub.name, config) for sub in SUBS for config in sub.students]
FRONT = [candidate.id for candidate in CANDIDATES if candidate.sub_space == "right"]


def test_a_design_comes_first_and_the_front_is_spread():
    design = choose_students(SUBS[0].students)
    chosen = choose(CANDIDATES, FRONT, len(design) + 2)
    assert [one.config for one in chosen[: len(design)]] == design
    assert {design[0], design[1]} == {SUBS[0].largest, SUBS[0].smallest}
    assert len({one.config for one in chosen}) == len(design) + 2
    assert choose(CANDIDATES, FRONT, 1) == chosen[:1]
    assert len(choose(CANDIDATES, FRONT, 1000)) == len(SUBS[0].students)
    assert len(choose(CANDIDATES, [], 1000)) == len(design)
    assert len(choose(CANDIDATES, ["unknown"], 1000)) == len(design)


def test_docs_name_the_runner():
    from autodistil.profiling.emit import RUNNER

    docs = Path(__file__).parents[2] / "docs" / "devices.md"
    assert RUNNER in docs.read_text(encoding="utf-8")


def test_an_emitted_set_is_json_too(student, tmp_path, monkeypatch, capsys):
    from autodistil.profiling import emit

    monkeypatch.setattr(emit, "emit_set", lambda sources, plan, header, to, progress: to / emit.RUNNER)
    capsys.readouterr()
    assert command("--student", student, "--emit", tmp_path / "set", "--seq-len", 8, "--json") == 0
    where = {"set": str(tmp_path / "set"), "runner": str(tmp_path / "set" / emit.RUNNER)}
    assert json.loads(capsys.readouterr().out) == {**where, "students": ["mine"]}


@pytest.mark.parametrize("device", ["cuda", "ray:laptop"])
def test_a_set_is_for_processors_alone(device, student, tmp_path, capsys):
    arguments = ["--student", student, "--emit", tmp_path / "set", "--seq-len", 8, "--device", device]
    capsys.readouterr()
    assert command(*arguments) == 2
    assert f"device: got {device!r} with --emit; allowed: cpu" in one_line(capsys)
    assert not (tmp_path / "set").exists()
