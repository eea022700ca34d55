"""Evaluation of a model folder on labelled tasks: which method, over which seeds, and where the results are kept."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from types import MappingProxyType
from typing import Any

from autodistil.errors import ConfigError, RunError, suggest
from autodistil.evaluation.embedding import (
    DEFAULT_PROBE_ROWS,
    Encoder,
    check_scored_pairs,
    embedding_similarity,
    folder_encoder,
    linear_probe,
)
from autodistil.evaluation.results import (
    TaskResult,
    check_writable,
    merge,
    read_card,
    read_results,
    summary,
    update_card,
    write_results,
)
from autodistil.models.hf_folder import EvaluatedModel
from autodistil.tasks.catalogue import TaskData, load_task
from autodistil.tasks.finetune import EvaluationSettings, fine_tune
from autodistil.utils import Progress, resolve_device


@dataclass(frozen=True)
class Outcome:
    """What a method found on one task."""

    scores: Sequence[Mapping[str, float]]
    """metric -> value, one a seed."""
    train_rows: int
    settings: Mapping[str, Any]
    details: Mapping[str, Any]


@dataclass(frozen=True)
class Evaluation:
    """A model with the options it is evaluated under; its encoder is loaded once for all tasks."""

    model: EvaluatedModel
    settings: EvaluationSettings
    progress: Progress

    @cached_property
    def encode(self) -> Encoder:
        """The model's embeddings."""
        return folder_encoder(self.model, self.settings.device, self.settings.max_length)

    def seeds(self, default: int) -> range:
        """The seeds, from 0."""
        return range(self.settings.seeds or default)


def _similarity(evaluation: Evaluation, data: TaskData) -> Outcome:
    """Without training and without chance: one value, whatever the number of seeds."""
    scores = embedding_similarity(data, evaluation.encode)
    return Outcome([scores], 0, evaluation.settings.of("max_length"), {})


def _probe(evaluation: Evaluation, data: TaskData) -> Outcome:
    rows = evaluation.settings.max_train or DEFAULT_PROBE_ROWS
    seeds = evaluation.seeds(1)
    scores = [linear_probe(data, evaluation.encode, seed, rows) for seed in seeds]
    return Outcome(scores, len(data.train(rows)), {**evaluation.settings.of("max_length"), "max_train": rows}, {})


def _finetune(evaluation: Evaluation, data: TaskData) -> Outcome:
    settings = evaluation.settings
    tuned = fine_tune(evaluation.model, data, settings, evaluation.seeds(3), evaluation.progress)
    last = {name: summary([scores[name] for scores in tuned.last]) for name in tuned.last[0]}
    details = {
        "learning_rate": tuned.learning_rate,
        "best_epoch": list(tuned.best_epochs),
        "epochs": len(tuned.epochs[0]),
        "last": last,
        "grid": {f"{rate:g}": value for rate, value in tuned.grid.items()},
    }
    used = settings.of("max_length", "max_train", "learning_rates", "batch_size")
    return Outcome(tuned.best, tuned.train_rows, used, details)


METHODS: Mapping[str, Callable[[Evaluation, TaskData], Outcome]] = MappingProxyType(
    {"similarity": _similarity, "probe": _probe, "finetune": _finetune}
)


def default_method(data: TaskData) -> str:
    """Similarity where pairs have scores (STS), which needs no training; else a linear probe."""
    return "similarity" if data.task.pairs and data.task.regression else "probe"


def evaluate(
    source: str,
    tasks: Sequence[str],
    data_dir: Path | None = None,
    method: str | None = None,
    settings: EvaluationSettings | None = None,
    write: bool | None = None,
    progress: Progress | None = None,
    file: str | None = None,
) -> tuple[list[TaskResult], Path | None]:
    """Evaluate a model on tasks, and keep each result as soon as there is one.

    Args:
        source: a model folder, the packaged teacher's name, or a Hugging Face id.
        tasks: names (`tasks.load_task`).
        data_dir: local folder of tasks; the Hub for what it does not hold.
        method: a key of `METHODS`; `default_method` of each task unless given.
        settings: the options.
        write: keep results in the model's folder; unless given, only in one that autodistil exported.
        progress: told what happens.
        file: an ONNX file within the folder to evaluate in the place of the weights; its results are not kept.

    Returns:
        A result a task, and the file that keeps them (None where they are not kept).

    Raises:
        AutodistilError: wrong input, in one line.
    """
    _check(tasks, method)
    _check_file(file, method, write)
    progress = progress or Progress()
    settings = settings or EvaluationSettings()
    settings = replace(settings, device=str(resolve_device(settings.device)))
    evaluation = Evaluation(EvaluatedModel.open(source, file), settings, progress)
    keep = file is None and _keeps(evaluation.model, write)
    planned = [_plan(load_task(name, data_dir), method, settings) for name in dict.fromkeys(tasks)]
    results: list[TaskResult] = []
    path = None
    for result in _results(evaluation, planned):
        results.append(result)
        path = _keep(evaluation.model.folder, results) if keep else None
    return results, path


def _check(tasks: Sequence[str], method: str | None) -> None:
    if not tasks:
        raise ConfigError("no task is given; give --task, such as --task stsb; repeatable")
    if method is not None and method not in METHODS:
        raise ConfigError(f"method {method!r} is unknown{suggest(method, METHODS)}; allowed: {', '.join(METHODS)}")


def _check_file(file: str | None, method: str | None, write: bool | None) -> None:
    if file is not None and (method == "finetune" or write):
        what = "fine-tuned" if method == "finetune" else "kept in the folder, whose weights it is not"
        raise ConfigError(f"file {file!r} cannot be {what}; allowed: similarity and probe, without --write")


def _plan(data: TaskData, method: str | None, settings: EvaluationSettings) -> tuple[TaskData, str]:
    """A task and its method, checked to fit before hours of work on an earlier task."""
    name = method or default_method(data)
    if name == "similarity":
        check_scored_pairs(data)
    else:
        data.train(settings.max_train)
    return data, name


def _keeps(model: EvaluatedModel, write: bool | None) -> bool:
    """Whether results go into the model's folder, which is checked before any work."""
    if write and not model.users_own:
        raise RunError(f"model {model.source!r} is no folder of yours; leave --write out, or evaluate a copy")
    keep = model.users_own and model.exported if write is None else write
    if keep:
        check_writable(model.folder)
        read_card(model.folder)
    return keep


def _results(evaluation: Evaluation, planned: Sequence[tuple[TaskData, str]]) -> Iterator[TaskResult]:
    for data, name in planned:
        evaluation.progress.say(
            f"{data.task.name}: {name} on {len(data.evaluated):,} {data.evaluated_name} rows, {data.origin}"
        )
        outcome = METHODS[name](evaluation, data)
        yield TaskResult(
            task=data.task.name,
            method=name,
            split=data.evaluated_name,
            rows=len(data.evaluated),
            train_rows=outcome.train_rows,
            metrics={metric: tuple(s[metric] for s in outcome.scores) for metric in data.task.metrics},
            model=evaluation.model.fingerprint,
            data={"origin": data.origin, "fingerprint": data.fingerprint},
            settings=outcome.settings,
            details=outcome.details,
        )


def _keep(folder: Path, results: Sequence[TaskResult]) -> Path:
    merged = merge(read_results(folder), results)
    path = write_results(folder, merged)
    update_card(folder, merged)
    return path
