"""Texts cut from a token stream, as packed sequences or sentences, and the order in which steps see them.

Packed sequences: the stream is cut every so many tokens and each piece is framed by the tokenizer's special tokens, so
there is no padding.

Documents: each whole, its first tokens where it is longer than a text may be.

Sentences: the spans of the stream between one end of a sentence and the next. Sentence encoders are used on sentences,
and an objective that compares the texts of a batch learns more from many short texts than from few long ones
(reports/LOG.md). A stretch that is too short to say something ("No.", a separator) is left out, a long one is cut. Such
an objective takes a copy of a sentence for another one that should be apart from it, so each sentence counts once,
however often the corpus has it.

The order is a pure function of (seed, step): a resumed run, another number of workers or a single worker sees the same
batches. An epoch is a pseudo-random permutation computed index by index, a Feistel network with cycle walking (Black &
Rogaway 2002, "Ciphers with Arbitrary Finite Domains"), so that it needs no memory however many samples there are, and
does not depend on the random generator of a NumPy version. It is cut into whole batches, so that none has a sample
twice; what is left over, less than a batch and other samples each time, waits for the next epoch.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from autodistil.data.batch import PADDING
from autodistil.data.tokens import TokenStream
from autodistil.errors import CorpusError

MIN_TOKENS = 5
"""Tokens of the shortest sentence."""

_BLOCK = 1 << 16
"""Sentences hashed at a time."""

_POOL_STEPS = 16
"""Steps whose sentences are sorted by length together, so that a batch needs little padding."""
_ROUNDS = 8
"""Rounds of the Feistel network."""


@dataclass(frozen=True)
class _CutStream:
    """A stream cut into texts, each framed by special tokens."""

    stream: TokenStream
    seq_len: int
    """Tokens of the longest text, the affixes included."""
    prefix_ids: Sequence[int]
    suffix_ids: Sequence[int]

    @property
    def content_length(self) -> int:
        """Tokens of the stream in the longest text."""
        return self.seq_len - len(self.prefix_ids) - len(self.suffix_ids)


@dataclass(frozen=True)
class PackedSequences(_CutStream):
    """Sequences of one length; a remainder shorter than a sequence is left out."""

    def __post_init__(self) -> None:
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


@dataclass(frozen=True)
class Sentences(_CutStream):
    """The different sentences of a stream, or its documents, each where it comes first."""

    without: Sentences | None = None
    """Sentences that must not be among them: those that are held out."""
    chosen: np.ndarray | None = None
    """Which of these there are, numbers in rising order; all unless given."""
    whole: bool = False
    """They are documents."""

    def __post_init__(self) -> None:
        if self.content_length < 2 * MIN_TOKENS:  # so that no half of a sentence that is cut is a scrap
            raise CorpusError(
                f"seq_len = {self.seq_len} leaves {self.content_length} tokens for a sentence; "
                f"allowed: {self.seq_len - self.content_length + 2 * MIN_TOKENS} or more"
            )
        if len(self) < 1:
            beside = " that is not held out too" if self.without else ""
            raise CorpusError(
                f"the {self.stream.path.stem} text of {len(self.stream):,} tokens holds no sentence of {MIN_TOKENS} "
                f"tokens{beside}; add text, or give --text-unit sequences"
            )

    @property
    def spans(self) -> np.ndarray:
        """First token and end of each sentence in the stream, (sentences, 2); 16 bytes a sentence."""
        return self._different[0]

    @property
    def counts(self) -> np.ndarray:
        """How often the corpus has each sentence, (sentences,)."""
        return self._different[1]

    @cached_property
    def _different(self) -> tuple[np.ndarray, np.ndarray]:
        """Spans and counts of the different sentences, each where it comes first."""
        spans = self._all_spans()
        hashes = self._hashes_of(spans)
        _, first, counts = np.unique(hashes, return_index=True, return_counts=True)
        order = np.argsort(first)
        first, counts = first[order], counts[order]
        kept = np.ones(len(first), dtype=bool)
        if self.without is not None:
            kept = ~np.isin(hashes[first], self.without.hashes)
        spans, counts = spans[first[kept]], counts[kept]
        return (spans, counts) if self.chosen is None else (spans[self.chosen], counts[self.chosen])

    @cached_property
    def hashes(self) -> np.ndarray:
        """A hash of each sentence, (sentences,) of uint64."""
        return self._hashes_of(self.spans)

    def only(self, numbers: np.ndarray) -> Sentences:
        """Some of them alone, by numbers in rising order."""
        return replace(self, chosen=numbers if self.chosen is None else self.chosen[numbers])

    def _all_spans(self) -> np.ndarray:
        spans = self._documents() if self.whole else self._sentence_pieces()
        return spans[spans[:, 1] - spans[:, 0] >= MIN_TOKENS]

    def _documents(self) -> np.ndarray:
        """Spans of documents, each closed by the suffix, which is a stretch of its own; of long ones the beginning."""
        ends = np.unique(np.append(self.stream.sentence_ends, len(self.stream)))
        starts = np.concatenate([[0], ends[:-1]]).astype(np.int64)
        closing = ends - starts == len(self.suffix_ids)
        for place, token in enumerate(self.suffix_ids):
            closing[closing] = self.stream.tokens[starts[closing] + place] == token
        first = np.concatenate([[0], ends[closing]])
        last = np.append(starts[closing], len(self.stream))
        return np.stack([first, np.minimum(last, first + self.content_length)], axis=1)

    def _sentence_pieces(self) -> np.ndarray:
        ends = np.unique(np.append(self.stream.sentence_ends, len(self.stream)))
        starts = np.concatenate([[0], ends[:-1]]).astype(np.int64)
        pieces = -(-(ends - starts) // self.content_length)  # a long sentence is cut evenly
        owner = np.repeat(np.arange(len(ends)), pieces)
        number = np.arange(len(owner)) - np.repeat(np.cumsum(pieces) - pieces, pieces)
        length = (ends - starts)[owner]
        first = starts[owner] + length * number // pieces[owner]
        last = starts[owner] + length * (number + 1) // pieces[owner]
        return np.stack([first, last], axis=1)

    def _hashes_of(self, spans: np.ndarray) -> np.ndarray:
        """A hash of each span (`token_hashes`), (spans,) of uint64."""
        hashes = np.empty(len(spans), np.uint64)
        for start in range(0, len(spans), _BLOCK):
            first, last = spans[start : start + _BLOCK].T
            sizes = last - first
            tokens = self.stream.tokens[np.repeat(first, sizes) + _places(sizes)]
            hashes[start : start + _BLOCK] = token_hashes(tokens, sizes)
        return hashes

    @property
    def mean_length(self) -> float:
        """Tokens of a text on average, the affixes included."""
        return float(np.diff(self.spans, axis=1).mean()) + len(self.prefix_ids) + len(self.suffix_ids)

    def __len__(self) -> int:
        return len(self.spans)

    def take(self, indices: np.ndarray) -> np.ndarray:
        """Token ids of int64 for indices (sentences,), `PADDING` after the shorter ones: (sentences, longest)."""
        rows = [
            [*self.prefix_ids, *self.stream.tokens[first:last].tolist(), *self.suffix_ids]
            for first, last in self.spans[indices].tolist()
        ]
        texts = np.full((len(rows), max(map(len, rows))), PADDING, dtype=np.int64)
        for text, row in zip(texts, rows, strict=True):
            text[: len(row)] = row
        return texts


def token_hashes(tokens: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    """A hash of each text, (texts,) of uint64: the sum over its tokens of (token, place) mixed.

    Args:
        tokens: those of all texts, one text behind the other.
        sizes: how many each has, one at least, (texts,).
    """
    mixed = _mix(tokens.astype(np.uint64) | (_places(sizes).astype(np.uint64) << np.uint64(32)))
    return np.add.reduceat(mixed, np.cumsum(sizes) - sizes)


def _places(sizes: np.ndarray) -> np.ndarray:
    """The place within its text of each token, one text behind the other."""
    return np.arange(sizes.sum()) - np.repeat(np.cumsum(sizes) - sizes, sizes)


def batch_indices(num_samples: int, batch_size: int, step: int, seed: int) -> np.ndarray:
    """The samples of one step's global batch; workers take slices of it.

    Steps run through permutations of the samples, one an epoch, of whole batches: within an epoch, and so within a
    batch, no sample comes twice.

    Args:
        num_samples: samples there are.
        batch_size: samples of a step, of all workers together, if there are as many.
        step: from 0.
        seed: decides the permutations.

    Returns:
        Indices (min(batch_size, num_samples),) of int64.
    """
    size = min(batch_size, num_samples)
    epoch, place = divmod(step, num_samples // size)
    return _of_epoch(num_samples, epoch, place * size, size, seed)


def length_grouped_indices(sentences: Sentences, batch_size: int, step: int, seed: int) -> np.ndarray:
    """The sentences of one step: of like length, and as random as `batch_indices` otherwise.

    The sentences of 16 steps of an epoch are drawn together, sorted by length and dealt out in random order: a function
    of the seed and the step alone.
    """
    size = min(batch_size, len(sentences))
    steps = len(sentences) // size
    epoch, place = divmod(step, steps)
    first = place - place % _POOL_STEPS
    together = min(_POOL_STEPS, steps - first)
    indices = _of_epoch(len(sentences), epoch, first * size, together * size, seed)
    lengths = np.diff(sentences.spans[indices], axis=1)[:, 0]
    by_length = indices[np.argsort(lengths, kind="stable")]
    turn = np.random.default_rng([seed, epoch, first]).permutation(together)[place - first]
    return by_length[turn * size : (turn + 1) * size]


def _of_epoch(num_samples: int, epoch: int, start: int, count: int, seed: int) -> np.ndarray:
    """The samples from place `start` on of the permutation of an epoch, (count,) of int64."""
    assert 0 <= start <= start + count <= num_samples
    index = start + np.arange(count, dtype=np.uint64)
    keys = _mix(_mix(np.full(count, seed % 2**64, dtype=np.uint64)) + np.uint64(epoch))
    return _permuted(index, num_samples, keys).astype(np.int64)


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
