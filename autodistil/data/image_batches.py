"""The images of a run: the counterpart of `texts.RunText` for teachers that read images.

Arrays hold pixels of uint8, which `batch.PixelInputs` turns into what a model sees.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from autodistil.data.images import ImageCorpus, ImageSubset, PixelReader, read_images
from autodistil.data.texts import RunSamples
from autodistil.errors import ConfigError


@dataclass
class RunImages(RunSamples):
    """The images of a run.

    Args:
        reader: the teacher's.
        tokens: of an image.
    """

    reader: PixelReader
    tokens: int

    def __post_init__(self) -> None:
        if self.config.text_unit != "auto":
            raise ConfigError(
                f"text_unit = {self.config.text_unit!r} is for text, this teacher reads images; leave it out"
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

    @property
    def tokens_a_step(self) -> int:
        """Tokens of a step's images."""
        return self.samples_a_step * self.tokens
