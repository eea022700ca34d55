"""What is measured on a student's folder: held-out loss, similarity without training, fine-tuning.

The held-out loss of the table is MiniLMv2's relations plus in-batch similarities on the run's held-out texts, against
the real teacher: the terms that do not depend on the order of a student's dimensions, so all rows can be compared. The
loss that a search ranks by may have more terms; it stands beside where a student has one.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from autodistil.evaluation.embedding import embedding_similarity, folder_encoder
from autodistil.evaluation.heldout import HeldOut
from autodistil.evaluation.results import summary
from autodistil.models.hf_folder import EvaluatedModel
from autodistil.models.teacher import load_teacher
from autodistil.objectives.objective import Objective, parse_objective
from autodistil.tasks.catalogue import TaskData
from autodistil.tasks.finetune import EvaluationSettings, fine_tune
from quality_table.bench import Bench
from quality_table.settings import FINETUNED, SIMILARITY, digest

HELDOUT = "heldout"
COMPARABLE = ("relation-kl", "embedding-similarity")
"""Terms of the held-out loss that stand for any student of any width and order."""
_LENGTH = 128


@dataclass(frozen=True)
class Cell:
    """One measurement of a student."""

    name: str
    key: str
    """Stands for what decides the value, the student left out."""
    measure: Callable[[Path], dict[str, Any]]
    """Folder -> `value` (a fraction, or a loss) and what belongs to it."""

    @property
    def id(self) -> str:
        """Under which a row keeps it."""
        return f"{self.name}@{self.key}"


def cells(bench: Bench, tasks: Iterable[str]) -> list[Cell]:
    """The held-out loss and some tasks, cheap ones first.

    Raises:
        TaskError: the data of a task are missing or damaged.
    """
    names = list(dict.fromkeys(tasks))
    similarity = [_similarity_cell(bench, name) for name in names if name in SIMILARITY]
    return [_heldout_cell(bench), *similarity, *(_finetune_cell(bench, n) for n in names if n not in SIMILARITY)]


def known_tasks(bench: Bench) -> list[str]:
    """The tasks of the table whose data are in the data folder: nothing is fetched to draw a table."""
    data, groups = bench.settings.data, ("", "glue", "extra")
    return [
        name
        for name in (*SIMILARITY, *FINETUNED)
        if data is not None and any((data / group / name).is_dir() for group in groups)
    ]


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


# ---- tasks


def _similarity_cell(bench: Bench, name: str) -> Cell:
    data = bench.task(name)

    def measure(folder: Path) -> dict[str, Any]:
        scores = embedding_similarity(data, folder_encoder(EvaluatedModel.open(str(folder)), bench.device, _LENGTH))
        return {"value": scores["spearman"], "metric": "spearman", "rows": len(data.evaluated), **scores}

    return Cell(name, digest([data.fingerprint, data.evaluated_name, _LENGTH]), measure)


def _finetune_cell(bench: Bench, name: str) -> Cell:
    settings, data = bench.settings, bench.task(name)
    options = EvaluationSettings(
        max_train=settings.max_train, epochs=settings.epochs, learning_rates=settings.learning_rates, max_length=_LENGTH
    )
    decisive = [options.of(*EvaluationSettings.__dataclass_fields__), settings.seeds, settings.max_eval]
    options = replace(options, device=str(bench.device))  # decides nothing but the time
    return Cell(name, digest([data.fingerprint, *decisive]), lambda folder: finetuned(bench, folder, data, options))


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
