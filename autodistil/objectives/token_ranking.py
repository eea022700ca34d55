"""Whether a student orders the tokens of a text, or the patches of an image, by nearness as the teacher does.

For each token t, the others k in the order of the teacher's cosine with t, k_1 the nearest; with c the student's

    mean over places i and strides 2^j of max(0, c(t, k_{i + 2^j}) - c(t, k_i))

which is 0 where the order is the teacher's, whatever the cosines are. Pairs at strides that are powers of two stand for
all pairs, so it costs seq^2 log seq. CoTAP ranks patches by a loss; of its own formula no text was found. NeCo (Pariza
et al. 2025, arXiv 2408.11054) compares such orders by differentiable sorting; the hinge of pairs is ranking's oldest
loss (Herbrich et al. 2000). Any student width will do. Of last hidden states.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from autodistil.models.attention import ModelStates
from autodistil.objectives.term import Mask, Term, TermOptions
from autodistil.objectives.token_gram import token_cosines


def loss(student: ModelStates, teacher: ModelStates, mask: Mask, options: TermOptions) -> Tensor:
    """The mean over real tokens of the mean over the text's pairs; 0 for a single token."""
    ours, theirs = token_cosines(student), token_cosines(teacher)
    real = ours.new_ones(ours.shape[:2], dtype=torch.bool) if mask is None else mask
    order = theirs.masked_fill(~real[:, None], -math.inf).argsort(dim=-1, descending=True, stable=True)
    ranked, there = ours.gather(-1, order), real[:, None].expand_as(order).gather(-1, order)
    wrong, pairs = ours.new_zeros(real.shape), ours.new_zeros(real.shape)
    for stride in _powers_of_two(below=ours.shape[-1]):
        pair = there[..., stride:]  # padding comes last, so the nearer one of a pair is there too
        wrong = wrong + ((ranked[..., stride:] - ranked[..., :-stride]).relu() * pair).sum(-1)
        pairs = pairs + pair.sum(-1)
    return ((wrong / pairs.clamp(min=1)) * real).sum() / real.sum()


def _powers_of_two(below: int) -> list[int]:
    return [2**j for j in range((below - 1).bit_length())]


TERM = Term(loss, needs="output")
