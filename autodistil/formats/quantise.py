"""Weights of few bits: codes in blocks along the inputs, each block with a scale of its own, symmetric around zero.

The value of largest magnitude in a block is `-2^(bits - 1)` times the scale, so the scale may be negative and no code
is left unused; smaller scales, which clip that value, are taken where the squared error is less (MSE calibration). What
was quantised once is a fixed point: quantised again, it gives the same codes.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from autodistil.errors import ProfileError
from autodistil.utils import short

if TYPE_CHECKING:
    from torch import Tensor

Bits = Mapping[str, int | None]
"""Bits of a weight, of `embeddings` and of `layers`; None: floats."""

EMBEDDING_BLOCK = 64
"""Dimensions of an embedding that share a scale."""
MIN_ROWS = 64
"""Tables of fewer embeddings (token types, buckets of relative positions) stay floats."""
_SHRINKS = (0.9, 0.8, 0.7, 0.6)
"""Scales that are tried too, as shares of the one that clips nothing."""
_CHUNK = 1 << 16
"""Weights at a time, which stay in the processor's cache."""


def bits_of(config: Any) -> Bits | None:
    """What a Hugging Face config says of bits in the field `weight_bits`, as exports have it; None where nothing.

    Raises:
        ProfileError: it says something else.
    """
    bits = getattr(config, "weight_bits", None)
    allowed = {"embeddings": (2, 4, 8, None), "layers": (4, 8, None)}
    if bits is None:
        return None
    if not isinstance(bits, Mapping) or not all(bits.get(part) in some for part, some in allowed.items()):
        raise ProfileError(
            f"weight_bits in config.json: got {short(bits)}; allowed: embeddings of 2, 4 or 8 bits, layers of 4 or 8, "
            "or null; restore it"
        )
    return bits


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
    parts = torch.nn.functional.pad(weight, (0, -inputs % size)).view(-1, size)
    some = parts.split(max(1, _CHUNK // size))
    codes, scales = (torch.cat(found) for found in zip(*(_quantised(part, bits) for part in some), strict=True))
    return codes.view(outputs, -1, size), scales.view(outputs, -1)


def _quantised(parts: Tensor, bits: int) -> tuple[Tensor, Tensor]:
    """Codes (parts, block) and scales (parts, 1), each part with the scale of least squared error."""
    lowest = -(2.0 ** (bits - 1))
    high, low = parts.amax(-1, keepdim=True), parts.amin(-1, keepdim=True)
    extreme = high.where(high > -low, low)
    whole = (extreme / lowest).masked_fill_(extreme == 0, 1.0)
    codes = (parts / whole).round_().clamp_(lowest, -lowest - 1)
    scales, least = whole, _error(parts, codes, whole)
    for share in _SHRINKS:
        scale = whole * share
        tried = (parts / scale).round_().clamp_(lowest, -lowest - 1)
        error = _error(parts, tried, scale)
        better = error < least
        codes, scales, least = tried.where(better, codes), scale.where(better, scales), error.minimum(least)
    return codes, scales


def _error(parts: Tensor, codes: Tensor, scales: Tensor) -> Tensor:
    """Sum of squares a part, (parts, 1)."""
    return parts.addcmul(codes, scales, value=-1).square_().sum(-1, keepdim=True)


def dequantised(codes: Tensor, scales: Tensor, inputs: int) -> Tensor:
    """What `quantised` stands for, (outputs, inputs)."""
    return (codes * scales[..., None]).flatten(1)[:, :inputs]
