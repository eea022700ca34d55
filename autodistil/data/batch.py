"""Samples of a corpus, texts or images, as inputs of a Hugging Face model: a sample is a row of an array."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

Batch = Mapping[str, Tensor]
"""`input_ids` (batch, seq) and, where the batch is padded, `attention_mask` (batch, seq); or `pixel_values`
(batch, channels, height, width)."""

TARGETS = "output_targets"
"""Key of what an output teacher makes of the samples of a batch, (batch, dim), which no model reads."""
VISIBLE = "visible_tokens"
"""Key of the tokens of each image that are read, (batch, kept); of masked batches (`patch_masks`)."""

PADDING = -1
"""Fills up the shorter of several texts in an array."""


@dataclass(frozen=True)
class TokenInputs:
    """Samples are texts: token ids (texts, tokens), `PADDING` after the shorter ones."""

    padding_id: int
    """What the model sees in its place."""

    def batch(self, samples: np.ndarray, device: torch.device | str = "cpu") -> Batch:
        """Texts cut to the longest of them; with a mask only where there is padding."""
        ids = torch.from_numpy(np.ascontiguousarray(samples))
        real = ids != PADDING
        return {name: value.to(device) for name, value in _cut(ids.where(real, self.padding_id), real).items()}


@dataclass(frozen=True)
class PixelInputs:
    """Samples are images: pixels (images, channels, height, width) of uint8, as a processor has resized and cropped."""

    scale: tuple[float, ...]
    shift: tuple[float, ...]
    """Shift by channel, as `scale` is: a model sees pixel * scale + shift."""

    def batch(self, samples: np.ndarray, device: torch.device | str = "cpu") -> Batch:
        """What the processor does after resizing."""
        pixels = torch.from_numpy(np.ascontiguousarray(samples)).to(device, torch.float32)
        scale, shift = (pixels.new_tensor(x).view(-1, 1, 1) for x in (self.scale, self.shift))
        return {"pixel_values": pixels * scale + shift}


Inputs = TokenInputs | PixelInputs
"""How samples become inputs of a model: `batch` takes some of them, the first dimension of the array."""


def lengths(samples: np.ndarray) -> np.ndarray:
    """Tokens of each text, (samples,); images are all of one length, which counts as 1."""
    return (samples != PADDING).sum(1) if samples.ndim == 2 else np.ones(len(samples), dtype=np.int64)


def take_rows(batch: Batch, rows: slice) -> Batch:
    """Some samples of a batch, texts cut to the longest of them; with a mask only where there is padding."""
    targets = {name: batch[name][rows] for name in (TARGETS, VISIBLE) if name in batch}
    if "pixel_values" in batch:
        return {"pixel_values": batch["pixel_values"][rows], **targets}
    ids = batch["input_ids"][rows]
    if "attention_mask" not in batch:
        return {"input_ids": ids, **targets}
    return {**_cut(ids, batch["attention_mask"][rows]), **targets}


def _cut(ids: Tensor, mask: Tensor) -> Batch:
    used = mask.any(0)
    ids, mask = ids[:, used], mask[:, used]
    return {"input_ids": ids} if mask.all() else {"input_ids": ids, "attention_mask": mask.long()}


def real_tokens(batch: Batch) -> Tensor | None:
    """True at real tokens (batch, seq); None where there is no padding."""
    return batch["attention_mask"].bool() if "attention_mask" in batch else None


def count_samples(batch: Batch) -> int:
    """Samples of a batch."""
    return len(next(iter(batch.values())))


def count_tokens(batch: Batch, seq: int) -> int:
    """Real tokens of a batch; `seq`: the tokens of each sample where there is no padding."""
    mask = real_tokens(batch)
    return count_samples(batch) * seq if mask is None else int(mask.sum())
