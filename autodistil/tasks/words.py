"""Words of a text, which blanks separate, and the first token of each, which answers for the word.

That the first token carries a word's label is the way of BERT (Devlin et al. 2019, section 5.3). Departure from Hugging
Face's examples: words are not handed to the tokenizer one by one (`is_split_into_words`) but found by their characters
in the text as it stands. So a model is trained on what it reads in use, and byte-level tokenizers, to which a word is
another one after a blank than without it (RoBERTa, ModernBERT), need no `add_prefix_space`.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

_WORD = re.compile("[^ ]+")

UNSEEN = -1
"""Stands for the first token of a word that has none: cut off, or of characters that the tokenizer drops."""


def words(text: str) -> list[str]:
    """Words of a text."""
    return _WORD.findall(text)


def first_tokens(text: str, offsets: Sequence[tuple[int, int]]) -> np.ndarray:
    """Where the first token of each word stands among the tokens of its text, (words,), `UNSEEN` where it has none.

    Args:
        text: words, separated by blanks.
        offsets: first character of each token and the one after its last; equal of special tokens.
    """
    spans = np.array([match.span() for match in _WORD.finditer(text)], dtype=np.int64).reshape(-1, 2)
    starts, ends = np.array(offsets, dtype=np.int64).reshape(-1, 2).T
    word = np.searchsorted(spans[:, 0], ends - 1, side="right") - 1  # by its last character: the first may be a blank
    tokens = np.flatnonzero((ends > starts) & (word >= 0))
    tokens = tokens[ends[tokens] <= spans[word[tokens], 1]]
    found = np.full(len(spans), UNSEEN)
    found[word[tokens[::-1]]] = tokens[::-1]  # of several the first is written last
    return found


@dataclass(frozen=True)
class WordPlaces:
    """Where the words of some rows stand among their tokens."""

    counts: np.ndarray
    """Words of each row, (rows,)."""
    tokens: np.ndarray
    """The first token of each word within its row, or `UNSEEN`, row by row, (words,)."""

    @classmethod
    def of(cls, texts: Sequence[str], offsets: Sequence[Sequence[tuple[int, int]]]) -> WordPlaces:
        """Find the words of texts by the characters of their tokens; arguments as of `first_tokens`, one a row."""
        rows = [first_tokens(text, of_row) for text, of_row in zip(texts, offsets, strict=True)]
        return cls(np.array([len(row) for row in rows]), np.concatenate(rows))

    def words(self, rows: np.ndarray) -> np.ndarray:
        """Which of all words stand in some rows and have a token, (answers,)."""
        words, _ = self._words(rows)
        return words[self.tokens[words] != UNSEEN]

    def tokens_of(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """In which of some rows, and at which token, each of `words(rows)` begins, (answers,) twice."""
        words, of_row = self._words(rows)
        tokens = self.tokens[words]
        return of_row[tokens != UNSEEN], tokens[tokens != UNSEEN]

    def _words(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        ends = np.cumsum(self.counts)
        words = np.concatenate([np.arange(ends[row] - self.counts[row], ends[row]) for row in rows])
        return words, np.repeat(np.arange(len(rows)), self.counts[rows])

    def only(self, seen: np.ndarray) -> WordPlaces:
        """The same, as if words that are not in a mask (words,) had no token."""
        return replace(self, tokens=np.where(seen, self.tokens, UNSEEN))
