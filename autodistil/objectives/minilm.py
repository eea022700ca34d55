"""MiniLM, the first version (arXiv 2002.10957): KL of the attention distributions plus KL of the value relations.

    KL(softmax(Q_t K_t^T / sqrt(d)) || softmax(Q_s K_s^T / sqrt(d))) + KL(R_t || R_s),   R = softmax(V V^T / sqrt(d))

Departure: both are formed on joint relation heads, contiguous blocks of dimensions, so the student need not have the
teacher's head count; with as many relation heads as attention heads on both sides it is the paper's to the letter.
Grouped keys are repeated.
"""

from __future__ import annotations

import math

from torch import Tensor

from autodistil.models.attention import AttentionStates, ModelStates
from autodistil.objectives.relation_kl import relation_kl
from autodistil.objectives.relations import joined_heads, masked_log_softmax, row_weights
from autodistil.objectives.term import Mask, Term, TermOptions, precise


def loss(student: ModelStates, teacher: ModelStates, mask: Mask, options: TermOptions) -> Tensor:
    """The mean over relation heads and real tokens."""
    ours, theirs = (_attention_log_softmax(states.attention, mask, options) for states in (student, teacher))
    divergence = (theirs.exp() * (theirs - ours)).sum(-1)
    attention_loss = (divergence * row_weights(ours, mask)).sum()
    values = (_blocks(x.attention.value, options.relation_heads) for x in (student, teacher))
    return attention_loss + relation_kl(next(values), next(values), mask, causal=options.causal)


def _attention_log_softmax(states: AttentionStates, mask: Mask, options: TermOptions) -> Tensor:
    queries_per_key = states.query.shape[1] // states.key.shape[1]
    keys = states.key.repeat_interleave(queries_per_key, dim=1)
    query, key = (_blocks(precise(x), options.relation_heads) for x in (states.query, keys))
    return masked_log_softmax(query @ key.transpose(-1, -2) / math.sqrt(query.shape[-1]), mask, options.causal)


def _blocks(states: Tensor, relation_heads: int) -> Tensor:
    """(batch, heads, seq, head_size) -> (batch, relation_heads, seq, heads * head_size / relation_heads)."""
    return joined_heads(states).unflatten(-1, (relation_heads, -1)).transpose(1, 2)


TERM = Term(loss)
