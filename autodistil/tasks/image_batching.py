"""Image files as batches of pixels, as `tasks.batching` makes batches of texts.

Hidden tokens of an image are patches of the processor's mean colour (Cutout, DeVries & Taylor 2017, arXiv 1708.04552,
by patches).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import pad
from transformers import PretrainedConfig

from autodistil.data.batch import Batch, PixelInputs
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


@dataclass(frozen=True)
class ImageRows:
    """Images as rows to train on, as `batching.TokenizedRows` are of texts; pixels stay in memory, a byte a channel."""

    pixels: np.ndarray
    """(rows, channels, height, width) of uint8."""
    inputs: PixelInputs
    patch: tuple[int, int]
    """Height and width in pixels."""

    @classmethod
    def of(cls, reader: ImageReader, config: PretrainedConfig, files: Sequence[str]) -> ImageRows:
        """Decode and resize image files for a model of a config.

        Raises:
            CorpusError: one is missing, damaged or no image.
        """
        pixels = np.empty((len(files), reader.channels, reader.size, reader.size), dtype=np.uint8)
        for row, file in enumerate(files):
            pixels[row] = reader.pixels([read_image(file, reader.channels)])[0]
        size = config.patch_size
        return cls(pixels, reader.inputs, (size, size) if isinstance(size, int) else tuple(size))

    @property
    def lengths(self) -> np.ndarray:
        """Of each row the same, (rows,): any images make a batch."""
        return np.ones(len(self.pixels), dtype=np.int64)

    @property
    def seen(self) -> np.ndarray:
        """Which rows have an answer, (rows,): all."""
        return np.ones(len(self.pixels), dtype=bool)

    def only(self, seen: np.ndarray) -> ImageRows:
        """The same: all rows have an answer."""
        return self

    def units(self, rows: np.ndarray) -> np.ndarray:
        """Which units have an answer in the rows at some indices: these rows."""
        return rows

    def by_unit(self, values: Tensor, rows: np.ndarray) -> Tensor:
        """What a head reads or says of the rows at some indices, (indices, width), as it is."""
        return values

    def batch(self, rows: np.ndarray, device: torch.device) -> Batch:
        """The inputs of the rows at some indices."""
        return self.inputs.batch(self.pixels[rows], device)

    def hidden(self, inputs: Batch, share: float) -> Batch:
        """Inputs with about a share of the patches of each image in the mean colour."""
        pixels = inputs["pixel_values"]
        height, width = (side // patch for side, patch in zip(pixels.shape[2:], self.patch, strict=True))
        hidden = torch.rand((len(pixels), 1, height, width), device=pixels.device) < share
        for side, patch in enumerate(self.patch, start=2):
            hidden = hidden.repeat_interleave(patch, dim=side)
        down, right = (side - size for side, size in zip(pixels.shape[2:], hidden.shape[2:], strict=True))
        covered = pad(hidden, (0, right, 0, down))
        return {**inputs, "pixel_values": pixels.masked_fill(covered, 0)}
