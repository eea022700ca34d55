"""Labelled images in a folder for each class, the `ImageFolder` layout of torchvision and datasets.

    train/CLASS/*.png    of any suffix in `IMAGE_SUFFIXES`, in subfolders too; hidden files and folders are left out
    test/CLASS/*.png     and `dev`, of the same classes

A row is the path of a file; its image is decoded where a model reads it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path

from autodistil.data.images import IMAGES
from autodistil.data.readers import corpus_file_errors
from autodistil.data.sources import files_below
from autodistil.errors import TaskError
from autodistil.tasks.labelled_rows import LabelledRows
from autodistil.utils import file_sum


def read_image_rows(folder: Path) -> LabelledRows:
    """The image files of a split in the order of their paths; labels are the names of the folders of classes.

    Args:
        folder: of the split.

    Raises:
        TaskError: it has no folder of a class, or one without images.
        CorpusError: a folder cannot be read.
    """
    with corpus_file_errors(folder):
        classes = sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))
        files = {path: [file for file in files_below(path) if IMAGES.among(file)] for path in classes}
    if not classes:
        raise TaskError(
            f"task folder {str(folder)!r} has no folder of a class; allowed: {folder.name}/CLASS/ with images; sort "
            "its images by class"
        )
    empty = next((path for path, found in files.items() if not found), None)
    if empty is not None:
        raise TaskError(f"class folder {str(empty)!r} holds no images; add some, or remove it")
    rows = [(str(file), path.name) for path, found in files.items() for file in found]
    names, labels = zip(*rows, strict=True)
    return LabelledRows(names, None, labels)


def image_fingerprint(rows: Mapping[str, LabelledRows]) -> str:
    """Hash of the content of all files with their labels, wherever they lie, (16 hexadecimal digits).

    Raises:
        CorpusError: a file cannot be read.
    """
    digest = hashlib.sha256()
    for split, part in sorted(rows.items()):
        for name, label in zip(part.text_a, part.labels, strict=True):
            with corpus_file_errors(Path(name)):
                digest.update(json.dumps([split, file_sum(Path(name)), label]).encode())
    return digest.hexdigest()[:16]
