"""How an index stores embeddings, as sentence-transformers' `quantize_embeddings` does, and what comes back of them.

float32  4 bytes a dimension, as they are
int8     1 byte: which of 255 equal steps between the least and the greatest value of the dimension, less 128
binary   1 bit: whether the value is above 0; eight to a byte, less 128

Queries stay float32 and are multiplied with what comes back of a document: of int8 the lower end of its step, of a bit
-1 or 1. That is what the library calls rescoring; it has 0 and 1 of bits, which ranks alike, as 2 bits - 1 changes all
scores of a query by one factor and one addend. Departure: the library first takes a few documents by the codes of the
query, twice as many as are wanted by default, and rescores these; here the query scores all, as with a large
`rescore_multiplier`, so that figures are those of the codes and of no index.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import NamedTuple

import numpy as np

from autodistil.errors import ConfigError, suggest


class VectorCode(NamedTuple):
    """A way to store embeddings. `ranges` (2, dim) are the least and the greatest value of each dimension."""

    bits: int
    """Of a dimension."""
    encode: Callable[[np.ndarray, np.ndarray], np.ndarray]
    """(embeddings (rows, dim), ranges) -> codes (rows, bytes or dim)."""
    decode: Callable[[np.ndarray, np.ndarray], np.ndarray]
    """(codes, ranges) -> what comes back (rows, dim), float32."""


def _whole(values: np.ndarray, ranges: np.ndarray) -> np.ndarray:
    return values.astype(np.float32, copy=False)


def _int8(embeddings: np.ndarray, ranges: np.ndarray) -> np.ndarray:
    found: np.ndarray = np.clip(np.floor((embeddings - ranges[0]) / _steps(ranges)), 0, 255)
    return (found - 128).astype(np.int8)


def _of_int8(codes: np.ndarray, ranges: np.ndarray) -> np.ndarray:
    return (codes.astype(np.float32) + 128) * _steps(ranges) + ranges[0]


def _steps(ranges: np.ndarray) -> np.ndarray:
    """Width (dim,) of a step; 1 where a dimension has one value."""
    steps = (ranges[1] - ranges[0]) / 255
    return np.where(steps == 0, 1, steps)


def _binary(embeddings: np.ndarray, ranges: np.ndarray) -> np.ndarray:
    return (np.packbits(embeddings > 0, axis=-1) ^ 0x80).view(np.int8)


def _of_binary(codes: np.ndarray, ranges: np.ndarray) -> np.ndarray:
    bits = np.unpackbits(codes.view(np.uint8) ^ np.uint8(0x80), axis=-1, count=ranges.shape[1])
    return bits.astype(np.float32) * 2 - 1


VECTOR_CODES: Mapping[str, VectorCode] = MappingProxyType(
    {
        "float32": VectorCode(32, _whole, _whole),
        "int8": VectorCode(8, _int8, _of_int8),
        "binary": VectorCode(1, _binary, _of_binary),
    }
)


def ranges_of(embeddings: np.ndarray) -> np.ndarray:
    """The least and the greatest value (2, dim) of each dimension of embeddings (rows, dim), float32."""
    return np.stack([embeddings.min(0), embeddings.max(0)]).astype(np.float32)


def stored(embeddings: np.ndarray, vectors: str) -> np.ndarray:
    """What comes back (rows, dim) of embeddings that were stored, int8 by their own ranges.

    Args:
        embeddings: (rows, dim), of length 1 where an index compares by cosine.
        vectors: a key of `VECTOR_CODES`.
    """
    code, ranges = VECTOR_CODES[vectors], ranges_of(embeddings)
    return code.decode(code.encode(embeddings, ranges), ranges)


def check_vectors(names: Sequence[str]) -> None:
    """Refuse ways to store embeddings that are unknown or come twice.

    Raises:
        ConfigError: one is, or does.
    """
    for name in names:
        if name not in VECTOR_CODES or names.count(name) > 1:
            what = "comes twice" if name in VECTOR_CODES else f"is unknown{suggest(name, VECTOR_CODES)}"
            allowed = ", ".join(VECTOR_CODES)
            raise ConfigError(f"vectors: {name!r} {what}; allowed: {allowed}, each once, such as float32,int8")
