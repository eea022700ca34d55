"""Objects in images without labels: TokenCut (Wang et al. 2022, arXiv 2202.11539), a student beside its teacher.

An image's patches are a graph with an edge of 1 where the cosine of two patches' keys in the last attention layer is
above `TAU`, else of `WEAK`. The second smallest eigenvector of (D - W) x = lambda D x, D the degrees, parts it in two
(normalised cut, Shi & Malik 2000) at its mean. The object is the side that holds the entry of largest size, and of that
side the patches that touch this one. Dense features that a student lost show here, and in no score of whole images.

    overlap    patches in both models' objects / in either, mean over images; 1 where neither has one
    found      share of images where boxes around both objects overlap by half: CorLoc, the teacher's boxes for truth

An image whose keys are all alike has no object: there is nothing to cut.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from scipy.linalg import eigh
from scipy.ndimage import find_objects, label

from autodistil.data.images import IMAGES
from autodistil.data.sources import files_of
from autodistil.errors import ConfigError
from autodistil.evaluation.embedding import check_reads, unit
from autodistil.models.attention import LAST_LAYER, run_tapped, use_tapped_attention
from autodistil.models.families.vit import num_patches
from autodistil.models.hf_folder import EvaluatedModel
from autodistil.models.image_processor import load_image_encoder
from autodistil.tasks.image_batching import ImageBatcher
from autodistil.utils import resolve_device

TAU, WEAK = 0.2, 1e-5
"""The paper's: cosine of patches that belong together, and weight of edges between the others."""
MOST_IMAGES = 500
"""Looked at; of more those that are first by path."""


@dataclass(frozen=True)
class ObjectScores:
    """How far the objects that two models see agree."""

    images: int
    overlap: float
    found: float
    objects: float
    """Share of images where the student sees one."""
    objects_of_teacher: float


def object_scores(student: str, teacher: str, images: Path, device: str = "auto") -> ObjectScores:
    """Compare the objects that a student and its teacher see.

    Args:
        student: a vision encoder: a folder or an id.
        teacher: another whose images have as many patches.
        images: a file, or a folder of them.
        device: `auto`, `cpu` or `cuda`.

    Raises:
        TeacherError: a model is not there or damaged.
        TaskError: it reads text.
        CorpusError: an image is missing or damaged.
        ConfigError: the models cut images into other patches.
    """
    files = [str(path) for path in files_of(images, str(images), IMAGES)][:MOST_IMAGES]
    where = resolve_device(device)
    models = [EvaluatedModel.open(name) for name in (student, teacher)]
    for model in models:
        check_reads(f"model {model.source!r}", model.reads_images, "objects_of", images=True)
    ours, theirs = (_objects(model, files, where) for model in models)
    pairs = list(zip(ours, theirs, strict=True))
    if pairs[0][0].shape != pairs[0][1].shape:
        sides = ["x".join(map(str, mask.shape)) for mask in pairs[0]]
        raise ConfigError(
            f"model {student!r} cuts an image into {sides[0]} patches, {teacher!r} into {sides[1]}; give the "
            "student's own teacher"
        )
    return ObjectScores(
        len(pairs),
        overlap=float(np.mean([_overlap(mine, its) for mine, its in pairs])),
        found=float(np.mean([_overlap(_box(mine), _box(its)) >= 0.5 for mine, its in pairs])),
        objects=float(np.mean([mine.any() for mine, _ in pairs])),
        objects_of_teacher=float(np.mean([its.any() for _, its in pairs])),
    )


@torch.no_grad()
def _objects(model: EvaluatedModel, files: Sequence[str], device: torch.device) -> Iterator[np.ndarray]:
    """Where the object of each image is, (rows, columns) of its patches."""
    encoder, reader = load_image_encoder(model, device)
    use_tapped_attention(encoder)
    batches, places = ImageBatcher(reader, device)(files)
    objects = []
    for batch in batches:
        keys = run_tapped(encoder, batch, LAST_LAYER, output=True).attention.key
        patches = keys.transpose(1, 2).flatten(2)[:, -num_patches(encoder.config) :].double().cpu().numpy()
        side = round(patches.shape[1] ** 0.5)
        objects += [find_object(of, (side, side)) for of in patches]
    return (objects[place] for place in places)


def find_object(keys: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """The patches of an image's object.

    Args:
        keys: of its patches, row by row, (rows * columns, dim).
        shape: rows and columns.

    Returns:
        (rows, columns) of bool; none where all keys are alike.
    """
    vector = second_eigenvector(keys)
    if vector is None:
        return np.zeros(shape, dtype=bool)
    seed = int(np.abs(vector).argmax())
    side = vector > vector.mean()
    numbers, _ = label((side == side[seed]).reshape(shape))
    found: np.ndarray = numbers == numbers.flat[seed]
    return found


def second_eigenvector(keys: np.ndarray) -> np.ndarray | None:
    """Of the graph of patches, (patches,); None where no edge is weak, so that every cut is as good."""
    directions = unit(keys)
    weights = np.where(directions @ directions.T > TAU, 1.0, WEAK)
    if len(keys) < 2 or weights.min() == 1:
        return None
    degrees = np.diag(weights.sum(1))
    _, vectors = eigh(degrees - weights, degrees, subset_by_index=[1, 1])
    found: np.ndarray = vectors[:, 0]
    return found


def _overlap(one: np.ndarray, other: np.ndarray) -> float:
    either = int((one | other).sum())
    return int((one & other).sum()) / either if either else 1.0


def _box(mask: np.ndarray) -> np.ndarray:
    """The smallest rectangle around a mask, as a mask."""
    box = np.zeros_like(mask)
    for place in find_objects(mask.astype(int)):
        box[place] = True
    return box
