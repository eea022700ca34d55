"""Forwards of students beside their teacher's: what is read, who is measured again, and who is left out."""

import pytest
import torch
from autodistil_helpers import random_teacher
from transformers import BertConfig, BertModel, ViTConfig, ViTModel

from autodistil.profiling.forward_time import _inputs, forward_speeds, where_timed
from autodistil.profiling.stopwatch import Timing, Timings


class Measurements:
    """A stopwatch that measures what it is told to, and runs every call once."""

    def __init__(self, *rounds):
        self.rounds, self.calls = list(rounds), []

    def measure(self, calls):
        for call in calls:
            call()
        self.calls.append(len(calls))
        found = self.rounds.pop(0)
        assert len(found) == len(calls)
        return Timings(tuple(Timing(ms, 0.9 * ms, 1.1 * ms, 10, busy) for ms, busy in found), 1.0)


@pytest.fixture(scope="module")
def model():
    return random_teacher().model


def test_students_stand_beside_the_teacher(model):
    state = torch.random.get_rng_state()
    first, second = forward_speeds([model, model], model, 8, Measurements([(9.0, False), (3.0, False), (4.5, False)]))
    assert torch.equal(state, torch.random.get_rng_state())  # drawing the plain teacher leaves no trace
    assert (first.factor, second.factor) == ("3.0 x", "2.0 x")
    assert first.of("big") == "3.0 x as fast as big: 3.00 ms against 9.00"
    assert first.teacher == (9.0, pytest.approx(8.1), pytest.approx(9.9))
    assert first.inputs == "1 x 8 tokens"
    assert first.where == where_timed(model.device)
    assert f"PyTorch {torch.__version__} on " in first.where


def test_a_model_reads_ids_of_its_own_vocabulary(model):
    sizes = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 64}
    pruned = BertModel(BertConfig(vocab_size=12, **sizes)).eval()
    watch = Measurements([(9.0, False), (3.0, False), (3.0, False)])
    assert [one.factor for one in forward_speeds([model, pruned], model, 8, watch)] == ["3.0 x"] * 2


def test_who_was_disturbed_is_measured_once_more(model):
    watch = Measurements([(9.0, False), (3.0, False), (50.0, True)], [(10.0, False), (5.0, False)])
    first, second = forward_speeds([model, model], model, 8, watch)
    assert (first.factor, second.factor) == ("3.0 x", "2.0 x")
    assert watch.calls == [3, 2]


def test_what_stays_disturbed_is_left_out(model):
    watch = Measurements([(9.0, True), (3.0, False)], [(9.0, True), (3.0, False)])
    assert forward_speeds([model], model, 8, watch) == [None]
    assert watch.calls == [2, 2]


def test_nothing_is_measured_again_where_everything_was_disturbed(model):
    watch = Measurements([(9.0, True), (3.0, True)])
    assert forward_speeds([model], model, 8, watch) == [None]


def test_the_real_stopwatch_gives_intervals_or_nothing(model):
    (speed,) = forward_speeds([model], model, 8)
    for median, low, high in () if speed is None else (speed.student, speed.teacher):
        assert 0 < low <= median <= high


def test_images_are_timed_at_the_size_that_the_model_reads():
    config = ViTConfig(
        hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16, image_size=8, patch_size=4
    )
    words, inputs = _inputs(ViTModel(config, add_pooling_layer=False), 5)
    assert words == "one image of 8 x 8"
    assert inputs["pixel_values"].shape == (1, 3, 8, 8)
