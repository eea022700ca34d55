"""Mean squared error of the raw scaled scores A A^T / sqrt(d), without softmax: what AutoDistil's published code does.

Departure: pairs with a padding token are left out (in the code its mask cancels and padding is trained on). Scores are
symmetric, so those of decoders are the same.
"""

from __future__ import annotations

from torch import Tensor
from torch.nn.functional import mse_loss

from autodistil.models.attention import ModelStates
from autodistil.objectives.relations import relation_head_pair, relation_scores
from autodistil.objectives.term import Mask, Term, TermOptions, precise


def loss(student: ModelStates, teacher: ModelStates, mask: Mask, options: TermOptions) -> Tensor:
    """The mean over relation heads and pairs of real tokens of one text, summed over queries, keys and values."""
    total = student.attention.query.new_zeros(())
    for states, of_teacher in zip(student.attention, teacher.attention, strict=True):
        heads = relation_head_pair(precise(states), precise(of_teacher), options.relation_heads)
        ours, theirs = (relation_scores(head) for head in heads)
        if mask is None:
            total = total + mse_loss(ours, theirs)
            continue
        real = (mask[:, None, :, None] & mask[:, None, None, :]).to(ours.dtype)
        total = total + ((ours - theirs).square() * real).sum() / (real.sum() * options.relation_heads)
    return total


TERM = Term(loss, mean_over="pairs")
