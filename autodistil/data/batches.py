"""Training sequences cut from a token stream, and the order in which steps see them.

Sequences are packed: the stream is cut every so many tokens and each piece is framed by the tokenizer's special tokens,
so there is no padding. The order is a pure function of (seed, step): a resumed run, another number of workers or a
single worker sees the same batches. An epoch is a pseudo-random permutation computed index by index, a Feistel network
with cycle walking (Black & Rogaway 2002, "Ciphers with Arbitrary Finite Domains"), so that it needs no memory however
many sequences there are, and does not depend on the random generator of a NumPy version.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from autodistil.data.tokens import TokenStream
from autodistil.errors import CorpusError

_ROUNDS = 8


@dataclass(frozen=True)
class PackedSequences:
    """Sequences of one length cut from a stream; a remainder shorter than a sequence is left out."""

    stream: TokenStream
    seq_len: int
    """Tokens of a sequence, the affixes included."""
    prefix_ids: Sequence[int]
    suffix_ids: Sequence[int]

    def __post_init__(self) -> None:
        object.__setattr__(self, "prefix_ids", tuple(self.prefix_ids))
        object.__setattr__(self, "suffix_ids", tuple(self.suffix_ids))
        if self.content_length < 1:
            raise CorpusError(
                f"seq_len = {self.seq_len} leaves no room beside the tokenizer's special tokens; "
                f"allowed: {self.seq_len - self.content_length + 1} or more"
            )
        if len(self) < 1:
            raise CorpusError(
                f"the {self.stream.path.stem} text has {len(self.stream):,} tokens; a sequence of {self.seq_len} needs "
                f"{self.content_length:,}; add text, or lower seq_len"
            )

    @property
    def content_length(self) -> int:
        """Tokens of the stream in a sequence."""
        return self.seq_len - len(self.prefix_ids) - len(self.suffix_ids)

    def __len__(self) -> int:
        return len(self.stream) // self.content_length

    def take(self, indices: np.ndarray) -> np.ndarray:
        """Token ids (sequences, seq_len) of int64 for indices (sequences,)."""
        contents = self.stream.tokens[: len(self) * self.content_length].reshape(len(self), self.content_length)
        sequences = np.empty((len(indices), self.seq_len), dtype=np.int64)
        start, stop = len(self.prefix_ids), self.seq_len - len(self.suffix_ids)
        sequences[:, :start] = self.prefix_ids
        sequences[:, start:stop] = contents[indices]
        sequences[:, stop:] = self.suffix_ids
        return sequences


def batch_indices(num_sequences: int, batch_size: int, step: int, seed: int) -> np.ndarray:
    """The sequences of one step's global batch; workers take slices of it.

    Steps run through permutations of all sequences, one an epoch: within an epoch no sequence comes twice and none is
    missed, and a batch may end one epoch and begin the next.

    Args:
        num_sequences: sequences there are.
        batch_size: sequences of a step, of all workers together.
        step: from 0.
        seed: decides the permutations.

    Returns:
        Indices (batch_size,) of int64.
    """
    assert num_sequences > 0
    assert batch_size > 0
    assert step >= 0
    positions = step * batch_size + np.arange(batch_size, dtype=np.uint64)
    epoch, index = np.divmod(positions, np.uint64(num_sequences))
    keys = _mix(_mix(np.full(batch_size, seed % 2**64, dtype=np.uint64)) + epoch)
    return _permuted(index, num_sequences, keys).astype(np.int64)


def _permuted(index: np.ndarray, size: int, keys: np.ndarray) -> np.ndarray:
    """Image of each index under the permutation of range(size) that its key names."""
    half_bits = max(1, ((size - 1).bit_length() + 1) // 2)
    result = _feistel(index, half_bits, keys)
    while (outside := result >= size).any():
        result[outside] = _feistel(result[outside], half_bits, keys[outside])
    return result


def _feistel(values: np.ndarray, half_bits: int, keys: np.ndarray) -> np.ndarray:
    """A permutation of the numbers of 2 * half_bits bits for each key."""
    shift, mask = np.uint64(half_bits), np.uint64((1 << half_bits) - 1)
    left, right = values >> shift, values & mask
    for number in range(_ROUNDS):
        left, right = right, left ^ (_mix(keys ^ _mix(right + np.uint64(number << 32))) & mask)
    return (left << shift) | right


def _mix(values: np.ndarray) -> np.ndarray:
    """The 64-bit finaliser of SplitMix64 (Steele et al. 2014)."""
    values = values + np.uint64(0x9E3779B97F4A7C15)
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))
