"""Self-attention relations (MiniLMv2, arXiv 2012.15828, equations 2 to 4), which four terms compare.

The vectors A (queries, keys or values) of all heads are joined and split again into `A_r` relation heads of width
d = width / A_r. The relation of a head is R = softmax(A A^T / sqrt(d)). Causal relations, of decoders, relate a token
to itself and those before it: what attention of theirs sees, and all that its states depend on.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor


def split_relation_heads(states: Tensor, relation_heads: int) -> Tensor:
    """(batch, heads, seq, head_size) -> (batch, relation_heads, seq, heads * head_size / relation_heads).

    The width must be a multiple of `relation_heads`; no dimension is ever dropped.
    """
    batch, heads, seq, head_size = states.shape
    width = heads * head_size
    assert width % relation_heads == 0, f"{relation_heads} relation heads do not divide width {width}"
    joined = states.transpose(1, 2).reshape(batch, seq, width)
    return joined.view(batch, seq, relation_heads, width // relation_heads).transpose(1, 2)


def relation_scores(states: Tensor) -> Tensor:
    """Scaled scores A A^T / sqrt(d): (..., seq, d) -> (..., seq, seq)."""
    return states @ states.transpose(-1, -2) / math.sqrt(states.shape[-1])


def relation_log_softmax(states: Tensor, mask: Tensor | None, causal: bool = False) -> Tensor:
    """Log relations (batch, heads, seq, seq) over real keys, none behind a token where `causal`.

    `mask` (batch, seq) is True at real tokens.
    """
    return masked_log_softmax(relation_scores(states), mask, causal)


def masked_log_softmax(scores: Tensor, mask: Tensor | None, causal: bool) -> Tensor:
    """Log softmax of scores (batch, heads, seq, seq) over real keys, none behind a token where `causal`."""
    if mask is not None:
        scores = scores.masked_fill(~mask[:, None, None, :], torch.finfo(scores.dtype).min)
    return (hide_later(scores, 0) if causal else scores).log_softmax(-1)


def hide_later(scores: Tensor, first: int) -> Tensor:
    """Scores (..., rows, columns) of tokens from `first` on, out of reach where a column is a later token.

    Finite, so that it adds 0 and not NaN to a sum with a relation of 0.
    """
    rows, columns = scores.shape[-2:]
    later = torch.ones(rows, columns, dtype=torch.bool, device=scores.device).triu(first + 1)
    return scores.masked_fill(later, torch.finfo(scores.dtype).min)


def row_weights(states: Tensor, mask: Tensor | None) -> Tensor:
    """Weight of each row (batch, 1, seq) such that the weighted sum is the mean over heads and real tokens."""
    batch, heads, seq, _ = states.shape
    if mask is None:
        return states.new_full((batch, 1, seq), 1.0 / (heads * batch * seq))
    return mask[:, None, :].to(states.dtype) / (heads * mask.sum())
