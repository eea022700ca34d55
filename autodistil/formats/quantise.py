"""Weights of few bits: codes in blocks along the inputs, each block with a scale of its own, symmetric around zero.

The value of largest magnitude in a block is `-2^(bits - 1)` times the scale, so the scale may be negative and no code
is left unused; smaller scales, which clip that value, are taken where the squared error is less (MSE calibration). What
was quantised once is a fixed point: quantised again, it gives the same codes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

EMBEDDING_BLOCK = 64
"""Dimensions of an embedding that share a scale."""
MIN_ROWS = 64
"""Tables of fewer embeddings (token types, buckets of relative positions) stay floats."""
_SHRINKS = (1.0, 0.9, 0.8, 0.7, 0.6)
"""Scales that are tried, as shares of the one that clips nothing."""


def quantised(weight: Tensor, bits: int, block: int | None = None) -> tuple[Tensor, Tensor]:
    """Quantise a matrix.

    Args:
        weight: (outputs, inputs) of float32.
        bits: 2 to 8.
        block: inputs that share a scale; None: all of an output.

    Returns:
        Codes (outputs, blocks, block) from `-2^(bits - 1)` to `2^(bits - 1) - 1`, as floats, and scales (outputs,
        blocks). A last block that is not full ends in zeros.
    """
    import torch  # the runner for phones holds this file too

    outputs, inputs = weight.shape
    size = block or inputs
    parts = torch.nn.functional.pad(weight, (0, -inputs % size)).view(outputs, -1, size)
    lowest = -(2.0 ** (bits - 1))
    extreme = parts.gather(-1, parts.abs().argmax(-1, keepdim=True))
    whole = torch.where(extreme == 0, 1.0, extreme / lowest)
    best, codes, least = whole, torch.empty(0), torch.empty(0)
    for share in _SHRINKS:
        scale = whole * share
        tried = (parts / scale).round().clamp(lowest, -lowest - 1)
        error = (tried * scale - parts).square().sum(-1, keepdim=True)
        if share == _SHRINKS[0]:
            codes, least = tried, error
            continue
        better = error < least
        best, codes, least = torch.where(better, scale, best), torch.where(better, tried, codes), least.minimum(error)
    return codes, best.squeeze(-1)


def dequantised(codes: Tensor, scales: Tensor, inputs: int) -> Tensor:
    """What `quantised` stands for, (outputs, inputs)."""
    return (codes * scales[..., None]).flatten(1)[:, :inputs]
