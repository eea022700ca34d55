"""Mean squared error of the softmaxed relations (AutoDistil, arXiv 2201.12507, equation 4).

With R = softmax(A A^T / sqrt(d)) of a relation head (`relations.py`): the sum over A in {Q, K, V} of the mean over
heads and real tokens t of |R_student[t] - R_teacher[t]|^2, squared errors being summed over the keys.
"""

from __future__ import annotations

from torch import Tensor

from autodistil.models.attention import ModelStates
from autodistil.objectives.relations import relation_head_pair, relation_log_softmax, row_weights
from autodistil.objectives.term import Mask, Term, TermOptions, precise


def loss(student: ModelStates, teacher: ModelStates, mask: Mask, options: TermOptions) -> Tensor:
    """The error of Q-Q, K-K and V-V relations, summed over the three."""
    total = student.attention.query.new_zeros(())
    for states, of_teacher in zip(student.attention, teacher.attention, strict=True):
        heads = relation_head_pair(precise(states), precise(of_teacher), options.relation_heads)
        ours, theirs = (relation_log_softmax(head, mask, options.causal).exp() for head in heads)
        total = total + ((ours - theirs).square().sum(-1) * row_weights(ours, mask)).sum()
    return total


TERM = Term(loss)
