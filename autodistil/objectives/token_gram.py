"""Squared differences of the cosines among the tokens of a text, or the patches of an image: their Gram matrix.

DINOv3 holds patches to those of an earlier self so (Gram anchoring, Siméoni et al. 2025, arXiv 2508.10104, section 4);
Tung & Mori 2019 (arXiv 1907.09682) compare texts of a batch so. Any student width will do. Of last hidden states.
"""

from __future__ import annotations

from torch import Tensor
from torch.nn.functional import normalize

from autodistil.models.attention import ModelStates
from autodistil.objectives.term import Mask, Term, TermOptions, precise


def loss(student: ModelStates, teacher: ModelStates, mask: Mask, options: TermOptions) -> Tensor:
    """The mean over real tokens of the mean over the text's tokens."""
    squares = (token_cosines(student) - token_cosines(teacher)).square()
    if mask is None:
        return squares.mean()
    means = (squares * mask[:, None]).sum(-1) / mask.sum(-1, keepdim=True)
    return (means * mask).sum() / mask.sum()


def token_cosines(states: ModelStates) -> Tensor:
    """Of each token of a text with each, (batch, seq, seq) in fp32."""
    assert states.output is not None, "the forward was run without its output"
    unit = normalize(precise(states.output), dim=-1)
    return unit @ unit.mT


TERM = Term(loss, needs="output")
