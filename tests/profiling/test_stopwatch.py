"""The stopwatch on an injected clock: medians, intervals, interleaving, warm-up, neighbours that take the processor."""

import random
import statistics
from dataclasses import dataclass, field
from math import comb

import pytest
from hypothesis import given
from hypothesis import strategies as st

from autodistil.profiling.stopwatch import Clock, Stopwatch, call_of, median_interval


@dataclass
class World:
    """Time passes only where a test says so: on the wall, and, less what neighbours take, on the processor."""

    wall: float = 0.0
    processor: float = 0.0
    waiting: float = 0.0
    """Seconds on the wall for each second of work, less one."""
    slowness: float = 1.0
    """How much longer work takes, also on the processor: a neighbour in the cache, say."""
    others: float = 0.0
    """CPUs that others take all the while."""
    log: list = field(default_factory=list)

    @property
    def worked(self):
        """Seconds that both CPUs worked for anyone."""
        return self.processor + self.others * self.wall

    def work(self, name, seconds):
        self.log.append(name)
        self.processor += seconds * self.slowness
        self.wall += seconds * self.slowness * (1 + self.waiting)

    def call(self, name, seconds):
        return lambda: self.work(name, seconds)

    def clock(self, with_processor=True):
        processor = (lambda: self.processor) if with_processor else None
        return Clock(lambda: self.wall, processor, lambda seconds: None, lambda: (2, self.worked))

    def stopwatch(self, **options):
        return Stopwatch(self.call("reference", 0.001), clock=self.clock(), **options)


@pytest.fixture
def world():
    return World()


def test_medians_of_constant_calls_are_those_constants(world):
    measured = world.stopwatch().measure([world.call("short", 0.004), world.call("long", 0.5)])
    assert [timing.median_ms for timing in measured.timings] == pytest.approx([4, 500])
    assert [t.high_ms - t.low_ms for t in measured.timings] == pytest.approx([0, 0])
    assert [(timing.rounds, timing.busy) for timing in measured.timings] == [(30, False)] * 2
    assert measured.reference_ms == pytest.approx(1)


def test_calls_are_interleaved_in_changing_order_and_short_ones_are_warm(world):
    rounds = []
    calls = [world.call(name, 0.03) for name in "abc"] + [world.call("short", 0.001)]
    stopwatch = world.stopwatch(
        on_round=lambda: (rounds.append([n for n in world.log if n != "reference"]), world.log.clear())
    )
    world.log.clear()
    stopwatch.measure(calls)
    assert len(rounds) == 30
    assert all(sorted(order) == ["a", "b", "c", "short", "short"] for order in rounds[1:])
    assert all(order[order.index("short") + 1] == "short" for order in rounds[1:])
    assert len({tuple(order) for order in rounds[1:]}) > 5


def test_a_call_is_warm_when_two_windows_of_five_agree(world):
    times = iter([1.0] * 6 + [0.1] * 100)
    stopwatch = world.stopwatch()
    stopwatch.clock = Clock(lambda: world.wall / 100, None)  # not stopped by the limit of seconds
    assert stopwatch.warm_up(lambda: world.work("call", next(times))) == pytest.approx(0.001)
    assert len(world.log) == 14  # six slow ones; then three fast ones that win the window before, and five


def test_warming_up_ends_though_a_call_never_becomes_steady(world):
    noise = random.Random(0)
    world.stopwatch().warm_up(lambda: world.work("call", 0.001 * 10 ** noise.uniform(-1, 1)))
    assert len(world.log) <= 50


def test_a_neighbour_for_some_rounds_changes_no_figure(world):
    def on_round():
        rounds[0] += 1
        world.waiting = 2.0 if rounds[0] in range(10, 20) else 0.0

    rounds = [0]
    (timing,) = world.stopwatch(on_round=on_round).measure([world.call("call", 0.005)]).timings
    assert timing.median_ms == timing.high_ms == pytest.approx(5)
    assert (timing.rounds, timing.busy) == (30, False)


@pytest.mark.parametrize("harm", ["waiting", "slowness"])
def test_a_neighbour_that_stays_is_said_plainly(world, harm):
    def on_round():
        rounds[0] += 1
        setattr(world, harm, 3.0 if rounds[0] >= 3 else {"waiting": 0.0, "slowness": 1.0}[harm])

    rounds = [0]
    measured = world.stopwatch(on_round=on_round).measure([world.call("call", 0.005)])
    assert measured.timings[0].busy
    assert measured.timings[0].median_ms > 5
    assert measured.reference_ms == pytest.approx(1)


def test_a_neighbour_that_was_there_before_is_told_by_the_processor_time(world):
    world.waiting = 1.0
    assert world.stopwatch().measure([world.call("call", 0.005)]).timings[0].busy


@pytest.mark.parametrize(
    ("others", "threads", "busy"),
    [(0.0, 2, False), (0.05, 2, False), (0.5, 1, False), (1.0, 1, True), (0.5, 1.5, True)],
)
def test_who_shares_all_cpus_with_others_is_told(world, others, threads, busy):
    world.others = others

    def call():  # of threads that spin while they wait: nothing but the machine's books tells
        world.processor += 0.02 * threads
        world.wall += 0.02

    stopwatch = Stopwatch(call, clock=world.clock())
    assert stopwatch.measure([call]).timings[0].busy is busy


def test_a_system_that_keeps_no_books_says_nothing(world):
    world.others = 2.0
    clock = Clock(lambda: world.wall, lambda: world.processor, lambda seconds: None, lambda: None)
    assert not Stopwatch(world.call("reference", 0.001), clock=clock).measure([world.call("a", 0.01)]).timings[0].busy


def test_repetitions_are_bounded(world):
    world.waiting = 1.0
    world.stopwatch(repeats=2).measure([world.call("call", 0.03)])
    warm_up = 10
    assert world.log.count("call") == warm_up + 30 + 2 * 30


def test_undisturbed_samples_alone_count_where_ten_are_left(world):
    def on_round():
        rounds[0] += 1
        world.waiting = 4.0 if rounds[0] >= 12 else 0.0

    rounds = [0]
    (timing,) = world.stopwatch(on_round=on_round).measure([world.call("call", 0.005)]).timings
    assert timing.busy
    assert (timing.rounds, timing.median_ms) == (12, pytest.approx(5))


def test_a_call_may_bring_its_own_time(world):
    (timing,) = world.stopwatch().measure([lambda: 0.25]).timings
    assert timing.median_ms == 250
    assert not timing.busy


def test_without_processor_time_the_reference_still_tells(world):
    stopwatch = Stopwatch(world.call("reference", 0.001), clock=world.clock(with_processor=False))
    assert not stopwatch.measure([world.call("call", 0.005)]).timings[0].busy
    stopwatch.on_round = lambda: setattr(world, "waiting", 2.0)
    assert stopwatch.measure([world.call("call", 0.005)]).timings[0].busy


@given(st.integers(1, 200), st.sampled_from([0.5, 0.9, 0.95, 0.99]))
def test_the_interval_is_the_narrowest_of_order_statistics_with_its_confidence(n, confidence):
    low, high = median_interval(list(range(1, n + 1)), confidence)
    assert low + high == n + 1  # the k-th smallest and the k-th largest

    def coverage(k):
        return 1 - 2 * sum(comb(n, j) for j in range(k)) / 2**n

    if n > 1 and coverage(1) >= confidence:
        assert coverage(low) >= confidence - 1e-12
        assert 2 * (low + 1) > n + 1 or coverage(low + 1) < confidence
    else:
        assert (low, high) == (1, n) or n == 1


def test_the_interval_of_thirty_rounds_is_the_tenth_and_the_twenty_first():
    assert median_interval(range(1, 31)) == (10, 21)


def test_the_interval_covers_the_true_median_as_often_as_it_says():
    draw = random.Random(1)
    covered = [
        low <= 1.0 <= high
        for low, high in (median_interval(sorted(2 ** draw.gauss(0, 1) for _ in range(30))) for _ in range(2000))
    ]
    assert 0.94 < statistics.mean(covered) < 0.98


def test_work_on_an_accelerator_is_timed_by_events_and_waited_for(monkeypatch):
    steps = []

    class Event:
        def __init__(self, enable_timing):
            assert enable_timing

        def record(self):
            steps.append("record")

        def synchronize(self):
            steps.append("wait")

        def elapsed_time(self, end):
            return 8.0

    monkeypatch.setattr("torch.cuda.Event", Event)
    assert call_of(lambda: steps.append("work"), events=True)() == 0.008
    assert steps == ["record", "work", "record", "wait"]
    assert call_of(lambda: 5.0)() is None  # what work returns is no time
