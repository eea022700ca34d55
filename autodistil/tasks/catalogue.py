"""Labelled tasks by name: GLUE (Wang et al. 2019), the STS test sets, further small sets, and folders of one's own.

A task's data come from a local folder where it holds the task (`DIR/<task>`, `DIR/glue/<task>`, `DIR/extra/<task>`
with `train.tsv`, `dev.tsv`, `test.tsv`, or `train/`, `dev/`, `test/` with images, or `train.json`, `dev.json` in the
format of SQuAD), else from the Hugging Face Hub. The evaluated split is `dev`, as is usual for GLUE, whose test labels
are secret; `test` only where there is no `dev`.

Metrics are those of GLUE and STS, from scikit-learn and SciPy, and of words those of named entities
(`tasks.entities`), of questions those of SQuAD (`tasks.squad`). All are fractions: 1 is perfect, 0 chance or worst.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from types import MappingProxyType

import numpy as np
from scipy.stats import pearsonr, spearmanr
from sklearn.metrics import accuracy_score, f1_score, matthews_corrcoef

from autodistil.errors import TaskError, suggest
from autodistil.tasks.entities import ENTITY_METRICS, entity_scores, is_tag, tag_classes
from autodistil.tasks.few_labels import each_class
from autodistil.tasks.image_folder import image_fingerprint, read_image_rows
from autodistil.tasks.labelled_rows import HubTable, LabelledRows, hub_rows, read_rows
from autodistil.tasks.squad import SPAN_METRICS, Answer, Questions, hub_questions, read_squad, span_scores, squad_file
from autodistil.tasks.words import words

SPLITS = ("train", "dev", "test")

_FOLDERS = ("", "glue", "extra", "retrieval")
"""Where a task's folder is looked for under the data folder."""

_SIMILARITY = ("spearman", "pearson")

_NO_LABEL = frozenset({"", "nan", "NaN"})
"""What tables are written with where a label is not known; a class may be called so only where others are no numbers,
and never by nothing."""

Metric = Callable[[np.ndarray, np.ndarray], float]
"""(labels (rows,), predictions (rows,)) -> value."""


def accuracy(labels: np.ndarray, predictions: np.ndarray) -> float:
    """Share of rows whose class is right."""
    return float(accuracy_score(labels, predictions))


def balanced_accuracy(labels: np.ndarray, predictions: np.ndarray) -> float:
    """Mean over the classes of the share of their rows that is right, so that rare classes count as frequent ones."""
    return float(np.mean([np.mean(predictions[labels == one] == one) for one in np.unique(labels)]))


def f1(labels: np.ndarray, predictions: np.ndarray) -> float:
    """Harmonic mean of precision and recall of class 1; 0 where it is never predicted."""
    return float(f1_score(labels, predictions, zero_division=0))


def matthews(labels: np.ndarray, predictions: np.ndarray) -> float:
    """Matthews correlation of classes, in [-1, 1]; 0 where labels or predictions are constant."""
    return 0.0 if np.ptp(labels) == 0 or np.ptp(predictions) == 0 else float(matthews_corrcoef(labels, predictions))


def pearson(labels: np.ndarray, predictions: np.ndarray) -> float:
    """Linear correlation of scores, in [-1, 1]; 0 where it is not defined (`_degenerate`)."""
    return 0.0 if _degenerate(predictions) else float(pearsonr(labels, predictions).statistic)


def spearman(labels: np.ndarray, predictions: np.ndarray) -> float:
    """Rank correlation of scores, ties at their mean rank, in [-1, 1]; 0 where it is not defined (`_degenerate`)."""
    return 0.0 if _degenerate(predictions) else float(spearmanr(labels, predictions).statistic)


def _degenerate(predictions: np.ndarray) -> bool:
    """Predictions that say nothing: constant, or of a training that diverged."""
    return not np.isfinite(predictions).all() or bool(np.ptp(predictions) == 0)


METRICS: Mapping[str, Metric] = MappingProxyType(
    {
        "accuracy": accuracy,
        "balanced_accuracy": balanced_accuracy,
        "f1": f1,
        "matthews": matthews,
        "pearson": pearson,
        "spearman": spearman,
    }
)


def score(names: Sequence[str], labels: np.ndarray, predictions: np.ndarray) -> dict[str, float]:
    """Value of each metric in `names`, in that order."""
    return {name: METRICS[name](labels, predictions) for name in names}


@dataclass(frozen=True)
class Task:
    """What is predicted, and how it is scored."""

    name: str
    pairs: bool = False
    """Each row is two texts."""
    regression: bool = False
    """The label is a score; otherwise a class."""
    metrics: tuple[str, ...] = ("accuracy",)
    """Keys of `METRICS`, of words `ENTITY_METRICS`, of spans `SPAN_METRICS`; the first is the headline."""
    hub: HubTable | None = None
    words: bool = False
    """Each word has a class, its BIO tag (token classification)."""
    images: bool = False
    """Each row is an image."""
    spans: bool = False
    """Each row is a question and a text, which holds the answer (extractive question answering)."""

    @property
    def headline(self) -> str:
        """The metric that models are chosen and compared by."""
        return self.metrics[0]


@dataclass(frozen=True)
class Split:
    """Texts and labels of a split, in its order."""

    text_a: tuple[str, ...]
    """Texts, of spans questions; of images the paths of their files."""
    text_b: tuple[str, ...] | None
    labels: np.ndarray
    """Class indices (rows,) of int64, or scores (rows,) of float64; of words class indices (words,), row by row; of
    spans 1 where there is an answer, else 0."""
    words: np.ndarray | None = None
    """How many words each row has, (rows,), where each word has a label."""
    teacher_text: tuple[str, ...] | None = None
    """What a teacher may read beside, and a student may not (privileged information, Vapnik & Vashist 2009)."""
    answers: tuple[tuple[Answer, ...], ...] | None = None
    """Right answers to each question, where spans of texts are looked for."""
    unanswerable: bool = False
    """Some questions of the task have no answer in their text."""

    def __len__(self) -> int:
        return len(self.text_a)

    @property
    def fingerprint(self) -> str:
        """Hash of texts and labels, (16 hexadecimal digits)."""
        text = json.dumps([self.text_a, self.text_b, self.labels.tolist(), *([self.answers] if self.answers else [])])
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def take(self, indices: Iterable[int]) -> Split:
        """The rows at `indices`, in that order."""
        chosen = list(indices)
        text_a = tuple(self.text_a[i] for i in chosen)
        text_b = None if self.text_b is None else tuple(self.text_b[i] for i in chosen)
        if self.answers is not None:
            answers = tuple(self.answers[i] for i in chosen)
            return replace(self, text_a=text_a, text_b=text_b, labels=self.labels[chosen], answers=answers)
        if self.words is None:
            told = None if self.teacher_text is None else tuple(self.teacher_text[i] for i in chosen)
            return Split(text_a, text_b, self.labels[chosen], teacher_text=told)
        labels = self.by_row(self.labels)
        return Split(text_a, text_b, np.concatenate([labels[i] for i in chosen]), self.words[chosen])

    @property
    def privileged(self) -> Split:
        """The rows as a teacher reads them: `teacher_text` stands after the second text, or in its place."""
        if self.teacher_text is None:
            return self
        if self.text_b is None:
            return replace(self, text_b=self.teacher_text)
        return replace(self, text_b=tuple(map(" ".join, zip(self.text_b, self.teacher_text, strict=True))))

    def by_row(self, values: np.ndarray) -> list[np.ndarray]:
        """Values of all words, (words,), as one array a row."""
        assert self.words is not None
        return np.split(values, np.cumsum(self.words)[:-1])


@dataclass(frozen=True)
class TaskData:
    """A task with its data."""

    task: Task
    splits: Mapping[str, Split]
    """`train`, `dev` and `test`, those that there are."""
    classes: tuple[str, ...]
    """Label of each class index; empty for scores."""
    origin: str
    """Where the data came from, without the machine's own paths."""
    fingerprint: str
    """Hash of texts or images and labels: two data sets with the same one are the same."""

    @property
    def name(self) -> str:
        """The task's name."""
        return self.task.name

    @property
    def evaluated_name(self) -> str:
        """Name of the split that is scored."""
        return "dev" if "dev" in self.splits else "test"

    @property
    def evaluated(self) -> Split:
        """The split that is scored."""
        return self.splits[self.evaluated_name]

    @property
    def privileged(self) -> TaskData:
        """The task as a teacher reads it."""
        splits = {name: split.privileged for name, split in self.splits.items()}
        pairs = any(split.text_b is not None for split in splits.values())
        return replace(self, splits=splits, task=replace(self.task, pairs=pairs))

    def scores(self, split: Split, predictions: np.ndarray) -> dict[str, float]:
        """Value of each metric of the task.

        Args:
            split: labelled rows of the task.
            predictions: a class or score of each row, (rows,), or a class of each word, (words,), or of spans a text of
                each row, (rows,).
        """
        if split.answers is not None:
            return span_scores(split.answers, predictions.tolist())
        if not self.task.words:
            return score(self.task.metrics, split.labels, predictions)
        names = np.array(self.classes)
        tags, predicted = ([names[row].tolist() for row in split.by_row(of)] for of in (split.labels, predictions))
        return entity_scores(tags, predicted)

    def train(self, max_rows: int | None = None, seed: int = 0, labels: float = 1.0) -> Split:
        """The training rows in their order, or a share of them, or a random choice of `max_rows` of these.

        Args:
            max_rows: rows at most; all unless given.
            seed: decides the choice.
            labels: share of the rows of each class, at least one of each (`few_labels.each_class`).

        Raises:
            TaskError: there is no training split, or all its rows have one label.
        """
        if "train" not in self.splits:
            raise TaskError(
                f"task {self.task.name!r} has no train split ({self.origin}); probe and finetune need one"
                + ("; use --method similarity" if self.task.regression else "")
            )
        train = self.splits["train"]
        if labels < 1:
            train = train.take(each_class(train.labels, labels, seed))
        if max_rows is not None and max_rows < len(train):
            train = train.take(np.sort(np.random.default_rng(seed).permutation(len(train))[:max_rows]))
        if not self.task.spans and len(np.unique(train.labels)) < 2:
            raise TaskError(
                f"the {len(train)} train rows of task {self.task.name!r} all have one label; give more rows"
            )
        return train


def _glue(config: str, columns: str, dev: str = "validation") -> HubTable:
    splits = MappingProxyType({"train": "train", "dev": dev})
    return HubTable("nyu-mll/glue", config, tuple(columns.split()), "label", splits)


def _squad(name: str) -> HubTable:
    splits = MappingProxyType({"train": "train", "dev": "validation"})
    return HubTable(f"rajpurkar/{name}", None, ("question", "context"), "answers", splits)


_STS = HubTable("", None, ("sentence1", "sentence2"), "score", MappingProxyType({"test": "test"}))

_TABLE = (
    Task("cola", metrics=("matthews", "accuracy"), hub=_glue("cola", "sentence")),
    Task("sst2", hub=_glue("sst2", "sentence")),
    Task("mrpc", pairs=True, metrics=("f1", "accuracy"), hub=_glue("mrpc", "sentence1 sentence2")),
    Task("stsb", pairs=True, regression=True, metrics=_SIMILARITY, hub=_glue("stsb", "sentence1 sentence2")),
    Task("qqp", pairs=True, metrics=("f1", "accuracy"), hub=_glue("qqp", "question1 question2")),
    Task("mnli", pairs=True, hub=_glue("mnli", "premise hypothesis", "validation_matched")),
    Task("mnli_mismatched", pairs=True, hub=_glue("mnli", "premise hypothesis", "validation_mismatched")),
    Task("qnli", pairs=True, hub=_glue("qnli", "question sentence")),
    Task("rte", pairs=True, hub=_glue("rte", "sentence1 sentence2")),
    Task("wnli", pairs=True, hub=_glue("wnli", "sentence1 sentence2")),
    *(
        Task(
            f"sts{year}",
            pairs=True,
            regression=True,
            metrics=_SIMILARITY,
            hub=replace(_STS, name=f"mteb/sts{year}-sts"),
        )
        for year in range(12, 17)
    ),
    *(Task(name, pairs=True, metrics=SPAN_METRICS, hub=_squad(name), spans=True) for name in ("squad", "squad_v2")),
    Task("qnli_devsplit", pairs=True),
    Task("qqp_small", pairs=True, metrics=("f1", "accuracy")),
    Task("snli_small", pairs=True),
    Task("boolq_devsplit", pairs=True),
    Task("wic", pairs=True),
    *(Task(name) for name in ("ag_news_small", "banking77", "cr", "movie_reviews", "mpqa", "sst5", "subj")),
)

TASKS: Mapping[str, Task] = MappingProxyType({task.name: task for task in _TABLE})


def load_task(name: str, data_dir: Path | None = None, splits: Sequence[str] = SPLITS) -> TaskData:
    """Load a task's data.

    Args:
        name: a key of `TASKS`, or the name of a folder under `data_dir`, which becomes a task of its own: of words
            where it has `tokens`, of pairs where it has `text_b`, of scores where it has `score` or labels are numbers
            and not all whole, of images where its splits are folders of them, of spans where they are JSON, else of
            classes.
        data_dir: folder to look in first.
        splits: those to read; of others nothing is seen.

    Raises:
        TaskError: unknown, or its data are missing or damaged.
    """
    folders = task_folders(name, data_dir)
    folder = next((f for f in folders if any((f / f"{split}.tsv").is_file() for split in SPLITS)), None)
    task = TASKS.get(name)
    if folder is not None and data_dir is not None:
        if task is not None and task.spans:
            raise TaskError(f"task {name!r} is of spans; give {str(folder)!r} train.json and dev.json for its .tsv")
        rows = {split: read_rows(path) for split in splits if (path := folder / f"{split}.tsv").is_file()}
        return _interpret(task or _guess_task(name, rows), rows, f"{folder.relative_to(data_dir)} (local)", splits)
    folder = next((f for f in folders if any((f / split).is_dir() for split in SPLITS)), None)
    if folder is not None and data_dir is not None:
        rows = {split: read_image_rows(path) for split in splits if (path := folder / split).is_dir()}
        images = Task(name, metrics=("accuracy", "balanced_accuracy"), images=True)
        data = _interpret(images, rows, f"{folder.relative_to(data_dir)} (local)", splits)
        return replace(data, fingerprint=image_fingerprint(rows))
    folder = next((f for f in folders if any(squad_file(f, split) for split in SPLITS)), None)
    if folder is not None and data_dir is not None:
        questions = {split: read_squad(file) for split in splits if (file := squad_file(folder, split))}
        return _of_spans(name, questions, f"{folder.relative_to(data_dir)} (local)", splits)
    if any(any(folder.glob("corpus.jsonl*")) for folder in folders):
        raise TaskError(
            f"task {name!r} is a collection to search (corpus.jsonl), here labelled rows are needed: train.tsv and "
            "dev.tsv; for a reranker write pairs of it"
        )
    if task is None or task.hub is None:
        what = "is not on the Hub" if task else f"is unknown{suggest(name, TASKS)}; allowed: {', '.join(TASKS)}"
        place = f"no folder of --data {str(data_dir)!r} holds it" if data_dir else "give --data a folder that holds it"
        files = "train.tsv, dev.tsv or test.tsv; of images train/, test/; of spans train.json, dev.json"
        place = f"{place} ({files})" if task else f"otherwise {place}"
        raise TaskError(f"task {name!r} {what}; {place}")
    table = replace(task.hub, splits={ours: theirs for ours, theirs in task.hub.splits.items() if ours in splits})
    origin = f"hf:{table.name}" + f":{table.config}" * bool(table.config)
    if task.spans:
        return _of_spans(name, hub_questions(table.name, table.splits), origin, splits)
    return _interpret(task, hub_rows(table), origin, splits)


def task_folders(name: str, data_dir: Path | None) -> list[Path]:
    """The local folders that may hold a task, whether or not they are there.

    Raises:
        TaskError: the name is no plain one, or the data folder does not exist.
    """
    if name in ("", "..") or Path(name).name != name:
        raise TaskError(f"task {name!r} is not a plain name; give the name of a task or of a folder under --data")
    if data_dir is None:
        return []
    if not data_dir.is_dir():
        raise TaskError(f"data folder {str(data_dir)!r} does not exist; give --data a folder of tasks")
    return [data_dir / group / name for group in _FOLDERS]


def _guess_task(name: str, rows: Mapping[str, LabelledRows]) -> Task:
    if any(part.words for part in rows.values()):
        return Task(name, metrics=ENTITY_METRICS, words=True)
    labels = {label for part in rows.values() for label in part.labels}
    numbers = [float(label) for label in labels if _is_number(label)]
    scores = len(numbers) == len(labels - _NO_LABEL) and not all(map(float.is_integer, numbers))
    scores = scores or any(part.scores for part in rows.values())
    pairs = all(part.text_b is not None for part in rows.values())
    return Task(name, pairs, scores, _SIMILARITY if scores else ("accuracy",))


def _is_number(text: str) -> bool:
    try:
        return math.isfinite(float(text))
    except ValueError:
        return False


def _of_spans(name: str, found: Mapping[str, Questions], origin: str, wanted: Sequence[str]) -> TaskData:
    """A task of questions, whose answers are spans of texts."""
    task = Task(name, pairs=True, metrics=SPAN_METRICS, hub=TASKS[name].hub if name in TASKS else None, spans=True)
    _check_splits(task, found, origin, wanted)
    unanswerable = any(not answers for part in found.values() for answers in part.answers)
    splits = {
        split: Split(
            part.questions,
            part.contexts,
            np.array([bool(answers) for answers in part.answers], dtype=np.int64),
            answers=part.answers,
            unanswerable=unanswerable,
        )
        for split, part in found.items()
    }
    text = json.dumps([[split, of.questions, of.contexts, of.answers] for split, of in sorted(found.items())])
    fingerprint = hashlib.sha256(text.encode()).hexdigest()[:16]
    return TaskData(task, MappingProxyType(splits), (), origin, fingerprint)


def _check_splits(task: Task, found: Mapping[str, object], origin: str, wanted: Sequence[str]) -> None:
    """Make sure that there is what was asked for.

    Raises:
        TaskError: no split is there, or none to evaluate.
    """
    if {"dev", "test"} & set(wanted) and not {"dev", "test"} & set(wanted) & found.keys():
        raise TaskError(f"task {task.name!r} ({origin}) has no dev and no test split; one of them is evaluated, add it")
    if not found:
        raise TaskError(
            f"task {task.name!r} ({origin}) has no {' or '.join(wanted)} split; add it, or choose another task"
        )


def _interpret(task: Task, rows: Mapping[str, LabelledRows], origin: str, wanted: Sequence[str]) -> TaskData:
    """Check rows and turn labels into numbers."""
    evaluated = {"dev", "test"} & set(wanted)
    _check_splits(task, rows, origin, wanted)
    for split, part in rows.items():
        if task.words != part.words:
            found, allowed = ("tokens, tags", "text_a, label")[:: 1 if part.words else -1]
            raise TaskError(
                f"{split} of task {task.name!r} ({origin}) has the columns {found}, but the task is one of {allowed}; "
                "give it those"
            )
        if task.pairs and part.text_b is None:
            raise TaskError(f"task {task.name!r} is one of pairs, but {split} ({origin}) has no column text_b; add it")
    if not task.pairs:
        rows = {split: replace(part, text_b=None) for split, part in rows.items()}
    counts = {split: _count_words(task, split, part) for split, part in rows.items() if part.words}
    classes = () if task.regression else _classes(task, rows)
    splits = {
        split: Split(
            part.text_a, part.text_b, _labels(task, classes, split, part), counts.get(split), part.teacher_text
        )
        for split, part in rows.items()
    }
    told = (
        [split, part.text_a, part.text_b, part.labels, *filter(None, [part.teacher_text, part.scores])]
        for split, part in sorted(rows.items())
    )
    text = "".join(map(json.dumps, told))
    fingerprint = hashlib.sha256(text.encode()).hexdigest()[:16]
    data = TaskData(task, MappingProxyType(splits), classes, origin, fingerprint)
    if evaluated and len(np.unique(data.evaluated.labels)) < 2:
        raise TaskError(f"{data.evaluated_name} of task {task.name!r} ({origin}) has one label only; give others too")
    return data


def _count_words(task: Task, split: str, part: LabelledRows) -> np.ndarray:
    """How many words each row has, (rows,): as many as tags, which are BIO."""
    counts = np.array([len(words(text)) for text in part.text_a])
    for row, (count, label) in enumerate(zip(counts, part.labels, strict=True), 1):
        tags, where = words(label), f"row {row} of {split} of task {task.name!r} has"
        if len(tags) != count:
            raise TaskError(f"{where} {count} tokens and {len(tags)} tags, separated by blanks; give each token a tag")
        odd = next((tag for tag in tags if not is_tag(tag)), None)
        if odd is not None:
            raise TaskError(f"{where} the tag {odd!r}; allowed: O, B-TYPE and I-TYPE; write the tags as BIO")
    return counts


def _classes(task: Task, rows: Mapping[str, LabelledRows]) -> tuple[str, ...]:
    """The labels of the training split, or of the evaluated one where there is no other, in their natural order."""
    part = next(rows[split] for split in SPLITS if split in rows)
    if task.words:
        return tag_classes(chain.from_iterable(map(words, part.labels)))
    labels = set(part.labels) - {""}
    labels = labels - _NO_LABEL if all(map(_is_number, labels - _NO_LABEL)) else labels
    if len(labels) < 2:
        split = next(split for split in SPLITS if split in rows)
        one = ", ".join(labels)[:40]
        raise TaskError(f"{split} of task {task.name!r} has one label only, {one!r}; give others too")
    classes = tuple(sorted(labels, key=float) if all(map(_is_number, labels)) else sorted(labels))
    if "f1" in task.metrics and classes != ("0", "1"):
        shown = ", ".join(map(repr, classes[:5]))
        raise TaskError(f"task {task.name!r} has the labels {shown}; allowed: '0' and '1', F1 being that of '1'")
    return classes


def _labels(task: Task, classes: tuple[str, ...], split: str, part: LabelledRows) -> np.ndarray:
    numbers = {label: i for i, label in enumerate(classes)}
    rows = [words(label) if task.words else [label] for label in part.labels]
    for row, label in ((row, label) for row, labels in enumerate(rows, 1) for label in labels):
        if not (_is_number(label) if task.regression else label in numbers):
            allowed = "a finite number" if task.regression else "those of the first split: " + ", ".join(classes[:10])
            raise TaskError(
                f"row {row} of {split} of task {task.name!r} has the label {label!r}; allowed: {allowed}; correct it"
            )
    flat = chain.from_iterable(rows)
    if task.regression:
        return np.array([float(label) for label in flat])
    return np.array([numbers[label] for label in flat], dtype=np.int64)
