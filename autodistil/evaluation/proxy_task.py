"""A labelled task as the proxy that students are ranked by (the proxy variant of AutoDistil, section 3.4).

Only the task's train split is read, so dev and test stay clean and can be reported afterwards. Methods are those of
`evaluate`: similarity on all train rows; probe, knn and finetune fitted on two thirds of them and scored on every
third, a fine-tuning with one learning rate and seed after its last epoch. The paper fine-tunes on MNLI; here the task
is the user's, and of a large one `PROXY_ROWS` random rows are enough to tell students apart.

Scores are kept in the file `proxy.json` of a run folder, one table of scores a protocol: task, data, method and
weights. Another protocol has a table of its own, so no score is computed twice and none is taken for another.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np

from autodistil.errors import RunError, TaskError, one_line_named
from autodistil.evaluation.embedding import check_scored_pairs, every_nth
from autodistil.evaluation.evaluate import METHODS, ScoredModel, check_images, default_method
from autodistil.evaluation.ranking import check_classes
from autodistil.tasks.catalogue import Split, TaskData, load_task
from autodistil.tasks.finetune import EvaluationSettings
from autodistil.tasks.image_batching import read_image
from autodistil.utils import Progress, check_sum, write_text

PROXY_ROWS = 2_000
"""Train rows at most: a random choice, always the same one."""

_SCORED_PART = 3
"""Every so many-th row is scored where others are trained on."""

_FINETUNE: Mapping[str, Any] = MappingProxyType({"learning_rates": (3e-4,), "epochs": 3})
"""Settings: of the rates that small students want, the one that gets far in few steps (`finetune.DEFAULT_RATES`)."""


@dataclass(frozen=True)
class ProxyTask:
    """A task and how students are scored on it."""

    data: TaskData
    """The task's data: `evaluated`, and `train` where the method fits one, are parts of the task's train split."""
    method: str
    """A key of `evaluate.METHODS`."""

    def score(self, model: ScoredModel) -> float:
        """The task's headline metric, higher is better."""
        settings = EvaluationSettings(seeds=1, device=str(model.device), **_FINETUNE)
        outcome = METHODS[self.method](model, self.data, settings, Progress())
        return (outcome.last or outcome.scores)[0][self.data.task.headline]

    @property
    def protocol(self) -> dict[str, Any]:
        """What decides a student's score, beside its weights, as plain values."""
        train = self.data.splits.get("train")
        return {
            "task": self.data.task.name,
            "method": self.method,
            "metric": self.data.task.headline,
            "scored_rows": len(self.data.evaluated),
            "fitted_rows": len(train) if train else 0,
            "data": self.data.fingerprint,
            "settings": EvaluationSettings(**_FINETUNE).of(*_FINETUNE) if self.method == "finetune" else {},
        }


def load_proxy(name: str, data_dir: Path | None = None, method: str | None = None) -> ProxyTask:
    """Load the train split of a task to score students on.

    Args:
        name: see `load_task`.
        data_dir: folder to look in before the Hub.
        method: a key of `evaluate.METHODS`; unless given, similarity where pairs have scores, else a probe.

    Raises:
        TaskError: the task is unknown, has no or too small a train split, or does not fit the method.
        CorpusError: an image is damaged: better now than after hours of training.
    """
    data = load_task(name, data_dir, ("train",))
    method = method or default_method(data)
    if data.task.words or data.task.spans:
        what = "spans" if data.task.spans else "words"
        raise TaskError(f"task {name!r} is of {what}, by which no students are ranked; give one whose rows have labels")
    check_images(data, method)
    if method == "similarity":
        check_scored_pairs(data, instead="--proxy-method probe or finetune")
    if method == "knn":
        check_classes(data, method)
    rows = data.train(PROXY_ROWS)
    for file in rows.text_a if data.task.images else ():
        read_image(file)
    splits = {"dev": rows} if method == "similarity" else _fitted_and_scored(data, rows)
    return ProxyTask(replace(data, splits=MappingProxyType(splits)), method)


def _fitted_and_scored(data: TaskData, rows: Split) -> dict[str, Split]:
    """Rows to train on as `train`, rows to score as `dev`."""
    scored = every_nth(_SCORED_PART, rows.labels, data.task.regression)
    parts = {"train": rows.take(np.flatnonzero(~scored)), "dev": rows.take(np.flatnonzero(scored))}
    if any(len(np.unique(part.labels)) < 2 for part in parts.values()):
        raise TaskError(
            f"the {len(rows)} train rows of task {data.task.name!r} are too few to train on some and score others; "
            f"give at least {_SCORED_PART} rows of two labels each"
        )
    return parts


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
        write_text(self.path, json.dumps(content, indent=1, allow_nan=False) + "\n", summed=True)


def _read(path: Path) -> list[dict[str, Any]]:
    if not path.is_file():
        return []
    try:
        check_sum(path)
        tables = json.loads(path.read_text(encoding="utf-8"))["proxies"]
        for table in tables:
            table["scores"] = {str(student_id): float(score) for student_id, score in table["scores"].items()}
            if not all(map(math.isfinite, table["scores"].values())):
                raise ValueError("a score is not finite")
        return [{"protocol": dict(table["protocol"]), "scores": table["scores"]} for table in tables]
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        reason = one_line_named(error, 120)
        raise RunError(f"{str(path)!r} is damaged ({reason}); remove it to score students again") from error
