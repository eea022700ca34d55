"""KL of in-batch similarities in the space of an output teacher; `embedding_similarity` is that in the run's own.

What is near to what, by the output teacher's embeddings and by the student's mapped ones (RKD, arXiv 1904.05068; SEED,
arXiv 2101.04731). It says nothing of where in the space texts lie, so an index of the output teacher needs
`output-cosine` beside it.
"""

from __future__ import annotations

from torch import Tensor

from autodistil.models.attention import ModelStates
from autodistil.objectives.embedding_similarity import divergences
from autodistil.objectives.term import Block, Mask, Term, TermOptions, batch_outputs_of, of_block, outputs_of


def loss(student: ModelStates, teacher: ModelStates, mask: Mask, options: TermOptions) -> Tensor:
    """The mean over the texts of the step's batch, those of other micro-batches and workers included."""
    ours, theirs = (batch_outputs_of(states, mask, options) for states in (student, teacher))
    return divergences(ours, theirs).mean()


def texts(block: Block, options: TermOptions) -> Tensor:
    """The row of each text of a block."""
    return divergences(*of_block(outputs_of, block, options))


TERM = Term(loss, texts, mean_over="batch", needs="output", output_teacher=True)
