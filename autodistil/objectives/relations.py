"""Self-attention relations (MiniLMv2, arXiv 2012.15828, equations 2 to 4), which four terms compare.

The vectors A (queries, keys or values) of all heads are joined and split again into `A_r` relation heads of width
d = width / A_r. The relation of a head is R = softmax(A A^T / sqrt(d)). Causal relations, of decoders, relate a token
to itself and those before it: what attention of theirs sees, and all that its states depend on.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor


def relation_head_pair(ours: Tensor, theirs: Tensor, relation_heads: int) -> tuple[Tensor, Tensor]:
    """The relation heads of a student and of its teacher, so that those of one number have the same meaning.

    The paper leaves open which dimensions a relation head has. Here head r has those that leave r when divided by A_r,
    so the student's, which are the teacher's leading ones, are a share of the teacher's in every head, whatever the
    width; of contiguous blocks, students of different widths would be taught different relations by the same weights.
    A score A A^T is a sum over the dimensions of a head, so that of a share of them estimates the teacher's when it is
    divided by the share: the student's states are scaled by (teacher width / width)^(1/4), which does it after the
    scores of both were divided by the roots of their own d.

    Args:
        ours: the student's queries, keys or values, (batch, heads, seq, head_size).
        theirs: the teacher's.
        relation_heads: divides both widths; no dimension is ever dropped.

    Returns:
        (batch, relation_heads, seq, width / relation_heads) each.
    """
    return student_relation_heads(ours, theirs, relation_heads), split_relation_heads(theirs, relation_heads)


def student_relation_heads(ours: Tensor, theirs: Tensor, relation_heads: int) -> Tensor:
    """The first of a `relation_head_pair`, where the teacher's are known."""
    heads, share = split_relation_heads(ours, relation_heads), _width(ours) / _width(theirs)
    return heads if share == 1 else heads * share**-0.25


def _width(states: Tensor) -> int:
    """Heads times head size."""
    return states.shape[1] * states.shape[3]


def split_relation_heads(states: Tensor, relation_heads: int) -> Tensor:
    """(batch, heads, seq, head_size) -> (batch, relation_heads, seq, heads * head_size / relation_heads)."""
    joined = joined_heads(states)
    assert joined.shape[-1] % relation_heads == 0, f"{relation_heads} relation heads do not divide {joined.shape[-1]}"
    return joined.unflatten(-1, (-1, relation_heads)).permute(0, 3, 1, 2)


def joined_heads(states: Tensor) -> Tensor:
    """(batch, heads, seq, head_size) -> (batch, seq, heads * head_size)."""
    return states.transpose(1, 2).flatten(2)


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
