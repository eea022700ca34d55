"""`last-hidden` for the output of every student layer, each against its place in the teacher; mean over layers.

HomoDistil (arXiv 2302.09632) and TinyBERT (arXiv 1909.10351) compare layers so too. Departures: cosines instead of
squared errors, no projection, and no layer of its own for each: places are spread evenly over the teacher's layers, the
last at the last, whatever the layer map is.
"""

from __future__ import annotations

import torch
from torch import Tensor

from autodistil.models.attention import ModelStates
from autodistil.models.layer_maps import spread_layers
from autodistil.objectives.last_hidden import token_cosine_distance
from autodistil.objectives.term import Mask, Term, TermOptions


def loss(student: ModelStates, teacher: ModelStates, mask: Mask, options: TermOptions) -> Tensor:
    """The mean over layers and real tokens."""
    assert student.hidden, "the forward was run without its hidden states"
    places = spread_layers(len(student.hidden), len(teacher.hidden))
    pairs = zip(student.hidden, places, strict=True)
    return torch.stack([token_cosine_distance(ours, teacher.hidden[place], mask) for ours, place in pairs]).mean()


TERM = Term(loss, needs="hidden", by_dimension=True)
