"""Weights of few bits as a student's forward has them: rounded, while gradients reach the floats behind them.

The straight-through estimator (Bengio et al. 2013, arXiv 1308.3432; quantised distillation, Polino et al. 2018, arXiv
1802.05668, section 3): rounding counts as the identity in the backward pass. Linear maps have a scale an output, tables
of embeddings one a block (formats/quantise.py), which is what the file that is served holds (formats/onnx_bits.py).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from autodistil.formats.quantise import EMBEDDING_BLOCK, MIN_ROWS, dequantised, quantised
from autodistil.space.student import StudentConfig

Quantiser = tuple[int, int | None]
"""Bits of a weight, and how many inputs share a scale (None: all of an output)."""


def quantisers(model: nn.Module, student: StudentConfig) -> Mapping[str, Quantiser]:
    """Which weights of a student's model have few bits, by name."""
    kinds: dict[type[nn.Module], Quantiser] = {}
    if student.layer_bits is not None:
        kinds[nn.Linear] = (student.layer_bits, None)
    if student.embedding_bits is not None:
        kinds[nn.Embedding] = (student.embedding_bits, EMBEDDING_BLOCK)
    return {
        f"{name}.weight": quantiser
        for name, module in (model.named_modules() if kinds else ())
        for kind, quantiser in kinds.items()
        if isinstance(module, kind) and (kind is nn.Linear or _is_table(module))
    }


def _is_table(module: Any) -> bool:
    return bool(module.num_embeddings >= MIN_ROWS)


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
