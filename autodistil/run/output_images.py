"""Output teachers of runs on images: a vision encoder whose features of whole images students learn.

Beside the relations of the run's own teacher this is Hybrid Distillation (Shi et al., ICLR 2024, arXiv 2306.15876):
relations of a teacher that was trained by reconstruction, features of one that was trained with contrasts or labels,
and `--visible-patches` for its masking of tokens. Departures: features of the class token instead of each patch, so
that the two teachers may cut images into other patches; random patches are left out instead of the most redundant.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from transformers import PreTrainedModel

from autodistil.data.cache import key_of
from autodistil.evaluation.embedding import unit
from autodistil.models.hf_folder import EvaluatedModel
from autodistil.models.image_processor import ImageReader, load_image_encoder
from autodistil.run.output_teacher import OutputTargets
from autodistil.training.trainer import autocast

BATCH = 64


@dataclass(frozen=True)
class ImageOutputTeacher:
    """A vision encoder that reads the pixels that were made for the run's teacher, resized to its own."""

    model: EvaluatedModel
    device: torch.device
    precision: str = "fp32"
    """What it computes under, a key of `trainer.DTYPES`."""
    weight: float = 1.0
    """Beside other output teachers."""

    @cached_property
    def _loaded(self) -> tuple[PreTrainedModel, ImageReader]:
        return load_image_encoder(self.model, self.device)

    @cached_property
    def dim(self) -> int:
        """Width of its features."""
        return int(self.model.config.hidden_size)

    @property
    def fingerprint(self) -> str:
        """Of what decides its features of given images."""
        return key_of([self.model.fingerprint, self._loaded[1].fingerprint, self.precision])[:16]

    @torch.no_grad()
    def embed(self, samples: np.ndarray) -> np.ndarray:
        """Class tokens of samples (images, channels, height, width) of uint8, (images, dim) of length 1."""
        encoder, reader = self._loaded
        found = []
        for start in range(0, len(samples), BATCH):
            images = [in_channels(image, reader.channels) for image in samples[start : start + BATCH]]
            batch = reader.inputs.batch(np.concatenate([reader.pixels([image]) for image in images]), self.device)
            with autocast(self.device, self.precision):
                found.append(encoder(**batch).last_hidden_state[:, 0].float().cpu().numpy())
        return unit(np.concatenate(found))

    def targets(self, take: Callable[[np.ndarray], np.ndarray], count: int, key: Sequence[str]) -> OutputTargets:
        """Features by numbers of samples, kept once they are made."""
        return OutputTargets(self, take, count, key)


def in_channels(image: np.ndarray, channels: int) -> np.ndarray:
    """Pixels (channels, height, width) of uint8 as (height, width, channels) of another number of channels.

    Grey is repeated; of RGB the mean is taken.
    """
    if len(image) == channels:
        return image.transpose(1, 2, 0)
    grey = image.mean(0, keepdims=True).round().astype(np.uint8)
    return np.repeat(grey, channels, axis=0).transpose(1, 2, 0)
