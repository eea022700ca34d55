"""Masked language modelling on the task's text before its labels, twice: the second time near to the first.

Self-distillation for further pre-training (Lee et al. 2023, arXiv 2210.02871): a copy is trained further; then the
student is, from where it started, with ||h - sg h_T||^2 to the copy's hidden states beside. Fifteen of a hundred tokens
are masked, as BERT's are. The head of words is new, and tied to the word embeddings.
"""

from __future__ import annotations

import copy

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, gelu, mse_loss
from transformers import DataCollatorForLanguageModeling, PreTrainedModel, PreTrainedTokenizerBase

from autodistil.errors import TeacherError
from autodistil.tasks.adapt.method import TEXTS, Method, supervised
from autodistil.tasks.adapt.preparation import Preparation
from autodistil.tasks.batching import TokenizedRows

EPOCHS = 3
"""Of each of the two trainings."""
MASKED = 0.15


class WordHead(nn.Module):
    """Logits of words from hidden states: a dense layer, GELU, norm and the word embeddings (Devlin et al. 2019)."""

    def __init__(self, hidden: int, words: nn.Parameter) -> None:
        super().__init__()
        self.dense, self.norm = nn.Linear(hidden, words.shape[1]), nn.LayerNorm(words.shape[1])
        self.words, self.bias = words, nn.Parameter(torch.zeros(len(words)))

    def forward(self, hidden: Tensor) -> Tensor:
        """Logits (tokens, words) of hidden states (tokens, hidden)."""
        logits: Tensor = self.norm(gelu(self.dense(hidden))) @ self.words.T + self.bias
        return logits


def prepare(preparation: Preparation) -> None:
    """Leave the further-trained student.

    Raises:
        TeacherError: its tokenizer has no token that masks.
        DivergedError: a loss is not finite.
    """
    tokenizer = preparation.model.tokenizer()
    if tokenizer.mask_token_id is None:
        raise TeacherError("objective 'further-pretrain' needs a tokenizer with a mask token; give another --objective")
    start = preparation.model.encoder(preparation.device)
    teacher = _trained(copy.deepcopy(start), tokenizer, preparation, None)
    preparation.leave(_trained(start, tokenizer, preparation, teacher.eval()))


def _trained(
    network: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    preparation: Preparation,
    teacher: PreTrainedModel | None,
) -> PreTrainedModel:
    """The network, further trained by masked words, and near to a teacher if there is one."""
    torch.manual_seed(preparation.seed)
    rows = TokenizedRows.of(tokenizer, preparation.text_a, preparation.text_b, preparation.length)
    head = WordHead(network.config.hidden_size, network.get_input_embeddings().weight)  # type: ignore[arg-type]
    both = nn.ModuleList([network, head]).to(preparation.device)
    collator = DataCollatorForLanguageModeling(tokenizer, mlm_probability=MASKED)
    special = torch.tensor(tokenizer.all_special_ids)

    def loss(batch: np.ndarray, progress: float) -> Tensor:
        inputs = rows.batch(batch, preparation.device)
        ids = inputs["input_ids"].cpu()
        ids, labels = (
            part.to(preparation.device) for part in collator.torch_mask_tokens(ids, torch.isin(ids, special))
        )
        inputs = {**inputs, "input_ids": ids}
        hidden, masked = network(**inputs).last_hidden_state, labels >= 0
        words = cross_entropy(head(hidden[masked]), labels[masked], reduction="sum") / masked.sum().clamp(min=1)
        if teacher is None:
            return words
        with torch.no_grad():
            theirs = teacher(**inputs).last_hidden_state
        real = inputs["attention_mask"].bool()
        return words + mse_loss(hidden[real], theirs[real])

    preparation.train(both, rows.lengths, loss, EPOCHS)
    return network


FURTHER_PRETRAIN = Method(supervised, only=frozenset({TEXTS}), prepare=prepare)
