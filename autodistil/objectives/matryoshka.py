"""Embeddings that are useful when cut to their leading dimensions (Matryoshka, Kusupati et al. 2022, arXiv 2205.13147).

Of each cut the KL of in-batch similarities of `embedding_similarity`, from the teacher's whole vectors to the student's
leading dimensions; the mean over cuts, which the paper weighs alike. Of a vector that is narrower than a cut, all. With
an output teacher both are vectors of its space.
"""

from __future__ import annotations

import torch
from torch import Tensor

from autodistil.models.attention import ModelStates
from autodistil.objectives.embedding_similarity import divergences
from autodistil.objectives.term import Block, Mask, Term, TermOptions, batch_outputs_of, of_block, outputs_of


def loss(student: ModelStates, teacher: ModelStates, mask: Mask, options: TermOptions) -> Tensor:
    """The mean over cuts and over the texts of the step's batch, those of other micro-batches and workers included."""
    ours, theirs = (batch_outputs_of(states, mask, options) for states in (student, teacher))
    return _cut(ours, theirs, options).mean()


def texts(block: Block, options: TermOptions) -> Tensor:
    """The row of each text of a block, the mean over cuts."""
    return _cut(*of_block(outputs_of, block, options), options)


def _cut(ours: Tensor, theirs: Tensor, options: TermOptions) -> Tensor:
    return torch.stack([divergences(ours[:, :cut], theirs) for cut in options.cuts]).mean(0)


TERM = Term(loss, texts, mean_over="batch", needs="output", cuts=True)
