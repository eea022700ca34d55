"""Results of evaluations: values a seed with mean and spread, kept as JSON beside their model and in its card.

The card holds them as a table between two marks in its text, and as `model-index` in its front matter, which the
Hugging Face Hub reads (https://huggingface.co/docs/hub/model-cards) and `huggingface_hub` writes; results of others in
it are kept.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from statistics import mean, stdev
from types import MappingProxyType
from typing import Any

from huggingface_hub import EvalResult, ModelCard
from yaml import YAMLError

from autodistil.errors import RunError, one_line
from autodistil.evaluation.vector_codes import VECTOR_CODES
from autodistil.models.hf_folder import CARD
from autodistil.models.pooling import vector_bytes
from autodistil.tasks.catalogue import TASKS
from autodistil.utils import installed_versions, write_text

RESULTS = "evaluation.json"
_LATER = ("standard_error", "baseline")
"""Fields that files of earlier releases lack."""
_PACKAGES = ("autodistil", "torch", "transformers", "scikit-learn", "scipy", "numpy")


@dataclass(frozen=True)
class TaskResult:
    """What one method says of a model on one task. Metrics are fractions, in [-1, 1]."""

    task: str
    method: str
    """A key of `evaluate.METHODS`."""
    split: str
    """The split that was scored."""
    rows: int
    """Rows of it."""
    train_rows: int
    """Rows that were trained on, 0 without training."""
    metrics: Mapping[str, tuple[float, ...]]
    """Metric -> a value a seed; the headline first."""
    model: str
    """Fingerprint of configuration and weights."""
    data: Mapping[str, str]
    """`origin` and `fingerprint` of the data; `modality` where it is of images, `task_type`, as the Hub calls it, where
    answers are within texts."""
    settings: Mapping[str, Any]
    details: Mapping[str, Any] = field(default_factory=dict)
    """What the method adds, such as the learning rate and the best epochs."""
    standard_error: Mapping[str, float] = field(default_factory=dict)
    """Metric -> standard error that the scored rows bring (`standard_error`), of metrics that have one."""
    baseline: Mapping[str, float] = field(default_factory=dict)
    """Metric -> value of what `baseline_words` says; of methods that predict classes or spans."""
    versions: Mapping[str, str] = field(default_factory=lambda: installed_versions(_PACKAGES))
    date: str = field(default_factory=lambda: datetime.now(UTC).isoformat(timespec="seconds"))

    @property
    def headline(self) -> str:
        """The metric that counts."""
        return next(iter(self.metrics))

    @property
    def seeds(self) -> int:
        """How many there were."""
        return len(self.metrics[self.headline])

    @property
    def dimensions(self) -> int | None:
        """Those of the embeddings that were scored, where it was asked for some or for how they are stored."""
        return self.settings.get("truncate_dim") or self.details.get("dimensions")

    @property
    def labels(self) -> float:
        """Share of the training rows that was trained on, above 0 and up to 1."""
        return self.settings.get("labels") or 1.0

    @property
    def vectors(self) -> str | None:
        """How the embeddings were stored, where it was asked for that."""
        return self.settings.get("vectors")

    @property
    def vector_bytes(self) -> int | None:
        """Bytes of a stored embedding, where its dimensions are known."""
        bits = VECTOR_CODES[self.vectors or "float32"].bits
        return None if self.dimensions is None else vector_bytes(self.dimensions, bits)

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON; `std` is the sample standard deviation over seeds, null of one seed."""
        metrics = {name: summary(values) for name, values in self.metrics.items()}
        stored = {} if self.vector_bytes is None else {"vector_bytes": self.vector_bytes}
        return {**self.__dict__, "metrics": metrics, "headline": self.headline, "seeds": self.seeds, **stored}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> TaskResult:
        """The result of `to_dict`.

        Raises:
            KeyError, TypeError, AttributeError: it is none.
        """
        fields = {name: values[name] for name in cls.__dataclass_fields__ if name not in _LATER}
        fields["metrics"] = {name: tuple(map(float, m["values"])) for name, m in values["metrics"].items()}
        for name in _LATER:
            fields[name] = {metric: float(value) for metric, value in values.get(name, {}).items()}
        result = cls(**fields)
        assert result.metrics, "no metric"
        return result


def summary(values: Sequence[float]) -> dict[str, Any]:
    """Values of the seeds, their mean and sample standard deviation (None of one value)."""
    return {"values": list(values), "mean": mean(values), "std": stdev(values) if len(values) > 1 else None}


def mean_and_spread(values: Sequence[float], scale: float = 1.0, digits: int = 4) -> str:
    """A mean such as `0.8672`, or of several seeds `0.8672 ± 0.0021`."""
    figures = summary(values)
    spread = "" if figures["std"] is None else f" ± {scale * figures['std']:.{digits}f}"
    return f"{scale * figures['mean']:.{digits}f}{spread}"


def figure(value: float | None, scale: float = 1.0, digits: int = 4) -> str:
    """A number such as `0.0123`, a dash where there is none."""
    return "-" if value is None else f"{scale * value:.{digits}f}"


def method_words(result: TaskResult) -> str:
    """How a result came about, such as `linear probe, 1 % of the labels`."""
    share = f", {100 * result.labels:g} % of the labels" if result.labels < 1 else ""
    return METHOD_NAMES[result.method] + share


def read_results(folder: Path) -> list[TaskResult]:
    """The results kept in a folder, none where there is no file.

    Raises:
        RunError: the file is damaged.
    """
    path = folder / RESULTS
    if not path.is_file():
        return []
    try:
        return [TaskResult.from_dict(row) for row in json.loads(path.read_text(encoding="utf-8"))["results"]]
    except (OSError, ValueError, KeyError, TypeError, AttributeError, AssertionError) as error:
        raise RunError(
            f"{str(path)!r} is damaged ({type(error).__name__}: {error}); restore it, or remove it to begin anew"
        ) from error


def merge(old: Sequence[TaskResult], new: Sequence[TaskResult]) -> list[TaskResult]:
    """All results, in order of task, method, split and share of labels; a newer one replaces that of the same four.

    Results of other weights than the newest result's are dropped.
    """
    by_key = {(result.task, result.method, result.split, result.labels): result for result in (*old, *new)}
    kept = [result for _, result in sorted(by_key.items())]
    return [result for result in kept if not new or result.model == new[-1].model]


def write_results(folder: Path, results: Sequence[TaskResult]) -> Path:
    """Write `evaluation.json` atomically; returns its path."""
    content = {"format": 1, "results": [result.to_dict() for result in results]}
    return write_text(folder / RESULTS, json.dumps(content, indent=2, allow_nan=False) + "\n")


# ---- in the model card

_BEGIN, _END = "<!-- autodistil evaluate: begin -->", "<!-- autodistil evaluate: end -->"

_SECTION = re.compile(rf"{re.escape(_BEGIN)}.*?{re.escape(_END)}\n?", re.DOTALL)

_HEAD = (
    "## Task results",
    "",
    "| task | method | split | rows | trained on | metric | value | ± error | baseline | seeds |",
    "|---|---|---|---|---|---|---|---|---|---|",
)
_FOOT = (
    "Values are fractions, mean ± sample standard deviation over seeds. ± error is the standard error that the choice "
    "of the scored rows brings: differences below twice of it say little. The baseline is {baseline}. The best epoch "
    "and the learning rate of fine-tuning are chosen on the scored split itself, which flatters; last epochs are in "
    "`evaluation.json`."
)
_BEFORE = "\n## Limits\n"
"""A heading that the section goes before, where the card has it."""

METHOD_NAMES: Mapping[str, str] = MappingProxyType(
    {
        "similarity": "cosine of embeddings, no training",
        "probe": "linear probe",
        "finetune": "fine-tuning, best dev epoch",
        "classify": "its own head, no training",
        "retrieval": "retrieval by cosine, no training",
        "rerank": "reranking by cosine, no training",
        "cluster": "k-means of embeddings, no training",
        "knn": "nearest neighbours, no training",
    }
)

_TASK_TYPES: Mapping[str, str] = MappingProxyType(
    {
        "similarity": "sentence-similarity",
        "retrieval": "text-retrieval",
        "rerank": "text-ranking",
        "cluster": "clustering",
    }
)
"""Method -> the kind of task as the Hub calls it; classification unless it is here."""

_MARK = "autodistil evaluate: "
"""How the name of a metric of ours in `model-index` begins."""


def baseline_words(results: Iterable[TaskResult]) -> str:
    """What the baseline of these results does, as a noun."""
    kinds = {result.data.get("task_type") == "question-answering" for result in results}
    classes = "always answering the most frequent class"
    spans = "finding no answer to any question (right where its text has none)"
    return f"{classes}; for questions, {spans}" if len(kinds) > 1 else spans if True in kinds else classes


def update_card(folder: Path, results: Sequence[TaskResult]) -> bool:
    """Bring the task results in a folder's `README.md` up to date; False where it has no such file.

    Raises:
        RunError: its front matter is damaged, or the disk refuses.
    """
    card = read_card(folder)
    if card is None:
        return False
    data: Any = card.data  # a ModelCardData
    card.text = with_section(card.text, results)
    others = [kept for kept in data.eval_results or [] if not (kept.metric_name or "").startswith(_MARK)]
    data.eval_results = [*others, *(entry for result in results for entry in _index_entries(result))]
    data.model_name = data.model_name or folder.resolve().name
    write_text(folder / CARD, str(card))
    return True


def read_card(folder: Path) -> ModelCard | None:
    """A folder's model card, None where it has none.

    Raises:
        RunError: its front matter is damaged.
    """
    path = folder / CARD
    if not path.is_file():
        return None
    try:
        return ModelCard(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, TypeError, YAMLError) as error:
        reason = one_line(error, 150)
        raise RunError(
            f"the front matter of {str(path)!r} cannot be read ({reason}); correct it, or use --no-write"
        ) from error


def with_section(text: str, results: Sequence[TaskResult]) -> str:
    """The text of a card with the section of task results, in the place of an earlier one."""
    rows = [
        f"| {result.task} | {method_words(result)} | {result.split} | {result.rows:,} | "
        f"{f'{result.train_rows:,}' if result.train_rows else '-'} | {metric} | "
        f"{mean_and_spread(values)} | {figure(result.standard_error.get(metric))} | "
        f"{figure(result.baseline.get(metric))} | {len(values)} |"
        for result in results
        for metric, values in result.metrics.items()
    ]
    section = "\n".join([_BEGIN, *_HEAD, *rows, "", _FOOT.format(baseline=baseline_words(results)), _END, ""])
    if _SECTION.search(text):
        return _SECTION.sub(lambda _: section, text, count=1)
    before, heading, after = text.partition(_BEFORE)
    return f"{before.rstrip()}\n\n{section}{heading}{after}"


def _index_entries(result: TaskResult) -> list[EvalResult]:
    """A result for `model-index`, one entry a metric."""
    texts = result.data.get("task_type", "text-classification")
    kind = "image-classification" if result.data.get("modality") == "image" else texts
    hub = TASKS[result.task].hub if result.task in TASKS else None
    return [
        EvalResult(
            task_type=_TASK_TYPES.get(result.method, kind),
            dataset_type=hub.name if hub else result.task,
            dataset_name=result.task,
            dataset_config=hub.config if hub else None,
            dataset_split=hub.splits.get(result.split, result.split) if hub else result.split,
            metric_type=metric,
            metric_value=summary(values)["mean"],
            metric_name=f"{_MARK}{metric} ({method_words(result)})",
        )
        for metric, values in result.metrics.items()
    ]
