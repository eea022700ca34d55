"""Proxy scores of students: the file `proxy.json` of a run folder, one table of scores a protocol.

A score is worth its protocol: task, data, method and weights. Another protocol has a table of its own, so no score is
computed twice and none is taken for another.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from autodistil.errors import RunError, one_line_named
from autodistil.files import write_text


@dataclass(frozen=True)
class ProxyScores:
    """The scores of one protocol, and those of others in the same file."""

    path: Path
    protocol: Mapping[str, Any]
    """Plain JSON values."""
    known: dict[str, float]
    """Student id -> score."""
    others: tuple[Mapping[str, Any], ...]

    @classmethod
    def open(cls, path: Path, protocol: Mapping[str, Any]) -> ProxyScores:
        """What is known under a protocol; nothing where there is no file.

        Raises:
            RunError: the file is damaged.
        """
        tables = _read(path)
        known = {k: v for table in tables if table["protocol"] == protocol for k, v in table["scores"].items()}
        return cls(path, protocol, known, tuple(table for table in tables if table["protocol"] != protocol))

    def add(self, student_id: str, score: float) -> None:
        """Keep a score, on disk at once."""
        self.known[student_id] = score
        mine = {"protocol": dict(self.protocol), "scores": dict(sorted(self.known.items()))}
        content = {"format": 1, "proxies": [*self.others, mine]}
        write_text(self.path, json.dumps(content, indent=1, allow_nan=False) + "\n")


def _read(path: Path) -> list[dict[str, Any]]:
    if not path.is_file():
        return []
    try:
        return [_checked(table) for table in json.loads(path.read_text(encoding="utf-8"))["proxies"]]
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        reason = one_line_named(error, 120)
        raise RunError(f"{str(path)!r} is damaged ({reason}); remove it to score students again") from error


def _checked(table: Mapping[str, Any]) -> dict[str, Any]:
    scores = {str(student_id): float(score) for student_id, score in table["scores"].items()}
    if not all(map(math.isfinite, scores.values())):
        raise ValueError("a score is not finite")
    return {"protocol": dict(table["protocol"]), "scores": scores}
