"""A stopwatch for latencies that can be trusted: warm, interleaved, wall clock, and aware of its neighbours.

1. Warm-up: each call is repeated until the median of the last five differs from that of the five before by at most 5 %
   (50 calls or 5 seconds at most).
2. Rounds: every round times every call once, in an order of its own, so that drift and the cache that a call inherits
   hit all calls alike. Short calls run once untimed before, as a model that is in use has its weights in the cache.
3. The figure is the median, with the confidence interval that order statistics give without assumptions.
4. Contention: one reference kernel is timed before, in each sample, and after. A sample is disturbed where the kernel
   took more than 1.3 times its fastest, or where kernel or call waited for the processor (wall-clock time above 1.1
   times the processor time of all threads). Disturbed samples are taken again, three times at most. What then stays
   disturbed does not count; where that is more than a fifth of a call's samples, its figure is marked busy, and where
   fewer than ten are left, all of them count.
5. A neighbour that stays from the first sample to the last slows the kernel's fastest time as well, and threads that
   wait for one another spin, which looks like work. So on Linux the processor's own books are read: where other
   processes took more than a tenth of a CPU all the while and left none idle, every figure is marked busy.

The reference kernel is a matrix product of constant size on the measured threads. NumPy alone, since the runner for
phones and edge boxes holds this file too.
"""

from __future__ import annotations

import math
import os
import random
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

Call = Callable[[], "float | None"]
"""Does the work once, and may return its seconds where it has a better clock than ours (CUDA events)."""

MIN_ROUNDS = 30

SLOW, WAITED = 1.3, 1.1

MAX_DISTURBED = 0.2
"""Share of a call's samples that may stay disturbed."""

_MIN_CLEAN = 10

_WINDOW, _STEADY, _MAX_WARM_UP, _MAX_WARM_UP_SECONDS = 5, 0.05, 50, 5.0

_SHORT_SECONDS = 0.02
"""Calls below it run once untimed before they are timed; above it, what a cache holds makes no difference."""

CROWDED = 0.1
"""Share of a CPU that others may take, and that must stay idle if they take more."""

_SHORTEST_WATCH = 0.2
"""Seconds from which the books, kept in hundredths, tell anything."""

_REFERENCES = 10
"""Times that the reference kernel runs before and after the rounds."""


def _books() -> tuple[int, float] | None:
    """How many CPUs this process may run on, and the seconds that they have worked since the machine started.

    None where the system is not Linux, or does not say. What a hypervisor gave to other machines counts as work.
    """
    try:
        own = os.sched_getaffinity(0)
        with open("/proc/stat", encoding="ascii") as file:
            lines = dict(line.rstrip().split(" ", 1) for line in file if line.startswith("cpu"))
        ticks = [list(map(int, lines[f"cpu{cpu}"].split()[:8])) for cpu in own]
    except (AttributeError, OSError, ValueError, KeyError):
        return None
    return len(own), sum(sum(row) - sum(row[3:5]) for row in ticks) / os.sysconf("SC_CLK_TCK")  # but idle and iowait


@dataclass(frozen=True)
class Clock:
    """What is read: both in seconds."""

    wall: Callable[[], float] = time.perf_counter
    processor: Callable[[], float] | None = None if os.name == "nt" else time.process_time
    """Time that all threads of this process ran; None where the system counts it too coarsely."""
    sleep: Callable[[float], None] = time.sleep
    books: Callable[[], tuple[int, float] | None] = _books
    """CPUs, and the seconds that they worked for anyone."""


@dataclass(frozen=True)
class Timing:
    """The figure of one call."""

    median_ms: float
    low_ms: float
    high_ms: float
    rounds: int
    busy: bool


@dataclass(frozen=True)
class Timings:
    """The figures of all calls, in their order."""

    timings: tuple[Timing, ...]
    reference_ms: float
    """Fastest time of the reference kernel."""


@dataclass(frozen=True)
class _Lap:
    """One timed run."""

    seconds: float
    waited: bool


@dataclass(frozen=True)
class _Sample:
    lap: _Lap
    reference: _Lap

    def disturbed(self, fastest: float) -> bool:
        return self.lap.waited or self.reference.waited or self.reference.seconds > SLOW * fastest


@dataclass
class Stopwatch:
    """Times calls beside each other.

    Args:
        reference: a kernel of constant work, on the same threads as the calls.
        rounds: samples of each call.
        repeats: times that disturbed samples are taken again at most.
        clock: what is read.
        on_round: told after each round.
    """

    reference: Call
    rounds: int = MIN_ROUNDS
    repeats: int = 3
    clock: Clock = Clock()
    on_round: Callable[[], None] = lambda: None

    def measure(self, calls: Sequence[Call]) -> Timings:
        """Time all calls."""
        crowded = self._watched()
        self.warm_up(self.reference)
        short = [self.warm_up(call) < _SHORT_SECONDS for call in calls]
        edges = [self._lap(self.reference) for _ in range(_REFERENCES)]
        samples: list[list[_Sample]] = [[] for _ in calls]
        for number in range(self.rounds):
            order = list(range(len(calls)))
            random.Random(number).shuffle(order)
            for i in order:
                samples[i].append(self._sample(calls[i], short[i]))
            self.on_round()
        edges += [self._lap(self.reference) for _ in range(_REFERENCES)]
        fastest = min([lap.seconds for lap in edges] + [s.reference.seconds for row in samples for s in row])
        for _ in range(self.repeats):
            fastest = self._repeat_disturbed(calls, short, samples, fastest)
        timings, busy = [_timing(row, fastest) for row in samples], crowded()
        return Timings(tuple(replace(timing, busy=timing.busy or busy) for timing in timings), 1e3 * fastest)

    def _watched(self) -> Callable[[], bool]:
        """Asked later: whether since now others took processor time and left no CPU idle."""
        read = self.clock.processor
        start, before, own = self.clock.wall(), self.clock.books(), read() if read else 0.0

        def crowded() -> bool:
            after, wall = self.clock.books(), self.clock.wall() - start
            if read is None or before is None or after is None or wall < _SHORTEST_WATCH:
                return False
            worked = after[1] - before[1]
            others, idle = worked - (read() - own), after[0] * wall - worked
            return others > CROWDED * wall and idle < CROWDED * wall

        return crowded

    def warm_up(self, call: Call) -> float:
        """Run a call until it is steady; returns its median seconds at the end."""
        start, laps = self.clock.wall(), []
        while True:
            laps.append(self._lap(call).seconds)
            last, before = laps[-_WINDOW:], laps[-2 * _WINDOW : -_WINDOW]
            median = statistics.median(last)
            if len(before) == _WINDOW and abs(median / statistics.median(before) - 1) <= _STEADY:
                return median
            if len(laps) >= _MAX_WARM_UP or self.clock.wall() - start > _MAX_WARM_UP_SECONDS:
                return median

    def _repeat_disturbed(
        self, calls: Sequence[Call], short: Sequence[bool], samples: list[list[_Sample]], fastest: float
    ) -> float:
        """Take the disturbed samples again, in place; returns the reference's fastest time by now."""
        again = [(k, i) for i, row in enumerate(samples) for k, s in enumerate(row) if s.disturbed(fastest)]
        for k, i in sorted(again):  # round by round, so that calls stay interleaved
            self.clock.sleep(0.001)  # the scheduler gives a new time slice to who slept
            samples[i][k] = self._sample(calls[i], short[i])
            fastest = min(fastest, samples[i][k].reference.seconds)
        return fastest

    def _sample(self, call: Call, short: bool) -> _Sample:
        self.reference()  # its data are in the cache when it is timed
        reference = self._lap(self.reference)
        if short:
            call()
        return _Sample(self._lap(call), reference)

    def _lap(self, call: Call) -> _Lap:
        read = self.clock.processor
        processor, start = read() if read else 0.0, self.clock.wall()
        own = call()
        wall = self.clock.wall() - start
        waited = read is not None and own is None and wall > WAITED * (read() - processor) + 1e-4
        return _Lap(max(wall if own is None else own, 1e-9), waited)


def _timing(samples: Sequence[_Sample], fastest: float) -> Timing:
    clean = [sample for sample in samples if not sample.disturbed(fastest)]
    busy = len(samples) - len(clean) > MAX_DISTURBED * len(samples)
    counted = clean if len(clean) >= _MIN_CLEAN else samples
    milliseconds = sorted(1e3 * sample.lap.seconds for sample in counted)
    low, high = median_interval(milliseconds)
    return Timing(statistics.median(milliseconds), low, high, len(counted), busy)


def median_interval(ordered: Sequence[float], confidence: float = 0.95) -> tuple[float, float]:
    """Confidence interval of the median from order statistics, whatever the distribution.

    The number of samples below the median is binomial with p = 1/2, so the k-th smallest and the k-th largest enclose
    the median with probability 1 - 2 P(B < k). Too few samples for `confidence` give their extremes.

    Args:
        ordered: samples, ascending; at least one.
        confidence: at least this.
    """
    n, k = len(ordered), 0
    below = 1 / 2**n
    while 2 * below <= 1 - confidence and 2 * k < n:
        k += 1
        below += math.comb(n, k) / 2**n
    k = max(k, 1)
    return ordered[k - 1], ordered[n - k]


_SIZE, _CUDA_SIZE = 256, 2048
"""About a millisecond on one core, and on an accelerator."""


def reference_kernel(device: str) -> Call:
    """The kernel for a device. On a CPU, BLAS takes the threads that the environment gave it at the start."""
    if device == "cuda":
        import torch

        matrix = torch.randn(_CUDA_SIZE, _CUDA_SIZE, device="cuda")
        return call_of(lambda: matrix @ matrix, events=True)
    left, right = np.random.default_rng(0).standard_normal((2, _SIZE, _SIZE)).astype(np.float32)
    out = np.empty_like(left)
    return call_of(lambda: np.matmul(left, right, out=out))


def call_of(work: Callable[[], Any], events: bool = False) -> Call:
    """Some work as a call; with `events`, one that waits for the accelerator and returns the seconds between two."""
    if not events:

        def call() -> None:
            work()

        return call
    import torch

    start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)

    def timed() -> float:
        start.record()
        work()
        end.record()
        end.synchronize()
        return float(start.elapsed_time(end)) / 1e3

    return timed
