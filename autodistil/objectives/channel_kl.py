"""Channel-wise distillation (CWD, Shu et al. 2021, arXiv 2011.13256): where in a text or image each channel is high.

A channel's values over the tokens of a text are made a distribution by a softmax; the mean over channels and texts of
KL(teacher || student). Departures: temperature 1, states scaled to unit variance a token, which the norm of a model
nearly does, and no projection: a narrower student is compared with the teacher's leading dimensions. Of last hidden
states.
"""

from __future__ import annotations

import math

from torch import Tensor

from autodistil.models.attention import ModelStates
from autodistil.objectives.term import Mask, Term, TermOptions, token_states


def loss(student: ModelStates, teacher: ModelStates, mask: Mask, options: TermOptions) -> Tensor:
    """The mean over texts and the student's channels."""
    ours, theirs = (_log_places(states, mask) for states in token_states(student, teacher))
    return (theirs.exp() * (theirs - ours)).sum(1).mean()


def _log_places(states: Tensor, mask: Mask) -> Tensor:
    """Log distribution of each channel over the tokens, (batch, seq, width); at padding hardly any."""
    states = states * math.sqrt(states.shape[-1]) / states.norm(dim=-1, keepdim=True).clamp(min=1e-12)
    return (states if mask is None else states.masked_fill(~mask[..., None], -1e4)).log_softmax(1)


TERM = Term(loss, mean_over="texts", needs="output", by_dimension=True)
