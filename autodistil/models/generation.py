"""Texts that a decoder writes by sampling, token by token, with a cache of keys and values."""

from __future__ import annotations

import torch
from torch import Tensor
from transformers import DynamicCache, PreTrainedModel

PROMPT_SHARE = 0.25
"""Of a training sequence, what a model goes on from where it writes the rest."""


@torch.no_grad()
def rewritten(model: PreTrainedModel, head: Tensor, texts: Tensor, generator: torch.Generator) -> Tensor:
    """Texts with the first tokens that they have, one at least, and the rest as the model goes on from these.

    Every token is a draw from the model's distribution at temperature 1: text of the model, not its best text. An end
    of text that it draws is a token like others, as in text that is packed.

    Args:
        model: the decoder without its head, in eval mode.
        head: its head, (vocabulary, hidden).
        texts: ids (texts, tokens) without padding.
        generator: decides the draws, on the model's device.

    Returns:
        Ids (texts, tokens).
    """
    kept = max(1, int(texts.shape[1] * PROMPT_SHARE))
    written, cache = [texts[:, :kept]], DynamicCache()
    for _ in range(texts.shape[1] - kept):
        states = model(input_ids=written[-1], past_key_values=cache, use_cache=True).last_hidden_state
        probabilities = (states[:, -1] @ head.T).float().softmax(-1)
        written.append(torch.multinomial(probabilities, 1, generator=generator))
    return torch.cat(written, 1)
