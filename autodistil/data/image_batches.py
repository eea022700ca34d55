"""The images of a run: the counterpart of `texts.RunText` for teachers that read images.

Arrays hold pixels of uint8, which `batch.PixelInputs` turns into what a model sees.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch

from autodistil.data.batch import TARGETS, VISIBLE, Batch
from autodistil.data.images import ImageCorpus, ImageSubset, PixelReader, read_images
from autodistil.data.patch_masks import num_views, num_visible, visible_tokens
from autodistil.data.texts import RunSamples
from autodistil.errors import ConfigError

DISJOINT = "disjoint"
"""The `masking` whose views of an image have no patch in common."""


@dataclass
class RunImages(RunSamples):
    """The images of a run.

    Args:
        reader: the teacher's.
        tokens: of an image.
        special_tokens: those before the patches.
    """

    reader: PixelReader
    tokens: int
    special_tokens: int

    def __post_init__(self) -> None:
        if self.config.text_unit != "auto":
            raise ConfigError(
                f"text_unit = {self.config.text_unit!r} is for text, this teacher reads images; leave it out"
            )
        if self.config.masking == DISJOINT and self.config.visible_patches == 1:
            raise ConfigError(
                f"masking = {DISJOINT!r} makes views of a part of the patches, and visible_patches = 1 is all of them; "
                "set it below 1, such as 0.25, or leave masking out"
            )
        self.unit = "images"
        self.heldout_limit = (", a quarter at most", "more images, or lower heldout_sequences")

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
    def train(self) -> ImageSubset:
        """Images to train on."""
        return self.corpus.train

    @property
    def heldout(self) -> ImageSubset:
        """Images that are never trained on."""
        return self.corpus.heldout

    @cached_property
    def samples_a_step(self) -> int:
        """Different images of a step, or as many views.

        Raises:
            ConfigError: a micro-batch is smaller than the views of an image.
        """
        samples, share = super().samples_a_step, self.config.visible_patches
        images = samples // self.config.accumulate
        if self.config.masking == DISJOINT and images < num_views(share):
            raise ConfigError(
                f"masking = {DISJOINT!r} makes {num_views(share)} views of an image, a micro-batch has {images} images;"
                " raise batch_size, or lower accumulate"
            )
        return samples

    @property
    def tokens_a_step(self) -> int:
        """Tokens of a step's images that are read."""
        return self.samples_a_step * self._read

    @property
    def _read(self) -> int:
        return self.special_tokens + num_visible(self.tokens - self.special_tokens, self.config.visible_patches)

    def micro_batches(self, step: int) -> Iterator[Batch]:
        """The images of a step, or the views of some of them, as the micro-batches that it is cut into."""
        share, masking = self.config.visible_patches, self.config.masking
        if share == 1:
            yield from super().micro_batches(step)
            return
        views = num_views(share) if masking == DISJOINT else 1
        generator = np.random.default_rng([self.config.seed, step])
        for numbers in np.split(self.step_indices(step), self.config.accumulate):
            images = len(numbers) // views
            patches = self.tokens - self.special_tokens
            read = visible_tokens(generator, images, patches, self.special_tokens, share, views)
            shown = np.repeat(numbers[:images], views)
            batch = self.inputs.batch(self.train.take(shown), self.device)
            targets = {} if self.targets_of is None else {TARGETS: self._targets(shown)}
            yield {**batch, **targets, VISIBLE: torch.from_numpy(read).to(self.device)}
