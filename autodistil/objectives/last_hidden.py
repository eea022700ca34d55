"""1 - cosine of last hidden states, mean over real tokens (as one of the terms of DistilBERT, arXiv 1910.01108).

Departure: a narrower student is compared with the teacher's leading dimensions, which its own are.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import cosine_similarity

from autodistil.models.attention import ModelStates
from autodistil.objectives.term import Block, Mask, Term, TermOptions, precise, token_states, tokens_of


def loss(student: ModelStates, teacher: ModelStates, mask: Mask, options: TermOptions) -> Tensor:
    """The mean over real tokens."""
    return token_cosine_distance(*token_states(student, teacher), mask)


def texts(block: Block, options: TermOptions) -> Tensor:
    """The means of each text's own tokens."""
    losses = []
    for student, teacher, mask in block:
        assert student.output is not None, "the forward was run without its output"
        assert teacher.output is not None, "the teacher's forward was run without its output"
        distance = 1 - cosine_similarity(student.output, teacher.output[..., : student.output.shape[-1]], dim=-1)
        losses.append((distance if mask is None else distance * mask).sum(-1) / tokens_of(teacher, mask))
    return torch.cat(losses)


def token_cosine_distance(ours: Tensor, theirs: Tensor, mask: Mask) -> Tensor:
    """The mean over real tokens of states (batch, seq, hidden), the teacher's the wider ones."""
    ours, theirs = precise(ours), precise(theirs)
    distance = 1 - cosine_similarity(ours, theirs[..., : ours.shape[-1]], dim=-1)
    return distance.mean() if mask is None else (distance * mask).sum() / mask.sum()


TERM = Term(loss, texts, needs="output", by_dimension=True)
