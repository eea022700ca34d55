"""Squared error of last hidden states where teacher and student look: ACAM-KD (Lan & Tian 2025, arXiv 2503.06307).

The teacher's tokens attend to the student's, F = softmax(T S^T / sqrt(d)) S, so that what is fused changes as the
student learns. Tokens and channels are weighed by how large it is there, and no gradient goes through the weights:

    m = softmax over tokens, c = softmax over channels of the mean |F| / 0.5;   loss = sum m_i c_k (T_ik - S_ik)^2 d / 2

Departures: the paper's selection units and the projections of its attention are learnt, beside the labels of a task,
and several masks are kept apart by a loss of their own; here there are no labels, and the distillation loss alone would
teach a mask to leave out what is hard. So the weights are those of FGD (Yang et al. 2022, arXiv 2111.11837, eq. 4-5),
of the fused states. These have unit length a token, so with even weights the loss is `last-hidden`'s, and a narrower
student is compared with the teacher's leading dimensions.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn.functional import normalize

from autodistil.models.attention import ModelStates
from autodistil.objectives.term import Mask, Term, TermOptions, token_states

TEMPERATURE = 0.5
"""Of the weights, FGD's."""


def loss(student: ModelStates, teacher: ModelStates, mask: Mask, options: TermOptions) -> Tensor:
    """The mean over texts."""
    ours, theirs = (normalize(states, dim=-1) for states in token_states(student, teacher))
    tokens, channels = weights(ours.detach(), theirs, mask)
    return torch.einsum("bi,bk,bik->b", tokens, channels, (theirs - ours).square()).mean() * ours.shape[-1] / 2


def weights(ours: Tensor, theirs: Tensor, mask: Mask) -> tuple[Tensor, Tensor]:
    """How much each token (batch, seq) and each channel (batch, width) counts, both with sum 1 for each text.

    Args:
        ours: the student's states (batch, seq, width), each token of length 1.
        theirs: the teacher's, likewise.
        mask: their real tokens.
    """
    width = ours.shape[-1]
    real = ours.new_ones(ours.shape[:2], dtype=torch.bool) if mask is None else mask
    scores = (theirs @ ours.mT * math.sqrt(width)).masked_fill(~real[:, None], -math.inf)
    fused = (scores.softmax(-1) @ ours).abs() * math.sqrt(width)
    tokens = (fused.mean(-1) / TEMPERATURE).masked_fill(~real, -math.inf).softmax(-1)
    channels = (fused * real[..., None]).sum(1) / real.sum(1, keepdim=True)
    return tokens, (channels / TEMPERATURE).softmax(-1)


TERM = Term(loss, mean_over="texts", needs="output", by_dimension=True)
