"""Streams cut into groups of about equal size."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sized
from typing import TypeVar

Item = TypeVar("Item", bound=Sized)


def grouped(items: Iterable[Item], size: int) -> Iterator[list[Item]]:
    """Lists of consecutive items whose lengths add up to `size` or just more; the last one may be shorter."""
    group: list[Item] = []
    length = 0
    for item in items:
        group.append(item)
        length += len(item)
        if length >= size:
            yield group
            group, length = [], 0
    if group:
        yield group
