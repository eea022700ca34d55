"""Every layer's states as an embedding of their own: a student that may be left after any of its layers.

Of layer i of L the distance 1 - cosine of what is pooled from its states and the teacher's embedding, or the output
teacher's; the mean over layers with weights i / L, in which the early ones, which can do least, count least
(multi-exit self-distillation, Phuong & Lampert 2019; Zhang et al. 2019, arXiv 1905.08094). The whole student is the
last exit. It holds where norms come after blocks, so that a layer's states are the output of the model cut after it.
"""

from __future__ import annotations

from dataclasses import replace

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
    theirs, number = outputs_of(teacher, mask, options), len(student.hidden)
    weighted = []
    for depth, layer in enumerate(student.hidden, start=1):
        ours = outputs_of(replace(student, output=layer), mask, options)
        weighted.append(depth * (1 - cosine_similarity(ours, theirs[:, : ours.shape[1]], dim=-1)))
    return torch.stack(weighted).sum(0) / (number * (number + 1) / 2)


TERM = Term(loss, texts, mean_over="texts", needs="hidden", by_dimension=True, exits=True)
