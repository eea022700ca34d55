"""News from the workers to the driver, and its wish to stop to them, through an actor beside the driver."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import ray
from ray.train import UserCallback

from autodistil.training.trainer import StepMetrics

_PAUSE_SECONDS = 0.5
"""Between two messages of a worker: a call costs about a millisecond, a step of a small model not much more."""


@dataclass(frozen=True)
class Begun:
    """A training begins, or goes on after it lost workers."""

    steps_done: Mapping[str, int]
    """Steps done, by SuperLM."""
    workers: int


@dataclass(frozen=True)
class Stepped:
    """A worker did some steps."""

    training: str
    """Which of those side by side."""
    rank: int
    host: str
    seconds: float
    """A step, on average."""
    rows: Sequence[StepMetrics]
    """Metrics from the first worker; all have the same."""


@dataclass(frozen=True)
class Saved:
    """A checkpoint is complete in the storage."""

    path: str


@dataclass(frozen=True)
class Diverged:
    """A training ended because its loss or gradient is no longer finite: to begin again would end in the same."""

    message: str


News = Begun | Stepped | Saved | Diverged


class Relay:
    """Keeps news until the driver asks for them."""

    def __init__(self) -> None:
        self._news: list[News] = []
        self._stop = False

    def post(self, news: News) -> bool:
        """Leave news; returns whether the training should stop."""
        self._news.append(news)
        return self._stop

    def take(self) -> list[News]:
        """What came since the last call, in order."""
        news, self._news = self._news, []
        return news

    def stop(self) -> None:
        """Ask the workers to stop after their step."""
        self._stop = True


def start_relay() -> Any:
    """A relay as an actor."""
    return ray.remote(num_cpus=0)(Relay).remote()


class SavedCallback(UserCallback):
    """Tells the relay when Ray has a checkpoint complete; runs beside the driver."""

    def __init__(self, relay: Any) -> None:
        self._relay = relay

    def after_report(self, run_context: Any, metrics: list[dict[str, Any]], checkpoint: Any) -> None:
        """Pass on where it is."""
        if checkpoint is not None:
            ray.get(self._relay.post.remote(Saved(checkpoint.path)))


class Reporter:
    """A worker's end of the relay: collects steps and sends them now and then, without waiting."""

    def __init__(self, relay: Any, training: str, rank: int) -> None:
        self._relay = relay
        self._training = training
        self._rank = rank
        self._rows: list[StepMetrics] = []
        self._steps = 0
        self._since = time.monotonic()
        self._answer: Any = None
        self.stop_wanted = False

    def add(self, rows: Sequence[StepMetrics]) -> None:
        """Take note of a step."""
        self._steps += 1
        if self._rank == 0:
            self._rows.extend(rows)
        if time.monotonic() - self._since >= _PAUSE_SECONDS:
            self._send()

    def flush(self) -> None:
        """Send what was not sent, and wait until it is there."""
        if self._steps:
            self._send()
        self._listen(timeout=None)

    def _send(self) -> None:
        self._listen(timeout=0)
        now = time.monotonic()
        host = ray.util.get_node_ip_address()
        news = Stepped(self._training, self._rank, host, (now - self._since) / self._steps, tuple(self._rows))
        self._answer = self._relay.post.remote(news)
        self._rows, self._steps, self._since = [], 0, now

    def _listen(self, timeout: float | None) -> None:
        """Take the answer to the last message; with a timeout of 0 only if it is there, with None it is waited for."""
        if self._answer is not None and ray.wait([self._answer], timeout=timeout)[0]:
            self.stop_wanted = bool(ray.get(self._answer)) or self.stop_wanted
            self._answer = None
