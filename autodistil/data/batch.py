"""Texts or images of a corpus as inputs of a Hugging Face model; 'texts' means both wherever it makes no difference."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

Batch = Mapping[str, Tensor]
"""`input_ids` (batch, seq) and, where the batch is padded, `attention_mask` (batch, seq); or `pixel_values`
(batch, channels, height, width)."""

PADDING = -1
"""Fills up the shorter of several texts in an array."""


class Inputs(Protocol):
    """How the arrays that a corpus consists of become inputs of a model."""

    def batch(self, texts: np.ndarray, device: torch.device | str = "cpu") -> Batch:
        """Inputs for some texts, the first dimension of the array."""


@dataclass(frozen=True)
class TokenInputs:
    """Token ids (texts, tokens), `PADDING` after the shorter texts."""

    padding_id: int

    def batch(self, texts: np.ndarray, device: torch.device | str = "cpu") -> Batch:
        """As `as_batch`."""
        return as_batch(texts, self.padding_id, device)


@dataclass(frozen=True)
class PixelInputs:
    """Pixels (images, channels, height, width) of uint8, as an image processor has resized and cropped them."""

    scale: tuple[float, ...]
    shift: tuple[float, ...]
    """By channel: a model sees pixel * scale + shift."""

    def batch(self, texts: np.ndarray, device: torch.device | str = "cpu") -> Batch:
        """What the processor does after resizing."""
        pixels = torch.from_numpy(np.ascontiguousarray(texts)).to(device, torch.float32)
        scale, shift = (pixels.new_tensor(x).view(-1, 1, 1) for x in (self.scale, self.shift))
        return {"pixel_values": pixels * scale + shift}


def lengths(texts: np.ndarray) -> np.ndarray:
    """Tokens of each text, (texts,); images are all of one length, which counts as 1."""
    return (texts != PADDING).sum(1) if texts.ndim == 2 else np.ones(len(texts), dtype=np.int64)


def as_batch(texts: np.ndarray, padding_id: int, device: torch.device | str = "cpu") -> Batch:
    """Inputs for texts (texts, tokens), cut to the longest of them; with a mask only where there is padding.

    Args:
        texts: token ids, `PADDING` after the shorter texts.
        padding_id: what the model sees in its place.
        device: where the inputs go.
    """
    ids = torch.from_numpy(np.ascontiguousarray(texts))
    real = ids != PADDING
    ids, real = ids[:, real.any(0)], real[:, real.any(0)]
    if real.all():
        return {"input_ids": ids.to(device)}
    return {"input_ids": ids.where(real, padding_id).to(device), "attention_mask": real.long().to(device)}


def take_rows(batch: Batch, rows: slice) -> Batch:
    """Some texts of a batch, cut to the longest of them; with a mask only where there is padding."""
    if "pixel_values" in batch:
        return {"pixel_values": batch["pixel_values"][rows]}
    ids = batch["input_ids"][rows]
    if "attention_mask" not in batch:
        return {"input_ids": ids}
    mask = batch["attention_mask"][rows]
    used = mask.any(0)
    ids, mask = ids[:, used], mask[:, used]
    return {"input_ids": ids} if mask.all() else {"input_ids": ids, "attention_mask": mask}


def real_tokens(batch: Batch) -> Tensor | None:
    """True at real tokens (batch, seq); None where there is no padding."""
    return batch["attention_mask"].bool() if "attention_mask" in batch else None


def count_texts(batch: Batch) -> int:
    """Texts of a batch."""
    return len(next(iter(batch.values())))


def count_tokens(batch: Batch, seq: int) -> int:
    """Real tokens of a batch; `seq`: the tokens of each text where there is no padding."""
    mask = real_tokens(batch)
    return count_texts(batch) * seq if mask is None else int(mask.sum())
