"""Models of pairs of texts that are told which token is of which, in formats whose inputs are ids and mask alone."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from inspect import signature
from typing import Any

from torch import Tensor, nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase

TYPES = "token_type_ids"


def takes_types(model: PreTrainedModel) -> bool:
    """Whether a model is told which text of a pair each token belongs to."""
    return TYPES in signature(model.forward).parameters


@contextmanager
def reads_pairs(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> Iterator[None]:
    """While it lasts a model that is given no token types takes what stands behind the first separator as the second.

    So do BERT's tokenizers, whose types are 0 up to the first [SEP] and 1 behind it; an exported graph finds them out
    by itself. Models and tokenizers without types are left as they are.
    """
    separator = tokenizer.sep_token_id
    if separator is None or not takes_types(model) or TYPES not in tokenizer.model_input_names:
        yield
        return

    def add_types(
        _: nn.Module, inputs: tuple[Any, ...], given: dict[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        if given.get(TYPES) is None and "input_ids" in given:
            given = {**given, TYPES: types_of(given["input_ids"], separator)}
        return inputs, given

    hook = model.register_forward_pre_hook(add_types, with_kwargs=True)
    try:
        yield
    finally:
        hook.remove()


def types_of(ids: Tensor, separator: int) -> Tensor:
    """Token types by ids, (batch, seq): 0 up to the first separator, 1 behind it."""
    ends = (ids == separator).long()
    return (ends.cumsum(-1) - ends).clamp(max=1)
