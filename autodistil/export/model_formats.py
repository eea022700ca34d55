"""A model as it is, in further formats: its folder, copied, with the files of other runtimes."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path

import torch

from autodistil.data.images import IMAGES
from autodistil.data.python_docs import python_docs
from autodistil.data.readers import corpus_file_errors
from autodistil.data.sources import files_of
from autodistil.errors import ExportError
from autodistil.export.hub import LICENCES
from autodistil.formats import FORMATS
from autodistil.formats.writing import CALIBRATION_TEXTS, Deployable, check_formats, format_files, write_formats
from autodistil.models.hf_folder import EvaluatedModel
from autodistil.models.image_processor import load_image_classifier, load_image_encoder
from autodistil.models.pooling import folder_embedding
from autodistil.utils import folder_beside

_FILES = (".json", ".txt", ".model", ".safetensors", ".md", ".py")
"""Of a model's folder, what it is loaded from and what says what it is."""


def export_model(source: str, to: Path, formats: Sequence[str], images: Path | None = None) -> list[Deployable]:
    """Copy an encoder, or a classifier of images, to a new folder and write further formats into it.

    It comes out whole and checked or not at all.

    Args:
        source: a folder, an id or a packaged name.
        to: a folder that does not exist yet.
        formats: keys of `formats.FORMATS` that have a file.
        images: a file or folder of such as a vision encoder will read, of which ranges of activations are taken and
            on which files are compared; random ones do unless given, where no ranges are needed.

    Raises:
        ExportError: the target is there, a format is unknown or none, or images are missing or for a model of text.
        CorpusError: an image cannot be read, or there are none.
        TeacherError: the model is not there or damaged, or a fine-tuned one that reads text.
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
    if model.reads_images:
        return _export_of_images(model, to, further, images)
    if images is not None:
        raise ExportError(f"images are for models that read them, {source!r} reads text; leave --images out")
    if model.has_head:
        raise ExportError(
            f"model {source!r} was fine-tuned and would lose its head; give adapt --format, or an encoder"
        )
    network, tokenizer = model.encoder(torch.device("cpu")), model.tokenizer()
    with folder_beside(to) as building:
        _copy(model.folder, building)
        texts = list(islice(python_docs(), CALIBRATION_TEXTS))
        written = write_formats(network, tokenizer, further, building, folder_embedding(model.folder), texts)
        os.replace(building, to)
    return written


def _export_of_images(model: EvaluatedModel, to: Path, formats: Sequence[str], images: Path | None) -> list[Deployable]:
    """The same of a vision encoder, or a classifier of images, whose files give its logits.

    DINOv2 reads images of another size than it was trained at: its files are of the size that its processor makes.
    """
    ranged = next((name for name in formats if FORMATS[name].ranges), None)
    if images is None and ranged is not None:
        raise ExportError(
            f"format {ranged!r} takes ranges of activations of images such as {model.source!r} will read; give "
            "--images a folder of some"
        )
    load = load_image_classifier if model.has_head else load_image_encoder
    network, reader = load(model, torch.device("cpu"))
    samples = None
    if images is not None:
        with corpus_file_errors(images):
            files = [str(file) for file in files_of(images, str(images), IMAGES)]
        samples = reader.sample(files, CALIBRATION_TEXTS)
    with folder_beside(to) as building:
        _copy(model.folder, building)
        written = write_formats(network, None, formats, building, images=samples)
        os.replace(building, to)
    return written


def _copy(folder: Path, building: Path) -> None:
    for path in _files(folder):
        copy = building / path.relative_to(folder)
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, copy)


def _files(folder: Path) -> Iterator[Path]:
    """The files of a model, and all of its pipeline's modules, whose folders are numbered."""
    for path in (*sorted(folder.iterdir()), *sorted(folder.glob("[0-9]_*/*"))):
        known = path.suffix in _FILES or path.stem.upper() in LICENCES or path.parent != folder
        if known and path.is_file():
            yield path
