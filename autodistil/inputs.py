"""Texts as inputs of a Hugging Face model."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

Batch = Mapping[str, Tensor]
"""`input_ids` (batch, seq) and, where the batch is padded, `attention_mask` (batch, seq)."""

PADDING = -1
"""Fills up the shorter of several texts in an array."""


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


def count_tokens(batch: Batch) -> int:
    """Real tokens of a batch."""
    mask = real_tokens(batch)
    return batch["input_ids"].numel() if mask is None else int(mask.sum())
