"""A fine-tuned student as an ordinary Hugging Face folder, with its card and figures, loaded as users load it."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from huggingface_hub import ModelCardData, RepoCard
from numpy.typing import NDArray
from transformers import (
    AutoModelForQuestionAnswering,
    AutoTokenizer,
    PreTrainedTokenizerBase,
)

from autodistil.data.batch import Batch
from autodistil.errors import IntegrityError, RunError, one_line_named
from autodistil.formats.pairs import reads_pairs
from autodistil.formats.writing import Deployable, Text, write_formats
from autodistil.models.architectures import is_per_layer
from autodistil.models.hf_folder import CARD, EvaluatedModel, head_class
from autodistil.models.image_processor import load_image_reader
from autodistil.models.student_files import write_list
from autodistil.utils import file_sum, write_text

FIGURES = "adaptation.json"
"""What was found, beside the student."""
ABSTAIN_BELOW = "abstain_below"
"""Key of the model's config.json: the confidence below which it had better not answer."""
FEW_CLASSES = 10
"""As many classes have a table of their own on card and terminal; more only in JSON."""
_LATER = ("images", "channels", "spans", "unanswerable", "max_length", "doubt")
"""Fields that folders of earlier releases lack."""
_NAMES = {"student": "this model", "plain": "the same student on labels alone", "teacher": "its teacher"}


@dataclass(frozen=True)
class Adaptation:
    """A fine-tuned student with its figures, of rows that chose nothing."""

    path: Path
    task: str
    pairs: bool
    """Of two texts."""
    classes: tuple[str, ...]
    """Empty where scores are predicted, or spans."""
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
    words: bool = False
    """Each word has a class, a BIO tag."""
    images: bool = False
    """Each image has a class."""
    channels: int = 3
    """Of images: 1 grey, 3 colours."""
    spans: bool = False
    """It finds answers to questions in texts."""
    unanswerable: bool = False
    """Some questions of the task have no answer."""
    max_length: int | None = None
    """Tokens of a window, where texts are read in such."""
    own_architecture: bool = False
    """It loads with `trust_remote_code=True` only, where autodistil is not installed."""
    more: tuple[Deployable, ...] = ()
    """Further formats."""
    scored_rows: str = ""
    """Hash of the rows of the split: figures compare where it is the same."""
    classification: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """`student`, `plain` and `teacher` -> `tasks.classification.Classification` as plain values; none of scores."""
    abstention: Mapping[str, Any] | None = None
    """`tasks.calibration.Abstention` as plain values, where a threshold was asked for."""
    doubt: str | None = None
    """`tasks.calibration.doubt` of its answers."""
    costs: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    """`student` and `teacher` -> `params`, `size_mb` (of float32), and of known families `flops` at `tokens` tokens."""

    @property
    def pipeline(self) -> str:
        """What transformers and the Hub call what it does."""
        if self.spans:
            return "question-answering"
        return f"{'image' if self.images else 'token' if self.words else 'text'}-classification"

    @property
    def grey(self) -> bool:
        """Whether it reads grey images, of which the pipeline of transformers makes colours."""
        return self.channels == 1

    @property
    def entities(self) -> tuple[str, ...]:
        """Types of named entities that it finds; none unless words have classes."""
        return tuple(name[2:] for name in self.classes if name.startswith("B-")) if self.words else ()

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {**asdict(self), "path": str(self.path), "more": [one.format for one in self.more]}

    @property
    def threshold(self) -> float | None:
        """The confidence below which it had better not answer, None where there is none."""
        return None if self.abstention is None else self.abstention["threshold"]

    @property
    def class_rows(self) -> list[tuple[str, Mapping[str, Any], Sequence[int]]]:
        """Name, scores and answers by class of each class of few, none of many or of scores."""
        found = self.classification.get("student")
        if found is None or len(self.classes) > FEW_CLASSES:
            return []
        return [(name, found["per_class"][name], of) for name, of in zip(self.classes, found["confusion"], strict=True)]


def is_adapted(folder: Path) -> bool:
    """Whether a folder is a fine-tuned student that `write_adapted` wrote."""
    return (folder / FIGURES).is_file()


def read_adaptation(folder: Path) -> Adaptation:
    """What `write_adapted` left in a folder, but for its further formats.

    Raises:
        RunError: it is no fine-tuned student, or its figures are damaged.
    """
    path = folder / FIGURES
    if not is_adapted(folder):
        raise RunError(f"{str(folder)!r} is no fine-tuned student: it has no {FIGURES}; make one with autodistil adapt")
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        known = {name: values[name] for name in Adaptation.__dataclass_fields__ if name in values or name not in _LATER}
        return Adaptation(**{**known, "path": folder, "classes": tuple(known["classes"]), "more": ()})
    except (OSError, ValueError, KeyError, TypeError) as error:
        reason = one_line_named(error, 120)
        raise RunError(f"{str(path)!r} is damaged ({reason}); make the student again with autodistil adapt") from error


def write_adapted(
    weights: Path,
    student: EvaluatedModel,
    found: Adaptation,
    formats: Sequence[str],
    building: Path,
    texts: Sequence[Text] = (),
    images: NDArray[np.float32] | None = None,
) -> Adaptation:
    """Put a fine-tuned model in its place, whole and checked, or not at all.

    Args:
        weights: its Hugging Face files.
        student: what was fine-tuned.
        found: its figures, and where it goes: a folder that is not there, or empty.
        formats: keys of `formats.FORMATS`, written beside.
        building: a folder beside that place.
        texts: of the task, of which ranges of activations are taken in formats of 8 bits.
        images: the same of images, (images, channels, height, width), as it reads them.

    Raises:
        IntegrityError: it does not load, or answers otherwise.
    """
    shutil.rmtree(building, ignore_errors=True)
    shutil.copytree(weights, building, ignore=shutil.ignore_patterns(".*"))
    if found.threshold is not None:
        config = json.loads((building / "config.json").read_text(encoding="utf-8"))
        write_text(building / "config.json", json.dumps({**config, ABSTAIN_BELOW: found.threshold}, indent=2) + "\n")
    kind = AutoModelForQuestionAnswering if found.spans else head_class(found.words, found.images)
    network = kind.from_pretrained(building).eval()
    tokenizer = None if found.images else AutoTokenizer.from_pretrained(building)
    if found.spans:
        assert tokenizer is not None
        _check_spans(network, tokenizer)
    else:
        _check_classes(network, tokenizer, building, found)
    with reads_pairs(network, tokenizer) if found.pairs and tokenizer is not None else nullcontext():
        more = tuple(write_formats(network, tokenizer, formats, building, texts=texts, images=images))
    channels = network.config.num_channels if found.images else found.channels
    found = replace(found, more=more, own_architecture=is_per_layer(network.config), channels=channels)
    write_text(building / FIGURES, json.dumps(found.to_dict(), indent=1) + "\n")
    write_text(building / CARD, _card(found, student))
    files = sorted(path for path in building.rglob("*") if path.is_file())
    write_list(building, {path.relative_to(building).as_posix(): file_sum(path) for path in files})
    if found.path.exists():
        found.path.rmdir()
    os.replace(building, found.path)
    return found


def _check_classes(network: Any, tokenizer: PreTrainedTokenizerBase | None, folder: Path, found: Adaptation) -> None:
    """Make sure that a model answers with its classes, or a score.

    Raises:
        IntegrityError: it does not.
    """
    names = list(network.config.id2label.values())
    batch, units = _one_row(network, tokenizer, folder, found.words)
    with torch.no_grad():
        answer = network(**batch).logits
    shape = (*units, len(names))
    if names != list(found.classes or ("score",)) or answer.shape != shape or not answer.isfinite().all():
        raise IntegrityError(f"the fine-tuned model says {names} for {found.classes or 'a score'}; please report this")


def _one_row(
    network: Any, tokenizer: PreTrainedTokenizerBase | None, folder: Path, words: bool
) -> tuple[Batch, tuple[int, ...]]:
    """Inputs of one text, or of an image where there is no tokenizer, and the shape of what has an answer."""
    if tokenizer is None:
        reader = load_image_reader(folder, folder.name, network.config, what="model")
        return reader.inputs.batch(reader.probes()[:1]), (1,)
    batch = tokenizer("a text", return_tensors="pt")
    return dict(batch), tuple(batch["input_ids"].shape[: 1 + words])


def _check_spans(network: Any, tokenizer: PreTrainedTokenizerBase) -> None:
    """Make sure that a model says of each token whether an answer starts or ends there.

    Raises:
        IntegrityError: it does not.
    """
    batch = tokenizer("a question", "a text", return_tensors="pt")
    with torch.no_grad():
        answer = network(**batch)
    for logits in (answer.start_logits, answer.end_logits):
        if logits.shape != batch["input_ids"].shape or not logits.isfinite().all():
            raise IntegrityError("the fine-tuned model gives no logits of starts and ends; please report this")


def _card(found: Adaptation, student: EvaluatedModel) -> str:
    front = ModelCardData(
        library_name="transformers",
        pipeline_tag=found.pipeline,
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
        key=ABSTAIN_BELOW,
    )
    return f"{card}\n"
