"""A fine-tuned student as an ordinary Hugging Face folder, with its card and figures, loaded as users load it."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import ModelCardData, RepoCard
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from autodistil.errors import IntegrityError
from autodistil.formats.writing import Deployable, write_formats
from autodistil.models.architectures import is_per_layer
from autodistil.models.hf_folder import CARD, EvaluatedModel
from autodistil.models.student_files import write_list
from autodistil.utils import file_sum, write_text

FIGURES = "adaptation.json"
"""What was found, beside the student."""
_NAMES = {"student": "this model", "plain": "the same student on labels alone", "teacher": "its teacher"}


@dataclass(frozen=True)
class Adaptation:
    """A fine-tuned student with its figures, of rows that chose nothing."""

    path: Path
    task: str
    pairs: bool
    """Of two texts."""
    classes: tuple[str, ...]
    """Empty where scores are predicted."""
    origin: str
    """Where its rows came from."""
    split: str
    rows: int
    """Rows of the split."""
    train_rows: int
    unlabelled: int
    """Rows that the teacher alone labelled."""
    metrics: Mapping[str, Mapping[str, float]]
    """`student`, and where known `plain` (the student on labels alone) and `teacher` -> metric -> value."""
    standard_error: Mapping[str, float]
    """By metric, what the choice of the scored rows brings."""
    objective: str
    learning_rate: float
    epoch: int
    teacher: str | None
    """Where the fine-tuned teacher is."""
    own_architecture: bool = False
    """It loads with `trust_remote_code=True` only, where autodistil is not installed."""
    more: tuple[Deployable, ...] = ()
    """Further formats."""

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {**asdict(self), "path": str(self.path), "more": [one.format for one in self.more]}


def write_adapted(
    weights: Path, student: EvaluatedModel, found: Adaptation, formats: Sequence[str], building: Path
) -> Adaptation:
    """Put a fine-tuned model in its place, whole and checked, or not at all.

    Args:
        weights: its Hugging Face files.
        student: what was fine-tuned.
        found: its figures, and where it goes: a folder that is not there, or empty.
        formats: keys of `formats.FORMATS`, written beside.
        building: a folder beside that place.

    Raises:
        IntegrityError: it does not load, or answers otherwise.
    """
    shutil.rmtree(building, ignore_errors=True)
    shutil.copytree(weights, building, ignore=shutil.ignore_patterns(".*"))
    network = AutoModelForSequenceClassification.from_pretrained(building).eval()
    tokenizer = AutoTokenizer.from_pretrained(building)
    names = list(network.config.id2label.values())
    with torch.no_grad():
        answer = network(**tokenizer("a text", return_tensors="pt")).logits
    if names != list(found.classes or ("score",)) or answer.shape != (1, len(names)) or not answer.isfinite().all():
        raise IntegrityError(f"the fine-tuned model says {names} for {found.classes or 'a score'}; please report this")
    more = tuple(write_formats(network, tokenizer, formats, building))
    found = replace(found, more=more, own_architecture=is_per_layer(network.config))
    write_text(building / FIGURES, json.dumps(found.to_dict(), indent=1) + "\n")
    write_text(building / CARD, _card(found, student))
    files = sorted(path for path in building.rglob("*") if path.is_file())
    write_list(building, {path.relative_to(building).as_posix(): file_sum(path) for path in files})
    if found.path.exists():
        found.path.rmdir()
    os.replace(building, found.path)
    return found


def _card(found: Adaptation, student: EvaluatedModel) -> str:
    front = ModelCardData(
        library_name="transformers",
        pipeline_tag="text-classification",
        tags=["autodistil", "knowledge-distillation", student.config.model_type],
    )
    card = RepoCard.from_template(
        front,
        template_path=str(Path(__file__).with_name("adapted.md")),
        name=found.path.resolve().name,
        path=json.dumps(found.path.resolve().name, ensure_ascii=False),
        student=Path(student.source).name,
        found=found,
        metrics=list(found.metrics["student"]),
        names=_NAMES,
    )
    return f"{card}\n"
