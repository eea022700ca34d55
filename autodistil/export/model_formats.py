"""A model as it is, in further formats: its folder, copied, with the files of other runtimes."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path

import torch

from autodistil.data.python_docs import python_docs
from autodistil.errors import ExportError
from autodistil.export.hub import LICENCES
from autodistil.formats.writing import CALIBRATION_TEXTS, Deployable, check_formats, format_files, write_formats
from autodistil.models.hf_folder import EvaluatedModel
from autodistil.models.pooling import folder_embedding
from autodistil.utils import folder_beside

_FILES = (".json", ".txt", ".model", ".safetensors", ".md", ".py")
"""Of a model's folder, what it is loaded from and what says what it is."""


def export_model(source: str, to: Path, formats: Sequence[str]) -> list[Deployable]:
    """Copy an encoder to a new folder and write further formats into it, whole and checked or not at all.

    Args:
        source: a folder, an id or a packaged name.
        to: a folder that does not exist yet.
        formats: keys of `formats.FORMATS` that have a file.

    Raises:
        ExportError: the target is there, or a format is unknown or none.
        TeacherError: the model is not there, damaged, or no encoder of text.
        ProfileError: a library of a format is not installed.
        IntegrityError: a file computes something else.
        RunError: the disk refuses.
    """
    further = [name for name in check_formats(formats) if name in format_files()]
    if not further:
        raise ExportError(f"no format to write; give --format, one of {', '.join(format_files())}")
    if to.exists():
        raise ExportError(f"target {str(to)!r} exists; give --to a new folder")
    model = EvaluatedModel.open(source)
    if model.has_head:
        raise ExportError(
            f"model {source!r} was fine-tuned and would lose its head; give adapt --format, or an encoder"
        )
    network, tokenizer = model.encoder(torch.device("cpu")), model.tokenizer()
    with folder_beside(to) as building:
        for path in _files(model.folder):
            copy = building / path.relative_to(model.folder)
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, copy)
        texts = list(islice(python_docs(), CALIBRATION_TEXTS))
        written = write_formats(network, tokenizer, further, building, folder_embedding(model.folder), texts)
        os.replace(building, to)
    return written


def _files(folder: Path) -> Iterator[Path]:
    """The files of a model, and all of its pipeline's modules, whose folders are numbered."""
    for path in (*sorted(folder.iterdir()), *sorted(folder.glob("[0-9]_*/*"))):
        known = path.suffix in _FILES or path.stem.upper() in LICENCES or path.parent != folder
        if known and path.is_file():
            yield path
