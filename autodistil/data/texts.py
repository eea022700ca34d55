"""What a run draws from, whatever its teacher reads: the protocol of `text.RunText` and `images.RunImages`.

The text of a run as batches of token ids: what each training step sees, and what students are scored on.

A text is a packed sequence or a sentence. Texts are arrays of ids in which `inputs.PADDING` fills up the shorter ones.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from transformers import PreTrainedTokenizerBase

from autodistil.config import RunConfig
from autodistil.data.batch import Batch, as_batch
from autodistil.data.sequences import (
    PackedSequences,
    Sentences,
    batch_indices,
    length_grouped_indices,
    sentence_end_ids,
)
from autodistil.data.tokens import (
    MIN_HELDOUT_TOKENS,
    TokenizedCorpus,
    TokenStream,
    separator_ids,
    special_affixes,
    tokenize_corpus,
)
from autodistil.errors import ConfigError, CorpusError, RunError
from autodistil.utils import Progress, atomic_path


class ReadCorpus(Protocol):
    """A corpus that was read."""

    @property
    def content_hash(self) -> str:
        """Equal wherever the same content is read."""


class RunTexts(Protocol):
    """Texts or images of a run; arrays have one text in each row."""

    @property
    def unit(self) -> str:
        """What a text is called: `sequences`, `sentences` or `images`."""

    @property
    def batch_size(self) -> int:
        """Texts per step."""

    @property
    def num_heldout(self) -> int:
        """Texts that students are scored on."""

    @property
    def corpus(self) -> ReadCorpus:
        """All of them, read."""

    @property
    def tokens_a_step(self) -> int:
        """Tokens of a step's texts, on average."""

    def step_texts(self, step: int) -> np.ndarray:
        """The texts of a training step: a function of the seed and the step alone."""

    def micro_batches(self, step: int) -> Iterator[Batch]:
        """The same as the micro-batches that a step is cut into."""

    def sample(self, count: int) -> np.ndarray:
        """Some training texts (at most `count`), the same each time."""

    def draw_heldout(self, path: Path) -> np.ndarray:
        """Held-out texts, drawn once and kept at `path`."""


def texts_of_step(config: RunConfig, factor: int) -> int:
    """Texts per step: `batch_size` times `factor`.

    Raises:
        ConfigError: micro-batches do not divide it.
    """
    size = config.batch_size * factor
    if size % config.accumulate:
        raise ConfigError(
            f"accumulate = {config.accumulate} does not divide the {size} texts of a step; choose a divisor"
        )
    return size


def drawn_once(path: Path, draw: Callable[[], np.ndarray]) -> np.ndarray:
    """The array at `path`; drawn and written there first where there is none.

    Raises:
        RunError: the file is damaged.
    """
    if not path.is_file():
        with atomic_path(path) as temporary, open(temporary, "wb") as file:
            np.save(file, draw())
    try:
        texts: np.ndarray = np.load(path, allow_pickle=False)
    except (ValueError, EOFError) as error:
        raise RunError(f"{str(path)!r} is damaged ({error}); remove it to draw held-out text again") from error
    return texts


SENTENCES_PER_SEQUENCE = 4
"""Sentences in the place of one packed sequence: about as many tokens, at 128 a sequence."""


@dataclass
class RunText:
    """A run's text.

    Args:
        config: sources, lengths, seed.
        tokenizer: the teacher's.
        sentences: texts are sentences instead of packed sequences.
        padding_id: what stands in the inputs of a model for `inputs.PADDING`.
        device: where batches go.
        progress: told what is read.
    """

    config: RunConfig
    tokenizer: PreTrainedTokenizerBase
    sentences: bool
    padding_id: int
    device: torch.device
    progress: Progress = field(default_factory=Progress)

    @property
    def unit(self) -> str:
        """`sentences` or `sequences`."""
        return "sentences" if self.sentences else "sequences"

    @property
    def batch_size(self) -> int:
        """Texts per step.

        Raises:
            ConfigError: micro-batches do not divide it.
        """
        return texts_of_step(self.config, self._times(1))

    @property
    def num_heldout(self) -> int:
        """Texts that students are scored on."""
        return self._times(self.config.heldout_sequences)

    def _times(self, sequences: int) -> int:
        return sequences * (SENTENCES_PER_SEQUENCE if self.sentences else 1)

    @cached_property
    def corpus(self) -> TokenizedCorpus:
        """The tokenised text."""
        with self.progress.track("reading text", 0) as advance:
            corpus = tokenize_corpus(
                self.config.corpus,
                self.tokenizer,
                min_heldout_tokens=max(MIN_HELDOUT_TOKENS, self.config.heldout_sequences * self.config.seq_len),
                progress=lambda documents, tokens: advance(0, f"{tokens:,} tokens"),
            )
        self.progress.say(f"text: {corpus.description}")
        return corpus

    @cached_property
    def train(self) -> PackedSequences | Sentences:
        """Texts to train on."""
        return self._cut(self.corpus.train)

    def _cut(self, stream: TokenStream) -> PackedSequences | Sentences:
        affixes = special_affixes(self.tokenizer)
        if not self.sentences:
            return PackedSequences(stream, self.config.seq_len, *affixes)
        ends = sentence_end_ids(self.tokenizer, separator_ids(self.tokenizer))
        return Sentences(stream, self.config.seq_len, *affixes, ends)

    @cached_property
    def tokens_a_step(self) -> int:
        """Tokens of a step's texts, on average."""
        mean = self.config.seq_len if isinstance(self.train, PackedSequences) else self.train.mean_length
        return round(self.batch_size * mean)

    def step_texts(self, step: int) -> np.ndarray:
        """The texts of a training step (batch_size, tokens): a function of the seed and the step alone."""
        if isinstance(self.train, Sentences):
            indices = length_grouped_indices(self.train, self.batch_size, step, self.config.seed)
        else:
            indices = batch_indices(len(self.train), self.batch_size, step, self.config.seed)
        return self.train.take(indices)

    def micro_batches(self, step: int) -> Iterator[Batch]:
        """The texts of a training step as the micro-batches that it is cut into."""
        for part in np.split(self.step_texts(step), self.config.accumulate):
            yield as_batch(part, self.padding_id, self.device)

    def sample_sequences(self, count: int) -> np.ndarray:
        """Some packed sequences of the training text (at most `count`, seq_len), whatever the unit."""
        packed = PackedSequences(self.corpus.train, self.config.seq_len, *special_affixes(self.tokenizer))
        return self._draw(packed, count)

    def sample(self, count: int) -> np.ndarray:
        """Some training texts (at most `count`, tokens), the same each time."""
        return self._draw(self.train, count)

    def _draw(self, texts: PackedSequences | Sentences, count: int) -> np.ndarray:
        """At most `count` of the texts, by the seed."""
        return texts.take(batch_indices(len(texts), min(count, len(texts)), 0, self.config.seed))

    def draw_heldout(self, path: Path) -> np.ndarray:
        """Held-out texts (num_heldout, tokens), drawn once and kept at `path`, so that scores never change.

        Raises:
            CorpusError: the text has too few.
            RunError: the file is damaged.
        """
        return drawn_once(path, self._heldout)

    def _heldout(self) -> np.ndarray:
        texts = self._cut(self.corpus.heldout)
        if len(texts) < self.num_heldout:
            raise CorpusError(
                f"the text has {len(texts)} held-out {self.unit} of {self.config.seq_len} tokens at most, "
                f"{self.num_heldout} are needed (heldout_sequences = {self.config.heldout_sequences}); "
                "give more text, or lower heldout_sequences or --seq-len"
            )
        return self._draw(texts, self.num_heldout)
