"""A decoder's cache of keys and values as inputs and outputs of a file, in the layout of Hugging Face's Optimum.

Such a file reads tokens that go on from a past: `input_ids` and `position_ids` (batch, sequence), `attention_mask`
(batch, past + sequence) and, of each layer i that attends, `past_key_values.i.key` and `.value` (batch, heads of keys,
past, head size). It gives `logits` (batch, sequence, vocabulary) and `present.i.key` and `.value`, the past with these
tokens behind it. With a past of no tokens it scores whole texts. A layer with a window is handed all of the past and
hides what its window does not reach.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from autodistil.formats.inputs import Axes, Inputs, inputs_of

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel

PAST, PRESENT = "past_key_values", "present"
Heads = Mapping[str, tuple[int, int]]
"""Name of an input of the past -> heads of keys and head size, in the order of the outputs behind the logits."""

_TOKENS = {name: {0: "batch", 1: "sequence"} for name in ("input_ids", "position_ids")}
_MASK = {"attention_mask": {0: "batch", 1: "past + sequence"}}
_KEYS = {0: "batch", 2: "past"}


def whole(inputs: Inputs, heads: Heads) -> Inputs:
    """Whole texts for a file with a cache: with their positions and a past of no tokens."""
    ids = inputs["input_ids"]
    positions = np.tile(np.arange(ids.shape[1]), (len(ids), 1))
    empty = {name: np.zeros((len(ids), of, 0, size), np.float32) for name, (of, size) in heads.items()}
    return {**inputs, "position_ids": positions, **empty}


def token_by_token(
    run: Callable[[Inputs], Sequence[NDArray[np.float32]]], inputs: Inputs, heads: Heads
) -> NDArray[np.float32]:
    """Logits (batch, sequence, vocabulary) of whole texts that are read through the cache.

    The first half of the tokens is read at once, the others one at a time, as they are when text is written.

    Args:
        run: all inputs of the file -> all of its outputs.
        inputs: `input_ids` and `attention_mask` of whole texts.
        heads: of the file's past.
    """
    given = whole(inputs, heads)
    past = {name: given[name] for name in heads}
    length = inputs["input_ids"].shape[1]
    found = []
    for begin, end in pairwise([0, *range(max(1, length // 2), length + 1)]):
        some = {name: given[name][:, begin:end] for name in _TOKENS}
        logits, *present = run({**some, "attention_mask": given["attention_mask"][:, :end], **past})
        past = dict(zip(heads, present, strict=True))
        found.append(logits)
    return np.concatenate(found, 1)


@dataclass(frozen=True)
class CachedDecoder:
    """What is traced of a decoder."""

    module: torch.nn.Module
    """Tensors in the order of `example` -> logits, and the keys and values of each layer in turns."""
    example: Mapping[str, torch.Tensor]
    axes: Axes
    outputs: Sequence[str]


def cached_decoder(model: PreTrainedModel) -> CachedDecoder:
    """A decoder whose cache is among its inputs and outputs.

    Args:
        model: a decoder with its head, on the CPU, in eval mode.
    """
    import torch  # the runner for phones holds this file too
    from transformers import DynamicCache

    class Module(torch.nn.Module):
        def __init__(self, layers: Sequence[int]) -> None:
            super().__init__()
            self.decoder, self.layers = model, layers

        def forward(self, *values: torch.Tensor) -> tuple[torch.Tensor, ...]:
            ids, mask, positions, *past = values
            cache: Any = DynamicCache()  # told no windows, it keeps all tokens of every layer
            for layer, keys, value in zip(self.layers, past[::2], past[1::2], strict=True):
                cache.update(keys, value, layer)
            answer: Any = self.decoder(
                input_ids=ids, position_ids=positions, attention_mask=mask, past_key_values=cache, use_cache=True
            )
            present = [values for layer in self.layers for values in _of_layer(cache, layer)]
            return answer.logits, *present

    tokens = torch.from_numpy(inputs_of(model).random(2, 12)["input_ids"])
    cache: Any = DynamicCache()
    with torch.no_grad():
        model(input_ids=tokens[:, :4], past_key_values=cache, use_cache=True)
    layers = [layer for layer, of_layer in enumerate(cache.layers) if of_layer.get_seq_length()]
    names = [f"{number}.{what}" for number in range(len(layers)) for what in ("key", "value")]
    past = [values for layer in layers for values in _of_layer(cache, layer)]
    return CachedDecoder(
        Module(layers).eval(),
        {
            "input_ids": tokens[:, 4:],
            "attention_mask": torch.ones_like(tokens),
            "position_ids": torch.arange(4, 12).expand(2, -1),
            **{f"{PAST}.{name}": values for name, values in zip(names, past, strict=True)},
        },
        {**_TOKENS, **_MASK, **{f"{PAST}.{name}": _KEYS for name in names}},
        ["logits", *(f"{PRESENT}.{name}" for name in names)],
    )


def _of_layer(cache: Any, layer: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Keys and values (batch, heads, tokens, head size)."""
    return cache.layers[layer].keys, cache.layers[layer].values
