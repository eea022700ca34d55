"""What is measured on a student's folder: held-out loss, embeddings without training the encoder, fine-tuning.

The held-out loss of the table is MiniLMv2's relations plus in-batch similarities on the run's held-out texts, against
the real teacher: the terms that do not depend on the order of a student's dimensions, so all rows can be compared. The
loss that a search ranks by may have more terms; it stands beside where a student has one.

Embeddings are scored as `autodistil evaluate` scores them: similarity, retrieval, reranking and linear probes.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from autodistil.evaluation.embedding import Encoder, folder_encoder, remembering
from autodistil.evaluation.evaluate import METHODS, FolderModel, default_method
from autodistil.evaluation.heldout import HeldOut
from autodistil.evaluation.results import summary
from autodistil.models.hf_folder import EvaluatedModel
from autodistil.models.teacher import load_teacher
from autodistil.objectives.objective import Objective, parse_objective
from autodistil.tasks.catalogue import TaskData
from autodistil.tasks.collection import Collection
from autodistil.tasks.finetune import EvaluationSettings, fine_tune
from quality_table.bench import Bench
from quality_table.settings import FINETUNED, PROBES, SIMILARITY, digest
from quality_table.static import is_static, static_encoder

HELDOUT = "heldout"
COMPARABLE = ("relation-kl", "embedding-similarity")
"""Terms of the held-out loss that stand for any student of any width and order."""
STS_MEAN, RETRIEVAL_MEAN, RERANK_MEAN, PROBE_MEAN = "sts_mean", "retrieval_mean", "rerank_mean", "probe_mean"
TASK_MEAN = "task_mean"
"""A mean a kind of cell; missing where one of its cells is."""
MEANS = (STS_MEAN, RETRIEVAL_MEAN, RERANK_MEAN, PROBE_MEAN, TASK_MEAN)
_MEAN_OF = {"similarity": STS_MEAN, "retrieval": RETRIEVAL_MEAN, "rerank": RERANK_MEAN, "probe": PROBE_MEAN}
_CHOSEN_ON = "stsb"
"""Recipes are chosen on this, so it is shown and in no mean."""
_LENGTH = 128


@dataclass(frozen=True)
class Cell:
    """One measurement of a student."""

    name: str
    key: str
    """Stands for what decides the value, the student left out."""
    measure: Callable[[Path], dict[str, Any]]
    """Folder -> `value` (a fraction, or a loss) and what belongs to it."""
    mean: str | None = None
    """The column of `MEANS` that it counts in."""
    of_embeddings: bool = False
    """It needs nothing but embeddings; others need an encoder with layers."""

    @property
    def id(self) -> str:
        """Under which a row keeps it."""
        return f"{self.name}@{self.key}"


def cells(bench: Bench, tasks: Iterable[str], collections: Iterable[str] = ()) -> list[Cell]:
    """The held-out loss, some tasks and collections, cheap ones first.

    Raises:
        TaskError: the data of a task are missing or damaged.
    """
    names, encoders = list(dict.fromkeys(tasks)), _Encoders(bench)
    return [
        _heldout_cell(bench),
        *(_embedding_cell(bench, encoders, name, bench.task(name)) for name in names if name in SIMILARITY),
        *(_embedding_cell(bench, encoders, name, bench.collection(name)) for name in dict.fromkeys(collections)),
        *(_embedding_cell(bench, encoders, name, bench.task(name)) for name in names if name in PROBES),
        *(_finetune_cell(bench, name) for name in names if name in FINETUNED),
    ]


def known_tasks(bench: Bench) -> list[str]:
    """The tasks of the table whose data are in the data folder: nothing is fetched to draw a table."""
    data = bench.settings.data
    folders = [] if data is None else [data / group for group in ("", "glue", "extra")]

    def is_there(name: str) -> bool:
        task, _, split = name.partition("-")
        return any((folder / task / (f"{split}.tsv" if split else "")).exists() for folder in folders)

    return [name for name in (*SIMILARITY, *PROBES, *FINETUNED) if is_there(name)]


def measured(cell: Cell, folder: Path) -> dict[str, Any]:
    """Measure, with the time that it took."""
    begun = time.perf_counter()
    return {**cell.measure(folder), "seconds": round(time.perf_counter() - begun, 1)}


# ---- held-out loss


def _heldout_cell(bench: Bench) -> Cell:
    memory: list[tuple[HeldOut, ...]] = []  # the teacher runs once, and only if a row needs it

    def measure(folder: Path) -> dict[str, Any]:
        if not memory:
            memory.append(tuple(_heldout(bench, term) for term in COMPARABLE))
        losses = [folder_loss(heldout, folder) for heldout in memory[0]]
        return {"value": sum(losses), **dict(zip(COMPARABLE, losses, strict=True))}

    return Cell(HELDOUT, digest([bench.key, COMPARABLE]), measure)


def _heldout(bench: Bench, term: str) -> HeldOut:
    run = bench.run
    objective = Objective(parse_objective(term), run.inputs.objective.options)
    return HeldOut.build(run.inputs.teacher, run.inputs.heldout_texts, objective, run.config.teacher_layer)


def folder_loss(heldout: HeldOut, folder: Path) -> float:
    """Mean loss over the held-out texts of the model in a folder."""
    model = load_teacher(str(folder), str(heldout.batches[0]["input_ids"].device))
    return heldout.mean_of(lambda batch: model.states(batch, output=heldout.objective.needs_output))


# ---- embeddings


@dataclass
class _Encoders:
    """The encoder of the folder that is measured just now; what it has encoded for one cell is there for the next."""

    bench: Bench
    _kept: dict[Path, Encoder] = field(default_factory=dict)

    def of(self, folder: Path) -> Encoder:
        if folder not in self._kept:
            self._kept.clear()
            self._kept[folder] = remembering(_encoder(folder, self.bench))
        return self._kept[folder]


def _encoder(folder: Path, bench: Bench) -> Encoder:
    if is_static(folder):
        return static_encoder(folder, _LENGTH)
    return folder_encoder(EvaluatedModel.open(str(folder)), bench.device, _LENGTH)


def _embedding_cell(bench: Bench, encoders: _Encoders, name: str, data: TaskData | Collection) -> Cell:
    """Scored as `autodistil evaluate` would without --method, a probe on fewer training rows."""
    method, rows = default_method(data), bench.settings.probe_rows
    options = EvaluationSettings(max_length=_LENGTH, max_train=rows)

    def measure(folder: Path) -> dict[str, Any]:
        model = FolderModel(
            EvaluatedModel(str(folder), folder, users_own=False), str(bench.device), lambda: encoders.of(folder)
        )
        (scores,) = METHODS[method](model, data, options, bench.progress).scores
        metric = next(iter(scores))
        return {"value": scores[metric], "metric": metric, "rows": len(data.evaluated), **scores}

    decisive = [data.fingerprint, data.evaluated_name, _LENGTH, *([rows] if method == "probe" else [])]
    return Cell(name, digest(decisive), measure, None if name == _CHOSEN_ON else _MEAN_OF[method], of_embeddings=True)


# ---- fine-tuning


def _finetune_cell(bench: Bench, name: str) -> Cell:
    settings, data = bench.settings, bench.task(name)
    options = EvaluationSettings(
        max_train=settings.max_train, epochs=settings.epochs, learning_rates=settings.learning_rates, max_length=_LENGTH
    )
    decisive = [options.of(*EvaluationSettings.__dataclass_fields__), settings.seeds, settings.max_eval]
    options = replace(options, device=str(bench.device))  # decides nothing but the time
    return Cell(
        name, digest([data.fingerprint, *decisive]), lambda folder: finetuned(bench, folder, data, options), TASK_MEAN
    )


def finetuned(bench: Bench, folder: Path, data: TaskData, options: EvaluationSettings) -> dict[str, Any]:
    """The headline metric at the best epoch, mean over the seeds, of the best learning rate."""
    model = EvaluatedModel.open(str(folder))
    tuned = fine_tune(model, data, options, range(bench.settings.seeds), bench.progress)
    best = summary([scores[tuned.headline] for scores in tuned.best])
    last = summary([scores[tuned.headline] for scores in tuned.last])
    return {
        "value": best["mean"],
        "std": best["std"],
        "values": best["values"],
        "last_epoch": last["mean"],
        "metric": tuned.headline,
        "learning_rate": tuned.learning_rate,
        "train_rows": tuned.train_rows,
        "rows": len(data.evaluated),
        "all": list(tuned.best),
    }
