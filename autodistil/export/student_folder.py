"""A student as an ordinary Hugging Face folder, checked against the SuperLM before it is called done."""

from __future__ import annotations

import itertools
import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from transformers import AutoModel, AutoModelForCausalLM, PreTrainedTokenizerBase

from autodistil.costs.speed import Speed
from autodistil.errors import ExportError
from autodistil.export.card import Repeat, model_card
from autodistil.export.checks import check_costs, check_parity
from autodistil.export.hub import LICENCES
from autodistil.export.sentence_pipeline import (
    is_plain_pipeline,
    write_sentence_pipeline,
)
from autodistil.formats.writing import Deployable, check_formats, format_files, write_formats
from autodistil.models.architectures import is_per_layer
from autodistil.models.hf_folder import CARD
from autodistil.models.pooling import folder_embedding
from autodistil.models.student_files import is_as_written, read_list, write_list
from autodistil.models.superlm import SuperLM
from autodistil.models.teacher import Teacher
from autodistil.models.vocabulary import prune_tokenizer
from autodistil.space.student import Candidate
from autodistil.utils import atomic_path, copy_file, disk_errors, file_sum, folder_beside

_WEIGHTS = "model.safetensors"


@dataclass(frozen=True)
class ExportedStudent:
    """What an export left behind."""

    path: Path
    max_difference: float
    """Largest difference of hidden states or logits to the SuperLM's, on random tokens (several lengths) or pixels."""
    size_mb: float
    """Size of `model.safetensors`, in 1e6 bytes."""
    sentence_transformers: bool
    """`SentenceTransformer(path)` loads it."""
    own_architecture: bool = False
    """It loads with `trust_remote_code=True` only, where autodistil is not installed."""
    more: tuple[Deployable, ...] = ()
    """Further formats of the student."""
    decoder: bool = False
    """It generates text: `AutoModelForCausalLM` loads it."""
    notes: tuple[str, ...] = ()
    """What to say about files of an earlier export that stay."""


def export_student(
    superlm: SuperLM,
    candidate: Candidate,
    teacher: Teacher,
    costs: Mapping[str, Any],
    facts: Mapping[str, str],
    to: Path,
    replace_existing: bool = False,
    formats: Sequence[str] = (),
    repeat: Repeat | None = None,
    speed: Speed | None = None,
    texts: Sequence[str] = (),
    images: NDArray[np.float32] | None = None,
) -> ExportedStudent:
    """Write a student to `to`: whole and checked, or not at all.

    Args:
        superlm: the trained SuperLM of the candidate's sub-space.
        candidate: the student.
        teacher: gives the tokenizer or image processor and, where it is one, the sentence-transformers pipeline.
        costs: its row of the cost table (`flops`, `params`, `size_mb`, ...), recounted here.
        facts: further lines of the model card (what it was distilled on, loss, ...).
        to: a folder that does not exist yet, or is empty.
        replace_existing: put the student in the place of an earlier export at `to`, whose other files stay.
        formats: keys of `formats.FORMATS`, written beside, of a decoder those of `DECODER_FORMATS`; `onnx-bits` always
            is where weights have few bits.
        repeat: what makes the student again, for the model card.
        speed: how much faster than its teacher it is, for the model card.
        texts: such as it will read, of which ranges of activations are taken in formats of 8 bits.
        images: such, (images, channels, height, width), in the place of texts.

    Raises:
        ExportError: the target is taken, a format unknown, or none that this teacher's students have.
        ProfileError: a library of a format is not installed.
        RunError: the disk refuses.
        IntegrityError: the reloaded model differs from the SuperLM's student, or its costs from the closed form.
    """
    with disk_errors(to):
        here, taken = to.resolve() == Path.cwd(), to.exists() and (not to.is_dir() or any(to.iterdir()))
    if here or (taken and not replace_existing):
        is_what = "is the current folder" if here else "exists and is not an empty folder"
        raise ExportError(f"export target {str(to)!r} {is_what}; give --to a new folder")
    formats = (*formats, *(["onnx-bits"] if candidate.config.quantised else []))
    head = superlm.output_head(candidate.config) if teacher.images is None else None  # of images its file has no place
    _check_formats(formats, teacher, is_plain_pipeline(teacher.folder) or head is not None)
    with folder_beside(to) as building:
        superlm.extract(candidate.config).save_pretrained(building)
        tokenizer = None if teacher.images else student_tokenizer(superlm, candidate, teacher)
        reader_of(superlm, candidate, teacher).save_pretrained(building)
        pipeline = write_sentence_pipeline(teacher, candidate.config.hidden_size, building, head)
        kind: Any = AutoModelForCausalLM if teacher.family.causal else AutoModel
        reloaded = kind.from_pretrained(building).to(superlm.device).eval()
        difference = check_parity(superlm, candidate, reloaded)
        (building / _WEIGHTS).chmod(0o644)  # safetensors creates it for its owner only
        embed = folder_embedding(building) if pipeline else None
        more = write_formats(reloaded.to("cpu"), tokenizer, formats, building, embed, texts, images)
        check_costs(superlm, candidate, costs, reloaded, building)
        files = {f"also as {one.format}": one.line for one in more}
        card = model_card(candidate, teacher, costs, {**facts, **files}, pipeline, speed, repeat, to.resolve().name)
        (building / CARD).write_text(card, encoding="utf-8")
        _copy_licences(teacher.folder, building)
        notes = _put_in_place(building, to)
    size = (to / _WEIGHTS).stat().st_size / 1e6
    own = is_per_layer(reloaded.config)
    return ExportedStudent(to, difference, size, pipeline, own, tuple(more), teacher.family.causal, tuple(notes))


def _put_in_place(building: Path, to: Path) -> list[str]:
    """Move a finished export to `to`, with the list of its files; returns what to say about those that were there.

    Over an earlier export it goes file by file, each whole, the list last. What a person made or changed there stays,
    a file that is in the way under another name; so do later files of autodistil, which stay on the list as long as
    they are of the same weights.
    """
    names = [path.relative_to(building).as_posix() for path in building.rglob("*") if path.is_file()]
    sums = {name: file_sum(building / name) for name in sorted(names, key=lambda name: (name == CARD, name))}
    write_list(building, sums)
    if not to.exists() or not any(to.iterdir()):
        os.replace(building, to)
        return []
    try:
        before = read_list(to)
    except ExportError:
        before = {}  # then all that differs is taken for a person's
    same = before.get(_WEIGHTS) == sums[_WEIGHTS]
    later = {name: total for name, total in before.items() if name not in sums and (to / name).is_file()}
    kept = {name: total for name, total in later.items() if same and is_as_written(to, name, before)}
    aside = [
        _keep_aside(to / name) for name, total in sums.items() if _is_a_persons(to / name, total, before.get(name))
    ]
    for name in sums:
        with atomic_path(to / name) as temporary:
            os.replace(building / name, temporary)
    write_list(to, {**sums, **kept})
    stale = sorted(later.keys() - kept.keys())
    return [
        *(f"{path} was changed since it was exported and is kept as {name}" for path, name in aside),
        *([f"{', '.join(stale)} in {to} belong to other weights than the student has now"] if stale else []),
    ]


def _is_a_persons(path: Path, new: str, before: str | None) -> bool:
    """Whether a file in the way of a new one is neither the same nor what was exported before."""
    return path.is_file() and file_sum(path) not in (new, before)


def _keep_aside(path: Path) -> tuple[Path, str]:
    """Copy a file to a free name beside it; returns both."""
    numbers = (f".kept{f'-{number}' if number > 1 else ''}" for number in itertools.count(1))
    free = (path.with_name(f"{path.stem}{number}{path.suffix}") for number in numbers)
    return path, copy_file(path, next(other for other in free if not other.exists())).name


def _check_formats(formats: Sequence[str], teacher: Teacher, has_pipeline: bool) -> None:
    """Refuse formats that the students of a teacher do not have."""
    check_formats(formats, teacher.family.causal)
    if "sentence-transformers" in formats and not has_pipeline:
        raise ExportError(
            f"teacher {teacher.source!r} has no sentence-transformers pipeline of an encoder, a pooling and a scaling, "
            f"so its students have none; allowed: {', '.join(('hf', *format_files()))}"
        )


def student_tokenizer(superlm: SuperLM, candidate: Candidate, teacher: Teacher) -> PreTrainedTokenizerBase:
    """The tokenizer of a student: the teacher's, pruned where the student's vocabulary is."""
    size = candidate.config.vocab_size
    if size is None:
        return teacher.tokenizer
    assert superlm.vocabulary is not None
    return prune_tokenizer(teacher.tokenizer, superlm.vocabulary, size)


def reader_of(superlm: SuperLM, candidate: Candidate, teacher: Teacher) -> Any:
    """What reads a student's inputs: its tokenizer, or the image processor."""
    return teacher.images.processor if teacher.images else student_tokenizer(superlm, candidate, teacher)


def _copy_licences(teacher: Path | None, folder: Path) -> None:
    """The licence files of a teacher's folder go with its students."""
    for path in sorted(teacher.iterdir()) if teacher else ():
        if path.is_file() and path.stem.upper() in LICENCES:
            shutil.copyfile(path, folder / path.name)
