"""`last-hidden` at three quarters of the depth instead: what DMAE compares (Bai et al. 2023, arXiv 2208.12256).

Layers of a vision encoder that was trained by reconstruction lose towards its end what makes them good features, so the
one at 3/4 of the teacher's depth teaches, beside it the student's at 3/4 of its own. Departures: a cosine instead of an
absolute error, and no projection.
"""

from __future__ import annotations

from torch import Tensor

from autodistil.models.attention import ModelStates
from autodistil.objectives.last_hidden import token_cosine_distance
from autodistil.objectives.term import Mask, Term, TermOptions


def loss(student: ModelStates, teacher: ModelStates, mask: Mask, options: TermOptions) -> Tensor:
    """The mean over real tokens, or over the tokens of the patches that are read."""
    return token_cosine_distance(_upper(student), _upper(teacher), mask)


def _upper(states: ModelStates) -> Tensor:
    """States behind the layer at 3/4 of the depth, rounded up, (batch, seq, hidden)."""
    assert states.hidden, "the forward was run without its hidden states"
    return states.hidden[-(-3 * len(states.hidden) // 4) - 1]


TERM = Term(loss, needs="hidden", by_dimension=True)
