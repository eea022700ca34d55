"""The scaling model at its limits."""

from dataclasses import replace

import pytest
from bench_common.scaling import MeasuredStep, all_reduce_seconds, predict, sheet
from hypothesis import given
from hypothesis import strategies as st

MEASURED = MeasuredStep(step_seconds=0.2, samples=16, gradient_bytes=(80_000_000, 50_000_000))


def test_one_worker_is_what_was_measured():
    one = predict(MEASURED, 1)
    assert (one.step_seconds, one.communication_seconds, one.efficiency) == (0.2, 0.0, 1.0)


def test_a_ring_moves_twice_the_bytes_less_one_part():
    exact = replace(MEASURED, latency_seconds=0.0)
    assert all_reduce_seconds(exact, 300_000_000_000, 8) == pytest.approx(2 * 7 / 8)
    assert all_reduce_seconds(exact, 40_000_000_000, 16) == pytest.approx(2 * 7 / 8 * 40 / 300 + 2 / 2)


def test_a_single_sum_is_exposed_and_the_first_of_two_is_hidden():
    slow = replace(MEASURED, network_bandwidth=1e9)
    one_sum = predict(replace(slow, gradient_bytes=(50_000_000,)), 64)
    assert one_sum.exposed_seconds == pytest.approx(one_sum.communication_seconds)
    two = predict(replace(slow, gradient_bytes=(10_000_000, 50_000_000)), 64)
    assert two.exposed_seconds == pytest.approx(one_sum.exposed_seconds)


@given(st.integers(1, 4096), st.booleans())
def test_no_prediction_is_better_than_linear(workers, strong):
    row = predict(MEASURED, workers, strong)
    assert 0 < row.efficiency <= 1 + 1e-9
    assert row.exposed_seconds <= row.communication_seconds + 1e-12


def test_sheet_keeps_a_batch_only_while_each_worker_has_a_text_of_it():
    assert len(sheet(MEASURED).splitlines()) == 2 + 4 + 2
