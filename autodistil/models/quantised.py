"""Weights of few bits as a student's forward has them: rounded, while gradients reach the floats behind them.

The straight-through estimator (Bengio et al. 2013, arXiv 1308.3432; quantised distillation, Polino et al. 2018, arXiv
1802.05668, section 3): rounding counts as the identity in the backward pass. Linear maps have a scale an output, tables
of embeddings one a block (formats/quantise.py), which is what the file that is served holds (formats/onnx_bits.py).
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from autodistil.formats.quantise import EMBEDDING_BLOCK, MIN_ROWS, Bits, bits_of, dequantised, quantised

Quantiser = tuple[int, int | None]
"""Bits of a weight, and how many inputs share a scale (None: all of an output)."""


def quantisers(model: nn.Module, bits: Bits) -> Mapping[str, Quantiser]:
    """Which weights of a model have few bits, by name: those of linear maps and of tables of embeddings."""
    return {
        f"{name}.weight": quantiser
        for name, module in model.named_modules()
        if (quantiser := _quantiser(module, bits)) is not None
    }


def _quantiser(module: nn.Module, bits: Bits) -> Quantiser | None:
    if isinstance(module, nn.Linear) and bits["layers"] is not None:
        return bits["layers"], None
    if isinstance(module, nn.Embedding) and bits["embeddings"] is not None and module.num_embeddings >= MIN_ROWS:
        return bits["embeddings"], EMBEDDING_BLOCK
    return None


class _Rounded(torch.autograd.Function):
    @staticmethod
    def forward(_: Any, weight: Tensor, quantiser: Quantiser) -> Tensor:
        codes, scales = quantised(weight.float(), *quantiser)
        return dequantised(codes, scales, weight.shape[1]).to(weight.dtype)

    @staticmethod
    def backward(_: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        return gradients[0], None


def rounded(weight: Tensor, quantiser: Quantiser) -> Tensor:
    """A matrix (outputs, inputs) of few bits; its gradient is that of the matrix itself."""
    answer: Tensor = _Rounded.apply(weight, quantiser)
    return answer


def compute_rounded(model: PreTrainedModel) -> None:
    """Have an encoder whose config says so compute with rounded weights, whatever training makes of the floats."""
    for name, quantiser in _own_quantisers(model).items():
        module: Any = model.base_model.get_submodule(name.removesuffix(".weight"))
        compute = _linear if isinstance(module, nn.Linear) else _embedding
        module.forward = partial(compute, module, quantiser)


def _linear(module: nn.Linear, quantiser: Quantiser, states: Tensor) -> Tensor:
    return nn.functional.linear(states, rounded(module.weight, quantiser), module.bias)


def _embedding(module: nn.Embedding, quantiser: Quantiser, ids: Tensor) -> Tensor:
    rows = nn.functional.embedding(ids, module.weight, module.padding_idx)
    return rounded(rows.flatten(0, -2), quantiser).view_as(rows)


@torch.no_grad()
def round_weights(model: PreTrainedModel) -> None:
    """Round the weights of an encoder whose config says so."""
    for name, quantiser in _own_quantisers(model).items():
        weight = model.base_model.get_parameter(name)
        weight.copy_(rounded(weight, quantiser))


def _own_quantisers(model: PreTrainedModel) -> Mapping[str, Quantiser]:
    bits = bits_of(model.config)
    return {} if bits is None else quantisers(model.base_model, bits)
