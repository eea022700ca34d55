"""`last-hidden` of every student layer against the teacher layer it started from, mean over layers.

HomoDistil (arXiv 2302.09632) and TinyBERT (arXiv 1909.10351) compare layers so too. Departures: cosines instead of
squared errors and no projection. Of other targets, an assistant or the largest student in place, it is the layer that
lies nearest in depth. Where norms come before blocks, the last states are those behind the final one.
"""

from __future__ import annotations

import torch
from torch import Tensor

from autodistil.models.attention import ModelStates
from autodistil.objectives.last_hidden import token_cosine_distance
from autodistil.objectives.term import Mask, Term, TermOptions


def loss(student: ModelStates, teacher: ModelStates, mask: Mask, options: TermOptions) -> Tensor:
    """The mean over layers and real tokens."""
    assert student.hidden, "the forward was run without its hidden states"
    places = nearest(student.depths, teacher.depths)
    pairs = zip(student.hidden, places, strict=True)
    return torch.stack([token_cosine_distance(ours, teacher.hidden[place], mask) for ours, place in pairs]).mean()


def nearest(depths: tuple[float, ...], others: tuple[float, ...]) -> list[int]:
    """Which of the others is nearest to each depth, the first of equally near ones."""
    return [min(range(len(others)), key=lambda place: abs(others[place] - depth)) for depth in depths]


TERM = Term(loss, needs="hidden", by_dimension=True)
