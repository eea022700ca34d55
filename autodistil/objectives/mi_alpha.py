"""The bound I_alpha on what the teacher's embeddings tell of the student's (Poole et al. 2019, arXiv 1905.06922).

Distiller (He et al. 2021, arXiv 2109.11105) distils features by it. With the critic f = cosine / temperature of a
student's x and a teacher's y, texts i, k of a batch, and q = 1 for the marginal,

    I = 1 + mean_i log( e^f(x_i, y_i) / a_i ) - mean_i mean_k!=i e^f(x_k, y_i) / a'_i,
    a_i = alpha mean_k e^f(x_k, y_i) + (1 - alpha),   a'_i the same over k != i

so that alpha = 1 is InfoNCE, whose bound ends at the logarithm of the batch. The loss is -I: the teacher's own is not
zero. Departures: no trained critic, and a narrower student is compared with the teacher's leading dimensions.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn.functional import normalize

from autodistil.models.attention import ModelStates
from autodistil.objectives.embedding_similarity import TEMPERATURE
from autodistil.objectives.term import Block, Mask, Term, TermOptions, batch_embeddings_of, embeddings_of, of_block

ALPHA = 0.9


def loss(student: ModelStates, teacher: ModelStates, mask: Mask, options: TermOptions) -> Tensor:
    """The mean over the texts of the step's batch, those of other micro-batches and workers included."""
    ours, theirs = (batch_embeddings_of(states, mask, options) for states in (student, teacher))
    return negative_bounds(ours, theirs).mean()


def texts(block: Block, options: TermOptions) -> Tensor:
    """The part of each text of a block."""
    return negative_bounds(*of_block(embeddings_of, block, options))


def negative_bounds(ours: Tensor, theirs: Tensor) -> Tensor:
    """Each text's part of -I, (texts,), of vectors (texts, dim) and (texts, at least dim); 0 for a single text."""
    n = len(ours)
    critic = normalize(theirs[:, : ours.shape[1]], dim=-1) @ normalize(ours, dim=-1).T / TEMPERATURE  # row i: y_i
    if n == 1:
        return 0 * critic[0]
    own = torch.eye(n, dtype=torch.bool, device=critic.device)
    others = critic.masked_fill(own, -math.inf).logsumexp(-1) - math.log(n - 1)
    joint = critic.diagonal() - _mixed(critic.logsumexp(-1) - math.log(n))
    return (others - _mixed(others)).exp() - joint - 1


def _mixed(log_mean: Tensor) -> Tensor:
    """log(alpha m + 1 - alpha) of log m."""
    return torch.logaddexp(log_mean + math.log(ALPHA), log_mean.new_tensor(math.log(1 - ALPHA)))


TERM = Term(loss, texts, mean_over="batch", needs="output", by_dimension=True, contrastive=True)
