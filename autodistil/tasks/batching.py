"""Texts as batches of token ids: rows of like length together, each batch padded to its own longest row."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from transformers import PreTrainedTokenizerBase

from autodistil.data.batch import Batch
from autodistil.errors import TeacherError
from autodistil.tasks.words import UNSEEN, WordPlaces

BATCH_SIZE = 64
"""Texts that encoders run together."""
_POOL = 32
"""Batches that are cut from one random pool of rows, sorted by length."""


@dataclass(frozen=True)
class TokenizedRows:
    """Tokenised texts or pairs."""

    ids: Sequence[Sequence[int]] | Sequence[np.ndarray]
    types: Sequence[Sequence[int]] | None
    """Which text of a pair each token belongs to, for models that are told."""
    padding: int
    places: WordPlaces | None = None
    """Of the words, where each has an answer of its own; None: each row has one."""

    @classmethod
    def of(
        cls,
        tokenizer: PreTrainedTokenizerBase,
        text_a: Sequence[str],
        text_b: Sequence[str] | None,
        max_length: int,
        words: bool = False,
    ) -> TokenizedRows:
        """Tokenise; of a row that is too long the longer text is cut first. `words`: each has an answer of its own.

        Raises:
            TeacherError: words are wanted, and the tokenizer does not say where its tokens stand.
        """
        if words and not tokenizer.is_fast:
            raise TeacherError(
                f"tokenizer {type(tokenizer).__name__} does not tell which characters a token is, which tasks of words "
                "need; give a model with a tokenizer.json"
            )
        pairs, options = None if text_b is None else list(text_b), {"return_offsets_mapping": True} if words else {}
        encoded = tokenizer(list(text_a), pairs, truncation=True, max_length=max_length, padding=False, **options)
        types = encoded.get("token_type_ids") if text_b is not None else None
        places = WordPlaces.of(text_a, encoded["offset_mapping"]) if words else None
        return cls(encoded["input_ids"], types, tokenizer.pad_token_id or 0, places)

    @property
    def lengths(self) -> np.ndarray:
        """Tokens of each row, (rows,)."""
        return np.array([len(row) for row in self.ids])

    @property
    def seen(self) -> np.ndarray:
        """Of each unit, a row or a word, whether it has an answer, (units,): words do that have a token."""
        return np.ones(len(self.ids), dtype=bool) if self.places is None else self.places.tokens != UNSEEN

    def only(self, seen: np.ndarray) -> TokenizedRows:
        """The same without answers of words that are not in a mask (units,); all rows have one."""
        return self if self.places is None else replace(self, places=self.places.only(seen))

    def units(self, rows: np.ndarray) -> np.ndarray:
        """Which of all units have an answer in the rows at some indices, (answers,)."""
        return rows if self.places is None else self.places.words(rows)

    def by_unit(self, values: Tensor, rows: np.ndarray) -> Tensor:
        """What a head reads or says of the rows at some indices, (indices, width), of words (indices, tokens, width).

        Returns:
            The same of each of `units(rows)`, (answers, width).
        """
        if self.places is None:
            return values
        of_row, tokens = self.places.tokens_of(rows)
        return values[torch.from_numpy(of_row).to(values.device), torch.from_numpy(tokens).to(values.device)]

    def batch(self, rows: np.ndarray, device: torch.device) -> Batch:
        """The inputs of the rows at some indices, each (indices, longest)."""

        def padded(values: Iterable[Sequence[int]], padding: int = 0) -> Tensor:
            parts = [torch.tensor(part, dtype=torch.long) for part in values]
            return pad_sequence(parts, batch_first=True, padding_value=padding).to(device)

        ids = [self.ids[row] for row in rows]
        batch = {"input_ids": padded(ids, self.padding), "attention_mask": padded([1] * len(row) for row in ids)}
        return batch if self.types is None else {**batch, "token_type_ids": padded(self.types[row] for row in rows)}

    def hidden(self, inputs: Batch, share: float) -> Batch:
        """Inputs with about a share of the tokens of each row hidden from the others, never the first."""
        mask = inputs["attention_mask"]
        hidden = torch.rand(mask.shape, device=mask.device) < share
        hidden[:, 0] = False
        return {**inputs, "attention_mask": mask.masked_fill(hidden, 0)}


def sorted_batches(lengths: np.ndarray, batch_size: int) -> Iterator[np.ndarray]:
    """Indices of each batch, longest rows first so that too little memory shows at once."""
    order = np.argsort(-lengths, kind="stable")
    yield from (order[start : start + batch_size] for start in range(0, len(order), batch_size))


def shuffled_batches(lengths: np.ndarray, batch_size: int, random: np.random.Generator) -> list[np.ndarray]:
    """Indices of each batch of an epoch: every row once, in random order but for like lengths together."""
    order = random.permutation(len(lengths))
    pools = np.split(order, range(_POOL * batch_size, len(order), _POOL * batch_size))
    batches = [pool[batch] for pool in pools for batch in sorted_batches(lengths[pool], batch_size)]
    return [batches[i] for i in random.permutation(len(batches))]


@dataclass(frozen=True)
class TextBatcher:
    """Tokenises and batches texts. What it made of texts it keeps, for the many students that read the same ones."""

    tokenizer: PreTrainedTokenizerBase
    max_length: int
    device: torch.device
    batch_size: int = BATCH_SIZE
    _made: dict[tuple[str, ...], tuple[list[Batch], np.ndarray]] = field(
        default_factory=dict, init=False, repr=False, compare=False
    )

    def __call__(self, texts: Sequence[str]) -> tuple[list[Batch], np.ndarray]:
        """Batches of some texts, each distinct one once, and where each text stands in all of them, (texts,)."""
        key = tuple(texts)
        if key not in self._made:
            unique = {text: i for i, text in enumerate(dict.fromkeys(key))}
            rows = TokenizedRows.of(self.tokenizer, list(unique), None, self.max_length)
            places = list(sorted_batches(rows.lengths, self.batch_size))
            batches = [rows.batch(place, self.device) for place in places]
            self._made[key] = batches, np.argsort(np.concatenate(places))[[unique[text] for text in key]]
        return self._made[key]
