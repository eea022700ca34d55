"""What was measured for a certificate, beside the losses of the search: the file `certificate.json` of a run folder.

Only measurements are read back. A run folder keeps its teacher, text and recipe, so they stay true for its life, while
what they say about the pick is worked out again for each search. The findings stand in the file too, for people and
other programs.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from autodistil.errors import RunError, one_line_named
from autodistil.utils import check_sum, write_text

Losses = Mapping[str, float]
"""Student id -> held-out loss; NaN where training diverged."""


@dataclass(frozen=True)
class CertificateLosses:
    """Losses of students by id, all on the held-out text of the search, and what they took to train."""

    in_superlm: Losses = field(default_factory=dict)
    """Losses in their sub-space's SuperLM of students the search had no reason to score, such as those over budget."""
    alone: Losses = field(default_factory=dict)
    """Trained alone: same start, text, objective and number of steps as the SuperLM."""
    start: Losses = field(default_factory=dict)
    """Before any training: slices of the teacher."""
    in_one: Losses = field(default_factory=dict)
    """Losses in one SuperLM over all sub-spaces."""
    task: str = ""
    """Name of the task of `task_scores`."""
    task_scores: Losses = field(default_factory=dict)
    """Score on that task, higher is better."""
    draws: Losses = field(default_factory=dict)
    """Share of the SuperLM's steps in which it drew the student."""
    students_a_step: Losses = field(default_factory=dict)
    """Sub-space -> students that its SuperLM draws a step; the SuperLM over all sub-spaces has the empty name."""
    tokens: float = 0.0
    """Tokens that each student trained alone has seen, and each drawn student of a SuperLM."""

    def merged(self, **measured: Any) -> CertificateLosses:
        """The losses with further values; those of a table are added to what it holds."""
        tables = {key: {**getattr(self, key), **value} for key, value in measured.items() if key in _TABLES}
        return replace(self, **{**measured, **tables})

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values, ids in order; NaN and infinity become null."""
        return dict(_to_json({**vars(self), **{name: dict(sorted(vars(self)[name].items())) for name in _TABLES}}))

    @classmethod
    def from_dict(cls, raw: object) -> CertificateLosses:
        """The inverse of `to_dict`.

        Raises:
            ValueError: not such a dictionary.
        """
        if not isinstance(raw, dict) or not set(raw) <= {item.name for item in fields(cls)}:
            raise ValueError("'measured' is not a mapping of known tables")
        tables = {key: _table(key, value) for key, value in raw.items() if key in _TABLES}
        task, tokens = raw.get("task", ""), _number("tokens", raw.get("tokens", 0.0))
        if not isinstance(task, str):
            raise ValueError(f"task = {task!r} is not a text")
        return cls(**tables, task=task, tokens=tokens)


_TABLES = frozenset(item.name for item in fields(CertificateLosses)) - {"tokens", "task"}


def read_measured(path: Path) -> CertificateLosses:
    """Read `certificate.json`; nothing was measured where there is none.

    Raises:
        RunError: the file is damaged.
    """
    if not path.is_file():
        return CertificateLosses()
    try:
        check_sum(path)
        return CertificateLosses.from_dict(json.loads(path.read_text(encoding="utf-8"))["measured"])
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        reason = one_line_named(error, 120)
        raise RunError(
            f"{str(path)!r} is damaged ({reason}); remove it, then run: autodistil certify --run {path.parent}"
        ) from error


def write_measured(path: Path, measured: CertificateLosses, findings: Mapping[str, Any]) -> Path:
    """Write `certificate.json` atomically; returns `path`.

    Args:
        path: where.
        measured: what is read back.
        findings: what it means, for readers of the file.
    """
    content = {"measured": measured.to_dict(), "findings": _to_json(findings)}
    return write_text(path, json.dumps(content, indent=1, allow_nan=False) + "\n", summed=True)


def _to_json(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _to_json(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_to_json(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _table(name: str, raw: object) -> dict[str, float]:
    if not isinstance(raw, dict):
        raise ValueError(f"{name!r} is not a mapping")
    return {key: _number(f"{name}.{key}", value) for key, value in raw.items()}


def _number(name: str, raw: object) -> float:
    if raw is None:
        return math.nan
    if isinstance(raw, bool) or not isinstance(raw, (int, float)) or not math.isfinite(raw):
        raise ValueError(f"{name} = {raw!r} is not a finite number")
    return float(raw)
