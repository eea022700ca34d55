"""1 - cosine of the student's embedding and the leading dimensions of the teacher's, mean over texts.

Departure from distilling embeddings by a projection (Sentence-BERT's, arXiv 2004.09813): a student's residual
dimensions are the teacher's leading ones, so none is needed.
"""

from __future__ import annotations

from torch import Tensor
from torch.nn.functional import cosine_similarity

from autodistil.models.attention import ModelStates
from autodistil.objectives.term import Mask, Term, TermOptions, embeddings_of


def loss(student: ModelStates, teacher: ModelStates, mask: Mask, options: TermOptions) -> Tensor:
    """The mean over texts."""
    ours, theirs = (embeddings_of(states, mask, options) for states in (student, teacher))
    return 1 - cosine_similarity(ours, theirs[:, : ours.shape[1]], dim=-1).mean()


TERM = Term(loss, mean_over="texts", needs="output", by_dimension=True)
