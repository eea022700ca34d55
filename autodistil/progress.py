"""How long work tells what it does: a silent default for libraries, a terminal one in the command line."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager

logger = logging.getLogger(__name__)

Advance = Callable[..., None]
"""`advance(steps=1, status="")`: so many more units are done; `status` is what is worth seeing beside the bar."""


class Progress:
    """Reports to the module's logger. The command line replaces it by one that draws."""

    def say(self, message: str) -> None:
        """A line that a person should read."""
        logger.info(message)

    @contextmanager
    def track(self, description: str, total: int) -> Iterator[Advance]:
        """A stretch of work of `total` units."""
        logger.info("%s: %d", description, total)
        yield lambda steps=1, status="": None
