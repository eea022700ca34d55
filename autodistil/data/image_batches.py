"""The images of a run as batches of pixels: what each training step sees, and what students are scored on.

The counterpart of `text.RunText` for teachers that read images: a text is an image. Arrays hold pixels of uint8, which
`inputs.PixelInputs` turns into what a model sees.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np
import torch

from autodistil.config import RunConfig
from autodistil.data.batch import Batch
from autodistil.data.images import ImageCorpus, Images, Reader, read_images
from autodistil.data.sequences import batch_indices
from autodistil.data.texts import drawn_once, texts_of_step
from autodistil.errors import ConfigError, CorpusError
from autodistil.utils import Progress

IMAGES_PER_SEQUENCE = 4
"""Images in the place of one packed sequence: as many as sentences."""


@dataclass
class RunImages:
    """A run's images.

    Args:
        config: sources and seed.
        reader: the teacher's.
        tokens: of an image.
        device: where batches go.
        progress: told what is read.
    """

    config: RunConfig
    reader: Reader
    tokens: int
    device: torch.device
    progress: Progress = field(default_factory=Progress)

    def __post_init__(self) -> None:
        if self.config.text_unit != "auto":
            raise ConfigError(
                f"text_unit = {self.config.text_unit!r} is for text, this teacher reads images; leave it out"
            )

    @property
    def unit(self) -> str:
        """`images`."""
        return "images"

    @property
    def batch_size(self) -> int:
        """Images per step.

        Raises:
            ConfigError: micro-batches do not divide it.
        """
        return texts_of_step(self.config, IMAGES_PER_SEQUENCE)

    @property
    def num_heldout(self) -> int:
        """Images that students are scored on."""
        return self.config.heldout_sequences * IMAGES_PER_SEQUENCE

    @cached_property
    def corpus(self) -> ImageCorpus:
        """The decoded images."""
        with self.progress.track("reading images", 0) as advance:
            corpus = read_images(
                self.config.corpus,
                self.reader,
                min_heldout=self.num_heldout,
                progress=lambda images: advance(0, f"{images:,} images"),
            )
        self.progress.say(f"images: {corpus.description}")
        return corpus

    @property
    def tokens_a_step(self) -> int:
        """Tokens of a step's images."""
        return self.batch_size * self.tokens

    def step_texts(self, step: int) -> np.ndarray:
        """The images of a training step: a function of the seed and the step alone."""
        train = self.corpus.train
        return train.take(batch_indices(len(train), self.batch_size, step, self.config.seed))

    def micro_batches(self, step: int) -> Iterator[Batch]:
        """The images of a training step as the micro-batches that it is cut into."""
        for part in np.split(self.step_texts(step), self.config.accumulate):
            yield self.reader.inputs.batch(part, self.device)

    def sample(self, count: int) -> np.ndarray:
        """Some training images (at most `count`), the same each time."""
        return self._draw(self.corpus.train, count)

    def _draw(self, images: Images, count: int) -> np.ndarray:
        """At most `count` of the images, by the seed."""
        return images.take(batch_indices(len(images), min(count, len(images)), 0, self.config.seed))

    def draw_heldout(self, path: Path) -> np.ndarray:
        """Held-out images, drawn once and kept at `path`, so that scores never change.

        Raises:
            CorpusError: there are too few.
            RunError: the file is damaged.
        """
        return drawn_once(path, self._heldout)

    def _heldout(self) -> np.ndarray:
        images = self.corpus.heldout
        if len(images) < self.num_heldout:
            raise CorpusError(
                f"the corpus has {len(images)} held-out images, a quarter at most, {self.num_heldout} are needed "
                f"(heldout_sequences = {self.config.heldout_sequences}); give more images, or lower heldout_sequences"
            )
        return self._draw(images, self.num_heldout)
