"""Image files as batches of pixels, as `tasks.batching` makes batches of texts."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch

from autodistil.data.batch import Batch
from autodistil.data.images import decode
from autodistil.models.image_processor import ImageReader
from autodistil.tasks.batching import BATCH_SIZE


@dataclass(frozen=True)
class ImageBatcher:
    """Decodes, resizes and batches image files, a batch at a time."""

    reader: ImageReader
    device: torch.device
    keep: bool = False
    """Keep pixels (height * width * channels bytes an image), for the many students that read the same files."""
    _kept: dict[tuple[str, ...], np.ndarray] = field(default_factory=dict, init=False, repr=False, compare=False)

    def __call__(self, files: Sequence[str]) -> tuple[Iterator[Batch], np.ndarray]:
        """Batches of some files, each distinct one once, and where each file stands in all of them, (files,).

        Raises:
            CorpusError: at the batch of a file that is missing, damaged or no image.
        """
        unique = {file: i for i, file in enumerate(dict.fromkeys(files))}
        names = list(unique)
        parts = (tuple(names[start : start + BATCH_SIZE]) for start in range(0, len(names), BATCH_SIZE))
        batches = (self.reader.inputs.batch(self._pixels(part), self.device) for part in parts)
        return batches, np.array([unique[file] for file in files])

    def _pixels(self, files: tuple[str, ...]) -> np.ndarray:
        if files in self._kept:
            return self._kept[files]
        pixels = self.reader.pixels([read_image(file, self.reader.channels) for file in files])
        if self.keep:
            self._kept[files] = pixels
        return pixels


def read_image(file: str, channels: int = 3) -> object:
    """A file of an image as a Pillow image.

    Raises:
        CorpusError: it is missing, damaged or no image (`data.images.decode`).
    """
    return decode(Path(file), f"image file {file!r}", channels)
