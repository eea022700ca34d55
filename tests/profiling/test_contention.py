"""Real busy processes beside the stopwatch."""

import os
import subprocess
import sys
import time

import pytest

from autodistil.profiling.stopwatch import Stopwatch

BUSY = "while True: pass"


@pytest.fixture
def busy_neighbours():
    """Three busy processes a core."""
    started = [subprocess.Popen([sys.executable, "-c", BUSY]) for _ in range(3 * (os.cpu_count() or 1))]
    yield
    for process in started:
        process.kill()
        process.wait()


def spin(seconds):
    """Work of constant processor time."""
    end = time.thread_time() + seconds
    while time.thread_time() < end:
        pass


@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt", reason="processor time is counted too coarsely")
def test_neighbours_that_multiply_the_true_time_are_told(busy_neighbours):
    stopwatch = Stopwatch(lambda: spin(0.001), rounds=10, repeats=1)
    (timing,) = stopwatch.measure([lambda: spin(0.03)]).timings
    assert timing.busy
