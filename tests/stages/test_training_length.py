"""Whether a training is long enough: what is said of its text, of its steps, and of what more would bring."""

import json
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from autodistil.stages import training_length
from autodistil.stages.training_length import LOOK, StepClock, duration, length_notes, text_notes


def text(there, samples_a_step=64):
    return SimpleNamespace(train=range(there), samples_a_step=samples_a_step, unit="sentences")


def folder(tmp_path, losses, steps=None, seconds=2.0):
    """A run folder with the metrics of one or more SuperLMs."""
    path = tmp_path / "metrics.jsonl"
    rows = [
        {"sub_space": name, "step": step, "loss": loss, "seconds": seconds}
        for name, of in losses.items()
        for step, loss in enumerate(of, 1)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    count = steps or len(next(iter(losses.values())))
    return SimpleNamespace(metrics_path=path, resolved=lambda: {"train_steps": count})


def test_a_text_that_is_read_over_and_over_is_told():
    assert text_notes(text(10_000), 120) == []
    assert text_notes(text(192), 120) == ["there are 192 sentences to train on, so each is read 40 times: give more"]


def test_a_look_is_told_with_the_time_that_more_would_take(tmp_path):
    (note,) = length_notes(folder(tmp_path, {"base": [3.0] * 24, "tiny": [5.0] * 24}))
    assert note == (
        "24 steps are a look: with another seed a neighbour may be the best. With --train-steps 120, about 8 minutes "
        "here, two seeds picked the same students."
    )
    assert length_notes(folder(tmp_path, {"base": [3.0] * LOOK})) == []


def test_what_more_would_bring_comes_from_the_second_half(tmp_path):
    falling = [10.0 - 0.05 * step for step in range(LOOK)]
    notes = length_notes(folder(tmp_path, {"base": falling, "tiny": [5.0] * LOOK}))
    assert notes == [
        "Over the second half of the training losses fell by base 38%: twice the steps may bring as much again."
    ]


@given(st.lists(st.floats(0.01, 100), max_size=300))
def test_no_curve_promises_more_than_all_of_a_loss(losses):
    fall = training_length._fall(losses)
    assert fall is None or 0 < fall < 1


def test_no_metrics_are_no_error(tmp_path):
    lost = SimpleNamespace(metrics_path=tmp_path / "metrics.jsonl", resolved=lambda: {"train_steps": LOOK})
    assert length_notes(lost) == []


@pytest.mark.parametrize(("seconds", "words"), [(40, "40 seconds"), (420, "7 minutes"), (12_600, "3.5 hours")])
def test_times_are_said_as_people_say_them(seconds, words):
    assert duration(seconds) == words


def test_the_time_of_a_step_is_told_once_and_every_step_handed_on(monkeypatch):
    times, said, kept = iter([10.0, 12.0, 14.0, 16.0]), [], []
    monkeypatch.setattr(training_length.time, "monotonic", lambda: next(times))
    clock = StepClock(kept.append, SimpleNamespace(say=said.append), 64)
    for step in range(1, 10):
        clock([SimpleNamespace(step=step)])
    assert len(kept) == 9
    assert said == ["a step takes 2 s: 60 more take 2 minutes"]
