"""Text as a student with a pruned vocabulary reads it, brought back to the teacher's tokens; to train and to score.

The student reads the pieces of each dropped token, so its sequences are longer than the teacher's. Its states at the
pieces of one token are averaged, and so compare with the teacher's state at that token. Without a dropped token that is
the identity, and the loss is what it would be with the whole vocabulary, to the bit.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from autodistil.data.batch import Batch, real_tokens
from autodistil.models.attention import AttentionStates, ModelStates

Spellings = Mapping[int, Sequence[int]]
"""Dropped token -> the kept tokens that stand for it, in the teacher's numbering."""


@dataclass(frozen=True)
class Reading:
    """A batch of pieces, and how they make up the tokens."""

    batch: Batch
    """Pieces (batch, pieces), padded on the right, in the teacher's numbering."""
    means: Tensor
    """Rows that average the pieces of a token, (batch, tokens, pieces)."""

    def of_tokens(self, states: ModelStates) -> ModelStates:
        """States at the pieces -> states at the tokens."""
        per_head = self.means[:, None]
        attention = AttentionStates(*(per_head.to(part.dtype) @ part for part in states.attention))
        output = None if states.output is None else self.means.to(states.output.dtype) @ states.output
        hidden = tuple(self.means.to(layer.dtype) @ layer for layer in states.hidden)
        return replace(states, attention=attention, output=output, hidden=hidden)


def read(batch: Batch, spellings: Spellings, padding: int) -> Reading:
    """Spell a batch of tokens (batch, tokens), padded on the right if at all."""
    tokens, mask = batch["input_ids"], real_tokens(batch)
    mask = torch.ones_like(tokens, dtype=torch.bool) if mask is None else mask
    rows = [row[real].tolist() for row, real in zip(tokens, mask, strict=True)]
    spelled = [[spellings.get(token, (token,)) for token in row] for row in rows]
    pieces = [torch.tensor([piece for parts in row for piece in parts], dtype=torch.long) for row in spelled]
    sizes = torch.tensor([len(row) for row in pieces])
    width = int(sizes.max())
    ids = pad_sequence(pieces, batch_first=True, padding_value=padding)
    means = torch.zeros(len(pieces), tokens.shape[1], width)
    for i, row in enumerate(spelled):
        owners = torch.repeat_interleave(torch.tensor([len(parts) for parts in row], dtype=torch.long))
        means[i, owners, torch.arange(len(owners))] = 1.0
    means /= means.sum(-1, keepdim=True).clamp(min=1)  # padding has no pieces
    padded = (torch.arange(width) < sizes[:, None]).long()
    inputs = {"input_ids": ids, "attention_mask": padded} if int(padded.min()) == 0 else {"input_ids": ids}
    return Reading({name: value.to(tokens.device) for name, value in inputs.items()}, means.to(tokens.device))


def fitting_length(texts: np.ndarray, spellings: Spellings, limit: int) -> int:
    """How many leading tokens of each text (texts, tokens) can be spelled in `limit` pieces, in the longest of them."""
    sizes = np.ones_like(texts)
    for token in set(np.unique(texts).tolist()) & spellings.keys():
        sizes[texts == token] = len(spellings[token])
    return int((sizes.cumsum(1).max(0) <= limit).sum())
