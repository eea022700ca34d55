"""How much faster students are: measured once a machine, kept, and left out where other work disturbed it."""

from types import SimpleNamespace

import pytest
import torch
from autodistil_helpers import random_teacher

from autodistil.costs.speed import Speed
from autodistil.space.student import Candidate, StudentConfig
from autodistil.stages import timing
from autodistil.stages.timing import known_speeds, speeds_of

A, B = (Candidate("small", StudentConfig(layers, 32, 2, 16, 64)) for layers in (1, 2))


@pytest.fixture
def run(tmp_path, monkeypatch):
    """What `speeds_of` asks of a run; its students are the teacher, and what is measured is made up."""
    teacher, said, measured = random_teacher(), [], []

    def forward_speeds(students, model, seq_len):
        assert model is teacher.model
        measured.append(len(students))
        return [Speed((3.0, 2.9, 3.1), (12.0, 11.0, 13.0), f"1 x {seq_len} tokens", run.here) for _ in students]

    run = SimpleNamespace(
        inputs=SimpleNamespace(device=torch.device("cpu"), teacher=teacher, seq_len=8),
        folder=SimpleNamespace(speed_path=tmp_path / "speed.json"),
        superlms=SimpleNamespace(of=lambda candidate: SimpleNamespace(extract=lambda config: teacher.model)),
        progress=SimpleNamespace(say=said.append, track=lambda *_: torch.no_grad()),
        here="a CPU",
        said=said,
        measured=measured,
    )
    monkeypatch.setattr(timing, "forward_speeds", forward_speeds)
    monkeypatch.setattr(timing, "where_timed", lambda device: run.here)
    return run


def test_a_student_is_measured_once(run):
    first = speeds_of(run, [A])
    both = speeds_of(run, [A, B])
    assert run.measured == [1, 1]
    assert set(both) == {A.id, B.id}
    assert both[A.id] == first[A.id] == known_speeds(run.folder.speed_path)[A.id]
    assert not run.said


def test_another_machine_measures_anew(run):
    speeds_of(run, [A, B])
    run.here = "another CPU"
    assert speeds_of(run, [A])[A.id].where == "another CPU"
    assert known_speeds(run.folder.speed_path)[B.id].where == "a CPU"
    assert run.measured == [2, 1]


def test_who_was_disturbed_is_left_out_and_named(run, monkeypatch):
    monkeypatch.setattr(timing, "forward_speeds", lambda students, *_: [None] * len(students))
    assert speeds_of(run, [A]) == {}
    assert known_speeds(run.folder.speed_path) == {}
    (line,) = run.said
    assert line.startswith(f"no milliseconds of {A.id}: other work disturbed the timing; search again")


@pytest.mark.parametrize("content", ["", "[]", '{"a": 1}', '{"a": {}}', '{"a": {"student": [1], "teacher": [1]}}'])
def test_a_damaged_file_is_measured_again(run, content):
    run.folder.speed_path.write_text(content)
    assert set(speeds_of(run, [A])) == {A.id}
    assert run.measured == [1]
