"""1 - cosine of the student's embedding, mapped into the space of an output teacher, and that teacher's.

Twice this is the squared error of embeddings of length 1, by which LEAF distils through a linear head (Vujanic &
Rueckstiess 2025, arXiv 2509.12539). The output teacher may be of any family, tokenizer, width and pooling.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import cosine_similarity

from autodistil.models.attention import ModelStates
from autodistil.objectives.term import Block, Mask, Term, TermOptions, outputs_of


def loss(student: ModelStates, teacher: ModelStates, mask: Mask, options: TermOptions) -> Tensor:
    """The mean over texts."""
    return _distances(student, teacher, mask, options).mean()


def texts(block: Block, options: TermOptions) -> Tensor:
    """That of each text of a block."""
    return torch.cat([_distances(student, teacher, mask, options) for student, teacher, mask in block])


def _distances(student: ModelStates, teacher: ModelStates, mask: Mask, options: TermOptions) -> Tensor:
    return 1 - cosine_similarity(outputs_of(student, mask, options), outputs_of(teacher, mask, options), dim=-1)


TERM = Term(loss, texts, mean_over="texts", needs="output", output_teacher=True)
