"""KL of in-batch similarities, the relational view of sentences (RKD, arXiv 1904.05068; SEED, arXiv 2101.04731).

For each text, p = softmax over the other texts of cosine / temperature; the mean over texts of KL(p_teacher ||
p_student). Any student width will do. It is zero for a single text. Texts of a batch are not independent in it.
"""

from __future__ import annotations

from torch import Tensor
from torch.nn.functional import normalize

from autodistil.models.attention import ModelStates
from autodistil.objectives.term import Block, Mask, Term, TermOptions, batch_embeddings_of, embeddings_of, of_block

TEMPERATURE = 0.05
"""The scale at which sentence encoders are trained (SimCSE, arXiv 2104.08821)."""


def loss(student: ModelStates, teacher: ModelStates, mask: Mask, options: TermOptions) -> Tensor:
    """The mean over the texts of the step's batch, those of other micro-batches and workers included."""
    ours, theirs = (batch_embeddings_of(states, mask, options) for states in (student, teacher))
    return divergences(ours, theirs).mean()


def texts(block: Block, options: TermOptions) -> Tensor:
    """The row of each text of a block."""
    return divergences(*of_block(embeddings_of, block, options))


def divergences(ours: Tensor, theirs: Tensor) -> Tensor:
    """KL of each text's distribution over the others, (texts,), of vectors (texts, dim) of either width."""
    log_ours, log_theirs = _log_similarities(ours), _log_similarities(theirs)
    return (log_theirs.exp() * (log_theirs - log_ours)).sum(-1)


def _log_similarities(embeddings: Tensor) -> Tensor:
    """Log distribution over the other texts, (texts, texts - 1)."""
    unit, n = normalize(embeddings, dim=-1), len(embeddings)
    # Without the diagonal: behind its first entry, each row of n + 1 ends with one of it.
    others = (unit @ unit.T).flatten()[1:].view(n - 1, n + 1)[:, :-1].reshape(n, n - 1)
    return (others / TEMPERATURE).log_softmax(-1)


TERM = Term(loss, texts, mean_over="batch", needs="output")
