"""A scorer of pairs without labels: cosines label a cross-encoder, the cross-encoder labels the bi-encoder, in turn.

Trans-Encoder (Liu et al. 2022, arXiv 2109.13059): both are the same network, read as one text of two or as two texts.
Three cycles, the last of which ends with the cross-encoder, which is what comes out. Labels only choose epoch and
learning rate. Departure: scores are standardised and learnt by squared error both ways.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import cosine_similarity, mse_loss
from transformers import PreTrainedModel

from autodistil.models.hf_folder import EvaluatedModel
from autodistil.models.pooling import POOLINGS, read_pooling
from autodistil.tasks.adapt.method import PAIRS, SCORES, Answers, Method, supervised
from autodistil.tasks.adapt.preparation import Preparation
from autodistil.tasks.batching import TokenizedRows, sorted_batches

CYCLES = 3
EPOCHS = 2
"""Of each training of the bi-encoder."""


def loss(answers: Answers) -> Tensor:
    """Squared error to what the bi-encoder says."""
    return supervised(answers) if answers.told is None else (answers.logits - answers.told).square()[:, 0]


def prepare(preparation: Preparation) -> Tensor:
    """Two cycles, and what the bi-encoder then says of each pair, standardised, (rows, 1)."""
    model, tokenizer = preparation.model, preparation.model.tokenizer()
    pooling = read_pooling(model.folder) or "mean"
    assert preparation.text_b is not None
    texts = [*preparation.text_a, *preparation.text_b]
    pairs = _Pairs(TokenizedRows.of(tokenizer, texts, None, preparation.length), pooling, preparation)
    for _ in range(CYCLES - 1):
        network = model.encoder(preparation.device)
        said = pairs.cosines(network)
        taught = preparation.fitted(model, _standardised(said)).answers[:, 0]
        taught = taught * said.std() + said.mean()  # as cosines again
        pairs.learn(network, taught)
        preparation.leave(network)
        model = EvaluatedModel.open(str(preparation.home))
    return _standardised(pairs.cosines(model.encoder(preparation.device)))


def _standardised(scores: Tensor) -> Tensor:
    return ((scores - scores.mean()) / scores.std().clamp(min=1e-6))[:, None]


class _Pairs:
    """First and second texts, and their cosines by a network."""

    def __init__(self, rows: TokenizedRows, pooling: str, preparation: Preparation) -> None:
        self.rows, self.pool, self.preparation = rows, POOLINGS[pooling], preparation
        self.count = len(preparation.text_a)
        self.lengths = np.maximum(rows.lengths[: self.count], rows.lengths[self.count :])

    def cosine(self, network: PreTrainedModel, pairs: np.ndarray) -> Tensor:
        """Of pairs by number, (pairs,)."""
        batch = self.rows.batch(np.concatenate([pairs, self.count + pairs]), self.preparation.device)
        embedded = self.pool(network(**batch).last_hidden_state, batch["attention_mask"])
        first, second = embedded.chunk(2)
        return cosine_similarity(first, second, dim=-1)

    @torch.no_grad()
    def cosines(self, network: PreTrainedModel) -> Tensor:
        """Of all pairs, (pairs,)."""
        found = torch.empty(self.count)
        for batch in sorted_batches(self.lengths, self.preparation.batch_size):
            found[batch] = self.cosine(network, batch).cpu()
        return found

    def learn(self, network: PreTrainedModel, scores: Tensor) -> None:
        """Train a network to have such cosines."""

        def loss_of(batch: np.ndarray, progress: float) -> Tensor:
            return mse_loss(self.cosine(network, batch), scores[batch].to(self.preparation.device))

        self.preparation.train(network, self.lengths, loss_of, EPOCHS)


TRANS_ENCODER = Method(loss, only=frozenset({SCORES, PAIRS}), prepare=prepare)
