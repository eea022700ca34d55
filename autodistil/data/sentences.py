"""Sentences as training texts: the spans of a token stream between one end of a sentence and the next.

Sentence encoders are used on sentences, and an objective that compares the texts of a batch learns more from many
short texts than from few long ones (reports/LOG.md). Ends are found by token, so any tokenizer will do: after `.`, `!`,
`?` or a separator. A stretch that is too short to say something ("e.g.", "3.") is left out, a long one is cut.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from transformers import PreTrainedTokenizerBase

from autodistil.data.batches import batch_indices
from autodistil.data.tokens import TokenStream
from autodistil.errors import CorpusError
from autodistil.inputs import PADDING

MIN_TOKENS = 5
"""Tokens of the shortest sentence."""
_POOL_STEPS = 16
"""Steps whose sentences are sorted by length together, so that a batch needs little padding."""
_BLOCK = 1 << 22
"""Tokens scanned at a time."""
_ENDS = frozenset(".!?。！？…")
_CLOSING = "\"'”’)]»"


def sentence_end_ids(tokenizer: PreTrainedTokenizerBase, separators: Iterable[int]) -> np.ndarray:
    """Ids of the tokens after which a sentence ends, sorted (ids,)."""
    texts = {index: _plain(token) for token, index in tokenizer.get_vocab().items()}
    ends = {index for index, text in texts.items() if text and text.rstrip(_CLOSING)[-1:] in _ENDS and len(text) <= 2}
    return np.array(sorted(ends | set(separators)), dtype=np.int64)


def _plain(token: str) -> str:
    """A token without the marks of word pieces and word starts."""
    return token.removeprefix("##").lstrip("Ġ▁ ")


@dataclass(frozen=True)
class Sentences:
    """The sentences of a stream."""

    stream: TokenStream
    seq_len: int
    """Largest number of tokens of a text, the affixes included."""
    prefix_ids: Sequence[int]
    suffix_ids: Sequence[int]
    end_ids: np.ndarray
    """Tokens that end a sentence, sorted."""

    def __post_init__(self) -> None:
        if self.longest < 2 * MIN_TOKENS:  # so that no half of a sentence that is cut is a scrap
            raise CorpusError(
                f"seq_len = {self.seq_len} leaves {self.longest} tokens for a sentence; "
                f"allowed: {self.seq_len - self.longest + 2 * MIN_TOKENS} or more"
            )
        if len(self) < 1:
            raise CorpusError(
                f"the {self.stream.path.stem} text of {len(self.stream):,} tokens holds no sentence of {MIN_TOKENS} "
                "tokens; add text, or give --text-unit sequences"
            )

    @property
    def longest(self) -> int:
        """Tokens of the stream in the longest text."""
        return self.seq_len - len(self.prefix_ids) - len(self.suffix_ids)

    @cached_property
    def spans(self) -> np.ndarray:
        """First token and end of each sentence in the stream, (sentences, 2); 16 bytes a sentence."""
        ends = self._ends()
        starts = np.concatenate([[0], ends[:-1]]).astype(np.int64)
        pieces = -(-(ends - starts) // self.longest)  # a long sentence is cut evenly
        owner = np.repeat(np.arange(len(ends)), pieces)
        number = np.arange(len(owner)) - np.repeat(np.cumsum(pieces) - pieces, pieces)
        length = (ends - starts)[owner]
        first = starts[owner] + length * number // pieces[owner]
        last = starts[owner] + length * (number + 1) // pieces[owner]
        spans = np.stack([first, last], axis=1)
        return spans[last - first >= MIN_TOKENS]

    def _ends(self) -> np.ndarray:
        """One past the last token of each sentence, ascending; the stream's end included."""
        tokens, found = self.stream.tokens, []
        for start in range(0, len(tokens), _BLOCK):
            found.append(start + 1 + np.flatnonzero(np.isin(tokens[start : start + _BLOCK], self.end_ids)))
        ends = np.concatenate([*found, [len(tokens)]]).astype(np.int64)
        return np.unique(ends)

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


def length_grouped_indices(sentences: Sentences, batch_size: int, step: int, seed: int) -> np.ndarray:
    """The sentences of one step, (batch_size,): of like length, and as random as `batch_indices` otherwise.

    The sentences of 16 steps are drawn together, sorted by length and dealt out in random order: a function of the seed
    and the step alone.
    """
    pool, place = divmod(step, _POOL_STEPS)
    indices = batch_indices(len(sentences), _POOL_STEPS * batch_size, pool, seed)
    lengths = np.diff(sentences.spans[indices], axis=1)[:, 0]
    by_length = indices[np.argsort(lengths, kind="stable")]
    turn = np.random.default_rng([seed, pool]).permutation(_POOL_STEPS)[place]
    return by_length[turn * batch_size : (turn + 1) * batch_size]
