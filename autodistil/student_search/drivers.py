"""Several drivers on one study: each says that it lives, and the others see when one no longer does.

A driver counts up a number of its own in the study's attributes. Whether it still counts is judged by the observer's
clock alone, so clocks of different machines need not agree.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import optuna

BEAT_S = 15.0
"""Seconds between two signs of life."""
SILENCE_S = 120.0
"""Seconds without one after which a driver is taken for dead and its students are scored by others."""
_LEFT = -1
"""What a driver leaves behind that ended in order."""
_PREFIX = "driver:"


@contextmanager
def heartbeat(study: optuna.Study, driver: str, seconds: float = BEAT_S) -> Iterator[None]:
    """Give signs of life from a thread of its own, as scoring and loading may take long."""
    done = threading.Event()
    beats = study.user_attrs.get(_PREFIX + driver, 0) + 2  # 1 at least, and never what it was

    def beat(count: int) -> None:
        study.set_user_attr(_PREFIX + driver, count)

    def go_on() -> None:
        count = beats
        while not done.wait(seconds):
            count += 1
            beat(count)

    beat(beats)
    thread = threading.Thread(target=go_on, daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()
        beat(_LEFT)


@dataclass
class Watch:
    """What one driver sees of the others."""

    silence_s: float = SILENCE_S
    _seen: dict[str, tuple[int, float]] = field(default_factory=dict)
    """Driver -> its last beat and when it was first seen."""

    def gone(self, study: optuna.Study, driver: str) -> bool:
        """Whether a driver ended, or was silent for too long since this one first looked."""
        beat, now = study.user_attrs.get(_PREFIX + driver, 0), time.monotonic()
        last, since = self._seen.get(driver, (beat, now))
        self._seen[driver] = (beat, since if beat == last else now)
        return beat == _LEFT or now - self._seen[driver][1] > self.silence_s
