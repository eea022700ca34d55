"""Evaluation of a model on labelled tasks: by which method, over which seeds, and where the results are kept.

similarity  correlation of the cosine of pairs with their scores, without training
probe       a linear model of frozen embeddings
knn         votes of the nearest training rows (`nearest_neighbours`)
finetune    the whole model, at its best epoch
classify    a fine-tuned model's own head, without training (classes, scores, words, answers in texts)
retrieval   documents ranked by their cosine to a query (`ranking`)
rerank      the same, of each query's candidates
cluster     k-means of the embeddings, beside the classes

A proxy task (`proxy_task`) scores students by the same methods.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from functools import cache, partial
from itertools import product
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch

from autodistil.errors import ConfigError, RunError, TaskError, suggest
from autodistil.evaluation.baseline import most_frequent_class, never_answering
from autodistil.evaluation.embedding import (
    DEFAULT_PROBE_ROWS,
    Encoder,
    check_reads,
    check_scored_pairs,
    embedding_similarity,
    folder_encoder,
    linear_probe,
    remembering,
    unit,
)
from autodistil.evaluation.nearest_neighbours import nearest_neighbours
from autodistil.evaluation.ranking import check_classes, cluster_scores, retrieval_scores
from autodistil.evaluation.results import (
    RESULTS,
    TaskResult,
    merge,
    read_card,
    read_results,
    summary,
    update_card,
    write_results,
)
from autodistil.evaluation.standard_error import standard_errors
from autodistil.evaluation.vector_codes import check_vectors, stored
from autodistil.models.hf_folder import CARD, EvaluatedModel
from autodistil.models.pooling import read_prompts
from autodistil.models.student_files import adding
from autodistil.tasks.catalogue import SPLITS, TaskData, load_task
from autodistil.tasks.classification import Classification
from autodistil.tasks.collection import Collection, find_collection
from autodistil.tasks.finetune import EvaluationSettings, Pupil, fine_tune, scored
from autodistil.tasks.own_head import answers_to, class_order, knows_classes
from autodistil.tasks.span_finder import SpanFinder
from autodistil.tasks.squad import question_scores, scores_by_kind, span_scores
from autodistil.utils import Progress, resolve_device


class ScoredModel(Protocol):
    """A model in the two forms that methods ask for: a folder, or a student that is none yet."""

    @property
    def device(self) -> torch.device | str:
        """The device to compute on."""

    def encoder(self) -> Encoder:
        """What computes the model's embeddings of texts or images."""

    def exported(self) -> AbstractContextManager[EvaluatedModel]:
        """A folder that holds it for a while."""

    @property
    def index(self) -> Index | None:
        """What embeds documents in its place; None where it does so itself."""


@dataclass(frozen=True)
class Index:
    """A model that embeds the documents of collections in the place of the one that is scored."""

    source: str
    """How it was asked for."""
    prompt: str
    """What it puts before documents."""
    encoder: Callable[[], Encoder]
    """Gives its sentence embeddings, loaded once."""

    @classmethod
    def by(cls, settings: EvaluationSettings) -> Index | None:
        """The one that settings ask for, if any."""
        if settings.index_by is None:
            return None
        model = EvaluatedModel.open(settings.index_by)
        how = (settings.device, settings.max_length, settings.truncate_dim)
        encoder = cache(partial(folder_encoder, model, *how))
        return cls(settings.index_by, read_prompts(model.folder)["document"], encoder)


@dataclass(frozen=True)
class FolderModel:
    """A model folder."""

    folder: EvaluatedModel
    device: str
    encoder: Callable[[], Encoder]
    """Gives its embeddings, loaded once for all tasks."""
    index: Index | None = None

    def exported(self) -> AbstractContextManager[EvaluatedModel]:
        """The folder itself."""
        return nullcontext(self.folder)

    def cut_to(self, dims: Sequence[int | None]) -> list[FolderModel]:
        """For each number the model with so many leading dimensions, None for all; texts are embedded once for them."""
        encoders, index = _cuts(self.encoder, dims), self.index
        if index is None:
            return [replace(self, encoder=encoder) for encoder in encoders]
        indexes = [replace(index, encoder=encoder) for encoder in _cuts(index.encoder, dims)]
        return [replace(self, encoder=one, index=other) for one, other in zip(encoders, indexes, strict=True)]


def _cuts(get: Callable[[], Encoder], dims: Sequence[int | None]) -> list[Callable[[], Encoder]]:
    whole = cache(lambda: remembering(get()))
    return [partial(_leading, whole, dim) for dim in dims]


def _leading(get: Callable[[], Encoder], dim: int | None) -> Encoder:
    encode = get()
    return lambda texts: encode(texts)[:, :dim]


@dataclass(frozen=True)
class Outcome:
    """What a method found on one task."""

    scores: Sequence[Mapping[str, float]]
    """metric -> value, one a seed."""
    train_rows: int
    settings: Mapping[str, Any]
    details: Mapping[str, Any] = field(default_factory=dict)
    last: Sequence[Mapping[str, float]] = ()
    """The same after the last epoch, where `scores` are of the best one."""
    queries: Mapping[str, Sequence[float]] = field(default_factory=dict)
    """metric -> the value of each query, where `scores` are means over queries."""


def _similarity(model: ScoredModel, data: TaskData, settings: EvaluationSettings, progress: Progress) -> Outcome:
    """Score without training and without chance: one value, whatever the number of seeds.

    Stored vectors are compared with each other, int8 by the ranges of both sides, which are encoded at once.
    """
    encode, vectors = model.encoder(), settings.vectors or "float32"
    compared = encode if vectors == "float32" else lambda texts: stored(unit(encode(texts)), vectors)
    return Outcome([embedding_similarity(data, compared)], 0, settings.of_embeddings(), _size(encode, settings))


def _probe(model: ScoredModel, data: TaskData, settings: EvaluationSettings, progress: Progress) -> Outcome:
    rows, encode, labels = settings.max_train or DEFAULT_PROBE_ROWS, model.encoder(), settings.labels or 1.0
    scores = [linear_probe(data, encode, seed, rows, labels) for seed in _draws(settings)]
    return Outcome(scores, len(data.train(rows, 0, labels)), {**_of_rows(data, settings), "max_train": rows})


def _knn(model: ScoredModel, data: TaskData, settings: EvaluationSettings, progress: Progress) -> Outcome:
    encode = model.encoder()
    drawn = [data.train(settings.max_train, seed, settings.labels or 1.0) for seed in _draws(settings)]
    scores = [nearest_neighbours(data, encode, train, settings.neighbours) for train in drawn]
    used = {**_of_rows(data, settings), **settings.of("max_train", "neighbours")}
    return Outcome(scores, len(drawn[0]), used)


def _draws(settings: EvaluationSettings) -> range:
    """Seeds of the choice of training rows, which is up to chance where only some have labels."""
    return range(settings.seeds or (3 if (settings.labels or 1.0) < 1 else 1))


def _of_rows(data: TaskData, settings: EvaluationSettings) -> Mapping[str, Any]:
    """Options that decide embeddings, but for those that images do not have, and which rows have labels."""
    return _without_length(data, settings.of_embeddings(*(["labels"] if settings.labels else [])))


def _without_length(data: TaskData, used: Mapping[str, Any]) -> dict[str, Any]:
    """Options, but for the length that images do not have."""
    return {name: value for name, value in used.items() if not (data.task.images and name == "max_length")}


def _finetune(model: ScoredModel, data: TaskData, settings: EvaluationSettings, progress: Progress) -> Outcome:
    with model.exported() as folder:
        tuned = fine_tune(folder, data, settings, range(settings.seeds or 3), progress)
    last = {name: summary([scores[name] for scores in tuned.last]) for name in tuned.last[0]}
    details = {
        "learning_rate": tuned.learning_rate,
        "best_epoch": list(tuned.best_epochs),
        "epochs": len(tuned.epochs[0]),
        "last": last,
        "grid": {f"{rate:g}": value for rate, value in tuned.grid.items()},
    }
    used = _without_length(data, settings.of("max_length", "max_train", "learning_rates", "batch_size"))
    used |= settings.of(*(["labels"] if settings.labels else []))
    return Outcome(tuned.best, tuned.train_rows, used, details, tuned.last)


def _classify(model: ScoredModel, data: TaskData, settings: EvaluationSettings, progress: Progress) -> Outcome:
    if data.task.spans:
        return _find_spans(model, data, settings)
    with model.exported() as folder:
        pupil = Pupil.of(folder, None, settings)
    split = data.evaluated
    answers = answers_to(pupil, split, class_order(pupil.network.config, data, f"model {folder.source!r}"))
    details: dict[str, Any] = {}
    if data.classes:
        found = Classification.of(split.labels, answers, data.classes).to_dict()
        details = {"classes": list(data.classes), "confusion": found["confusion"], "per_class": found["per_class"]}
    return Outcome([scored(data, split, answers)], 0, _without_length(data, settings.of("max_length")), details)


def _find_spans(model: ScoredModel, data: TaskData, settings: EvaluationSettings) -> Outcome:
    with model.exported() as folder:
        finder = SpanFinder.of(folder, settings, new_head=False)
    split = data.evaluated
    assert split.answers is not None
    found = finder.found(split).tolist()
    details = {"by_kind": scores_by_kind(split.answers, found)} if split.unanswerable else {}
    queries = question_scores(split.answers, found)
    return Outcome([span_scores(split.answers, found)], 0, settings.of("max_length"), details, queries=queries)


def _ranking(model: ScoredModel, data: Collection, settings: EvaluationSettings, progress: Progress) -> Outcome:
    encode = index = model.encoder()
    with model.exported() as folder:
        prompts = read_prompts(folder.folder)
    if model.index is not None:
        index = model.index.encoder()
        prompts = {**prompts, "document": model.index.prompt}
        _check_one_space(encode, index, model.index.source)
    queries = retrieval_scores(
        data,
        lambda texts: encode([prompts["query"] + text for text in texts]),
        lambda texts: index([prompts["document"] + text for text in texts]),
        progress,
        settings.vectors or "float32",
    )
    scores = {metric: float(np.mean(values)) if values else 0.0 for metric, values in queries.items()}
    details = {**({"prompts": prompts} if any(prompts.values()) else {}), **_size(encode, settings)}
    used = settings.of_embeddings(*(["index_by"] if settings.index_by else []))
    return Outcome([scores], 0, used, details, queries=queries)


def _size(encode: Encoder, settings: EvaluationSettings) -> Mapping[str, int]:
    """Dimensions of embeddings, where it was asked for how they are stored."""
    return {} if settings.vectors is None else {"dimensions": _width(encode)}


def _width(encode: Encoder) -> int:
    return int(encode(["a text"]).shape[1])


def _check_one_space(queries: Encoder, documents: Encoder, index_by: str) -> None:
    """Refuse embeddings that cannot be compared.

    Raises:
        TaskError: they have different widths.
    """
    ours, theirs = _width(queries), _width(documents)
    if ours != theirs:
        raise TaskError(
            f"queries have {ours} dimensions, documents by {index_by!r} {theirs}; allowed: models of one space, such "
            "as a student and its output teacher (search --output-teacher)"
        )


def _cluster(model: ScoredModel, data: TaskData, settings: EvaluationSettings, progress: Progress) -> Outcome:
    return Outcome(cluster_scores(data, model.encoder(), settings.seeds or 3), 0, _of_rows(data, settings))


METHODS: Mapping[str, Callable[[ScoredModel, Any, EvaluationSettings, Progress], Outcome]] = MappingProxyType(
    {
        "similarity": _similarity,
        "probe": _probe,
        "finetune": _finetune,
        "classify": _classify,
        "retrieval": _ranking,
        "rerank": _ranking,
        "cluster": _cluster,
        "knn": _knn,
    }
)


_STORED = ("retrieval", "rerank", "similarity")
"""Methods that compare embeddings as an index stores them."""

_OF_IMAGES = ("probe", "knn", "finetune", "classify", "cluster")
"""Methods that score models of images."""
_OF_LABELS = ("probe", "knn", "finetune")
"""Methods that can do with a share of the labels."""


def default_method(data: TaskData | Collection, models: Sequence[EvaluatedModel] = ()) -> str:
    """Ranking of a collection, the head of `models` that all know the task's classes; similarity of scored pairs (STS).

    Else a linear probe.
    """
    if isinstance(data, Collection):
        return "retrieval" if data.candidates is None else "rerank"
    if models and all(model.has_head and knows_classes(model.config, data) for model in models):
        return "classify"
    return "similarity" if data.task.pairs and data.task.regression else "probe"


class Evaluation(NamedTuple):
    """What an evaluation found."""

    results: list[TaskResult]
    """One a task."""
    path: Path | None
    """The file that keeps them, None where they are not kept."""
    beside: Mapping[str, list[TaskResult]]
    """The same tasks of each model that was scored beside it, by how it was asked for; never kept."""


def evaluate(
    source: str,
    tasks: Sequence[str],
    data_dir: Path | None = None,
    method: str | None = None,
    settings: EvaluationSettings | None = None,
    write: bool | None = None,
    progress: Progress | None = None,
    file: str | None = None,
    split: str | None = None,
    beside: Sequence[str] = (),
    cuts: Sequence[int] = (),
    vectors: Sequence[str] = (),
    labels: Sequence[float] = (),
) -> Evaluation:
    """Evaluate a model on tasks, and keep each result as soon as there is one.

    Args:
        source: a model folder, the packaged teacher's name, or a Hugging Face id.
        tasks: names (`tasks.catalogue.load_task`).
        data_dir: local folder of tasks; the Hub for what it does not hold.
        method: a key of `METHODS`; `default_method` of each task unless given.
        settings: the options.
        write: keep results in the model's folder; unless given, only in one that autodistil exported. Never those of
            another index, of fewer dimensions or layers, or of stored vectors.
        progress: told what happens.
        file: an ONNX file within the folder to evaluate in the place of the weights; its results are not kept.
        split: the labelled split to score, `dev` or `test`; dev where there is one, unless given.
        beside: further models, as `source` names them, to score in the same way afterwards, by their weights.
        cuts: leading dimensions of embeddings to score, a result each, in the place of `settings.truncate_dim`.
        vectors: how embeddings are stored (`VECTOR_CODES`), a result each of every cut, in the place of
            `settings.vectors`.
        labels: shares of the training rows of each class to train on or to vote, a result each, in the place of
            `settings.labels`; of `_OF_LABELS`.

    Returns:
        A result a task (and cut, way to store it and share), the file that keeps them, and the results of the models
        beside.

    Raises:
        AutodistilError: wrong input, in one line.
    """
    _check_options(tasks, method, write, file, split)
    progress = progress or Progress()
    settings = settings or EvaluationSettings()
    device, widest = str(resolve_device(settings.device)), max(cuts, default=settings.truncate_dim)
    vectors = vectors or ([settings.vectors] if settings.vectors else [])
    check_vectors(vectors)
    settings = replace(settings, device=device, truncate_dim=widest, vectors=next(iter(vectors), None))
    if write and settings.asks_otherwise:
        what = "figures by another index, fewer dimensions or layers, or stored vectors"
        raise ConfigError(f"{what} are not its own; leave out --write")
    folder = EvaluatedModel.open(source, file)
    others = [_opened_beside(name) for name in dict.fromkeys(beside)]
    keep = file is None and not settings.asks_otherwise and _keeps(folder, write)
    splits = ("train", split) if split else SPLITS
    planned = [_plan(name, data_dir, splits, method, settings, [folder, *others]) for name in dict.fromkeys(tasks)]
    if labels or settings.labels:
        _check_labels(planned)
    results: list[TaskResult] = []
    path = None
    for result in _scored(folder, planned, settings, progress, cuts, vectors, labels):
        results.append(result)
        if keep:
            merged = merge(read_results(folder.folder), results)
            with adding(folder.folder, RESULTS, CARD):
                path = write_results(folder.folder, merged)
                update_card(folder.folder, merged)
    found = {}
    for other in others:
        progress.say(f"beside it: {other.source}")
        theirs = replace(settings, exit_layer=None)
        found[other.source] = list(_scored(other, planned, theirs, progress, cuts, vectors, labels))
    return Evaluation(results, path, found)


def _check_options(
    tasks: Sequence[str], method: str | None, write: bool | None, file: str | None, split: str | None
) -> None:
    """Refuse options of `evaluate` that are unknown or contradict each other.

    Raises:
        ConfigError: they do.
    """
    if not tasks:
        raise ConfigError("no task is given; give --task, such as --task stsb; repeatable")
    if method is not None and method not in METHODS:
        raise ConfigError(f"method {method!r} is unknown{suggest(method, METHODS)}; allowed: {', '.join(METHODS)}")
    if file is not None and (method == "finetune" or write):
        what = "fine-tuned" if method == "finetune" else "kept in the folder, whose weights it is not"
        raise ConfigError(f"file {file!r} cannot be {what}; allowed: other methods, without --write")
    if split not in (None, "dev", "test") or (split == "test" and method == "finetune"):
        raise ConfigError(
            f"split {split!r} cannot be scored; allowed: dev, or test but for fine-tuning, "
            "whose best epoch is chosen on what is scored"
        )


def _opened_beside(source: str) -> EvaluatedModel:
    """A model to score beside another: that it is there is checked before hours of work on the first.

    Raises:
        TeacherError: it is not there, or is damaged.
    """
    model = EvaluatedModel.open(source)
    if not model.reads_images:
        model.tokenizer()
    return model


def _scored(
    folder: EvaluatedModel,
    planned: Sequence[tuple[TaskData | Collection, str]],
    settings: EvaluationSettings,
    progress: Progress,
    cuts: Sequence[int],
    vectors: Sequence[str],
    labels: Sequence[float],
) -> Iterator[TaskResult]:
    """The result of each task, cut, way to store vectors and share of labels, as soon as there is one."""
    how = (settings.device, settings.max_length, settings.truncate_dim, settings.exit_layer)
    encoder = cache(partial(folder_encoder, folder, *how))
    model = FolderModel(folder, settings.device, encoder, Index.by(settings))
    dims: list[int | None] = [*cuts] or [settings.truncate_dim]
    ways: list[str | None] = [*vectors] or [None]
    shares: list[float | None] = [*labels] or [settings.labels]
    models = model.cut_to(dims) if cuts or vectors or labels or settings.labels else [model]
    for data, method in planned:
        progress.say(f"{data.name}: {method} on {len(data.evaluated):,} {data.evaluated_name} rows, {data.origin}")
        for (dim, one), way, share in product(zip(dims, models, strict=True), ways, shares):
            asked = replace(settings, truncate_dim=dim, vectors=way, labels=share)
            outcome = METHODS[method](one, data, asked, progress)
            yield _result(method, data, outcome, folder.fingerprint)


def _plan(
    name: str,
    data_dir: Path | None,
    splits: Sequence[str],
    method: str | None,
    settings: EvaluationSettings,
    models: Sequence[EvaluatedModel],
) -> tuple[TaskData | Collection, str]:
    """A task and its method, checked to fit `models` before hours of work on an earlier task."""
    data = find_collection(name, data_dir) or load_task(name, data_dir, splits)
    for model in models:
        check_reads(f"model {model.source!r}", model.reads_images, f"task {name!r}", _of_images(data))
    method = method or default_method(data, models)
    if isinstance(data, Collection) != (method in ("retrieval", "rerank")):
        what = "a collection, for retrieval" if isinstance(data, Collection) else "no collection, which is corpus.jsonl"
        raise TaskError(f"task {name!r} is {what}; method {method!r} does not fit it; leave --method out")
    if isinstance(data, Collection):
        return (replace(data, candidates=None) if method == "retrieval" else data), method
    _check_method(data, method, settings, models)
    return data, method


def _check_method(data: TaskData, method: str, settings: EvaluationSettings, models: Sequence[EvaluatedModel]) -> None:
    """Make sure that a method can score `models` on a task.

    Raises:
        TaskError: it is not for such a task, or a model has no head for it.
        ConfigError: an option is not for the method.
    """
    check_images(data, method)
    _check_words(data, method)
    if data.task.spans:
        _check_spans(data, method, models)
    if settings.cut and method in ("finetune", "classify"):
        raise ConfigError(f"{settings.cut} is of embeddings, which {method} makes none of; leave it out")
    if settings.vectors and method not in _STORED:
        raise ConfigError(
            f"vectors = {settings.vectors}: method {method!r} stores no embeddings to compare; "
            f"allowed: {', '.join(_STORED)}; leave it out"
        )
    if method == "similarity":
        check_scored_pairs(data)
    if method in ("cluster", "knn"):
        check_classes(data, method)
    if method == "classify":
        for model in models:
            _check_head(model, data)
    if method in ("probe", "knn", "finetune"):
        data.train(settings.max_train)


def _check_labels(planned: Sequence[tuple[TaskData | Collection, str]]) -> None:
    """Refuse shares of labels where none are drawn, or not by class.

    Raises:
        ConfigError: a task is scored by another method, or has scores.
    """
    for data, method in planned:
        classes = not isinstance(data, Collection) and not data.task.regression and not data.task.words
        if not classes or method not in _OF_LABELS:
            raise ConfigError(
                f"labels are for methods {', '.join(_OF_LABELS)} on tasks of classes, task {data.name!r} is scored by "
                f"{method}; leave --labels out"
            )


def check_images(data: TaskData, method: str) -> None:
    """Refuse methods that images have not.

    Raises:
        TaskError: it is one.
    """
    if data.task.images and method not in _OF_IMAGES:
        raise TaskError(f"task {data.name!r} is of images; allowed methods: {', '.join(_OF_IMAGES)}; got {method!r}")


def _check_head(model: EvaluatedModel, data: TaskData) -> None:
    """Make sure that a model can answer a task by the head it has.

    Raises:
        TaskError: it has none, or one of other classes.
    """
    if not model.has_head:
        raise TaskError(
            f"model {model.source!r} has no classification head, which classify needs; use --method probe, or give "
            "it one with autodistil adapt"
        )
    class_order(model.config, data, f"model {model.source!r}")


def _check_words(data: TaskData, method: str) -> None:
    """Refuse to score embeddings of texts where words have classes.

    Raises:
        TaskError: the method would.
    """
    if data.task.words and method not in ("finetune", "classify"):
        raise TaskError(
            f"task {data.name!r} is of words; method {method!r}, which scores embeddings of texts, does not fit it; "
            "use --finetune, or give a model that autodistil adapt made of this task"
        )


def _check_spans(data: TaskData, method: str, models: Sequence[EvaluatedModel]) -> None:
    """Make sure that spans of texts can be looked for.

    Raises:
        TaskError: the method scores something else, or a file is to be scored.
        TeacherError: the family of a model has no head for them.
    """
    if method not in ("finetune", "classify"):
        raise TaskError(
            f"task {data.name!r} is of spans; method {method!r}, which scores embeddings of texts, does not fit it; "
            "use --finetune, or give a model that was fine-tuned on such a task"
        )
    for model in models:
        if model.file is not None:
            raise TaskError(f"task {data.name!r} is of spans, which are found by weights alone; leave --file out")
        model.check_finds_spans()


def _keeps(model: EvaluatedModel, write: bool | None) -> bool:
    """Whether results go into the model's folder; that it can keep them is checked before hours of work.

    Raises:
        RunError: the folder is not the user's, cannot be written to, or holds damaged results or a damaged card.
    """
    if write and not model.users_own:
        raise RunError(f"model {model.source!r} is no folder of yours; leave --write out, or evaluate a copy")
    keep = model.users_own and model.exported if write is None else write
    if keep:
        if not os.access(model.folder, os.W_OK | os.X_OK):
            where = str(model.folder)
            raise RunError(f"cannot write to {where!r}: permission denied; use --no-write, or a copy of the folder")
        read_results(model.folder)
        read_card(model.folder)
    return keep


def _result(method: str, data: TaskData | Collection, outcome: Outcome, fingerprint: str) -> TaskResult:
    metrics = {metric: tuple(scores[metric] for scores in outcome.scores) for metric in outcome.scores[0]}
    return TaskResult(
        task=data.name,
        method=method,
        split=data.evaluated_name,
        rows=len(data.evaluated),
        train_rows=outcome.train_rows,
        metrics=metrics,
        model=fingerprint,
        data={
            "origin": data.origin,
            "fingerprint": data.fingerprint,
            **({"modality": "image"} if _of_images(data) else {}),
            **({"task_type": kind} if (kind := _task_type(data)) else {}),
        },
        settings=outcome.settings,
        details=outcome.details,
        standard_error=standard_errors(metrics, len(data.evaluated), outcome.queries),
        baseline=_baseline(method, data),
    )


def _task_type(data: TaskData | Collection) -> str | None:
    """What the Hub calls a task whose answers are within texts."""
    if isinstance(data, Collection) or not (data.task.words or data.task.spans):
        return None
    return "question-answering" if data.task.spans else "token-classification"


def _of_images(data: TaskData | Collection) -> bool:
    return isinstance(data, TaskData) and data.task.images


def _baseline(method: str, data: TaskData | Collection) -> Mapping[str, float]:
    """What a model that predicts classes has to beat; nothing where none are predicted."""
    if isinstance(data, Collection) or data.task.regression or method not in ("probe", "knn", "finetune", "classify"):
        return {}
    return never_answering(data) if data.task.spans else most_frequent_class(data)
