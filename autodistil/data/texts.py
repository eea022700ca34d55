"""The samples of a run: what each training step sees, and what students are scored on.

A sample is a packed sequence, a sentence or an image, a row of an array: token ids with `batch.PADDING` after the
shorter texts, or pixels. `RunText` is the run of a teacher that reads text, `image_batches.RunImages` one of images.
"""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from transformers import PreTrainedTokenizerBase

from autodistil.config import RunConfig
from autodistil.data.batch import TARGETS, Batch, Inputs
from autodistil.data.images import ImageCorpus, ImageSubset
from autodistil.data.sequences import (
    PackedSequences,
    Sentences,
    batch_indices,
    length_grouped_indices,
)
from autodistil.data.tokens import (
    MIN_HELDOUT_TOKENS,
    TokenizedCorpus,
    TokenStream,
    special_affixes,
    tokenize_corpus,
)
from autodistil.errors import ConfigError, CorpusError
from autodistil.utils import Progress, kept_array

SENTENCES_PER_SEQUENCE = 4
"""Sentences in the place of one packed sequence: about as many tokens, at 128 a sequence. Of images as many."""
_DRAW_SEED = 0
"""Of the draws that a corpus and its settings alone decide."""

Samples = PackedSequences | Sentences | ImageSubset
"""Samples by number: `take(indices)` has them as its rows."""


@dataclass
class RunSamples(ABC):
    """The samples of a run, in an order that depends on the seed and the step alone.

    Args:
        config: sources, lengths, seed.
        inputs: how samples become inputs of the teacher.
        device: where batches go.
        progress: told what is read.
    """

    config: RunConfig
    inputs: Inputs
    device: torch.device
    progress: Progress
    targets_of: Callable[[np.ndarray], torch.Tensor] | None = field(default=None, kw_only=True)
    """Numbers of training samples -> their embeddings (samples, dim) by an output teacher; None where there is none."""
    rewrite: Callable[[int], np.ndarray] | None = field(default=None, kw_only=True)
    """Step -> its samples where a model wrote some of them; None where none does."""
    own_rows: Callable[[int], slice] = field(default=slice, kw_only=True)
    """Samples of a micro-batch -> which of them this process computes on, and so embeds by an output teacher; all."""
    unit: str = field(init=False)
    """What a sample is called: `sequences`, `sentences` or `images`."""
    heldout_limit: tuple[str, str] = field(init=False)
    """What limits the number of held-out samples, and what gives more of them, in words."""

    @property
    @abstractmethod
    def corpus(self) -> TokenizedCorpus | ImageCorpus:
        """All of them, read."""

    @property
    @abstractmethod
    def train(self) -> Samples:
        """Samples to train on."""

    @property
    @abstractmethod
    def heldout(self) -> Samples:
        """Samples that are never trained on."""

    @property
    @abstractmethod
    def tokens_a_step(self) -> int:
        """Tokens of a step's samples, on average."""

    @property
    def batch_size(self) -> int:
        """Samples per step that the configuration asks for.

        Raises:
            ConfigError: micro-batches do not divide it.
        """
        size = self._times(self.config.batch_size)
        if size % self.config.accumulate:
            raise ConfigError(
                f"accumulate = {self.config.accumulate} does not divide the {size} {self.unit} of a step; "
                "choose a divisor"
            )
        return size

    @property
    def num_heldout(self) -> int:
        """Samples that students are scored on."""
        return self._times(self.config.heldout_sequences)

    def _times(self, sequences: int) -> int:
        return sequences * (1 if self.unit == "sequences" else SENTENCES_PER_SEQUENCE)

    @cached_property
    def samples_a_step(self) -> int:
        """Different samples of a step: `batch_size`, or about all that a small corpus has.

        Raises:
            ConfigError: there are fewer than micro-batches.
        """
        there, parts = len(self.train), self.config.accumulate
        if there < parts:
            raise ConfigError(f"accumulate = {parts} is more than the corpus's {there} {self.unit}; choose fewer")
        samples = min(self.batch_size, there - there % parts)
        if samples < self.batch_size:
            self.progress.say(
                f"the corpus has {there:,} different {self.unit} to train on: a step sees {samples:,} of them instead "
                f"of {self.batch_size:,}, each once"
            )
        return samples

    def step_indices(self, step: int) -> np.ndarray:
        """Which training samples a step sees, (samples_a_step,), each once."""
        return batch_indices(len(self.train), self.samples_a_step, step, self.config.seed)

    def step_samples(self, step: int) -> np.ndarray:
        """The samples of a training step: a function of the seed and the step alone."""
        return self.corpus_samples(step) if self.rewrite is None else self.rewrite(step)

    def corpus_samples(self, step: int) -> np.ndarray:
        """The samples of a training step as the corpus has them."""
        return self.train.take(self.step_indices(step))

    def micro_batches(self, step: int) -> Iterator[Batch]:
        """The samples of a training step as the micro-batches that it is cut into."""
        parts = (np.split(of, self.config.accumulate) for of in (self.step_indices(step), self.step_samples(step)))
        for numbers, samples in zip(*parts, strict=True):
            batch = self.inputs.batch(samples, self.device)
            yield batch if self.targets_of is None else {**batch, TARGETS: self._targets(numbers)}

    def _targets(self, numbers: np.ndarray) -> torch.Tensor:
        """Embeddings of samples by an output teacher, (samples, dim), with zeros for those that others compute on."""
        assert self.targets_of is not None
        rows = self.own_rows(len(numbers))
        own = self.targets_of(numbers[rows]).to(self.device)
        targets = own.new_zeros((len(numbers), own.shape[1]))
        targets[rows] = own
        return targets

    def sample(self, count: int) -> np.ndarray:
        """Some training samples (at most `count`), the same each time."""
        return self.train.take(self.sample_numbers(count))

    def sample_numbers(self, count: int) -> np.ndarray:
        """The numbers of these samples, (at most `count`,)."""
        return _drawn(self.train, count)

    def _draw(self, samples: Samples, count: int) -> np.ndarray:
        """At most `count` of the samples, whatever the seed: runs that differ in it are scored on the same."""
        return samples.take(_drawn(samples, count))

    def draw_heldout(self, path: Path) -> np.ndarray:
        """The samples to score students on, drawn once and kept at `path`, so that scores never change.

        Raises:
            CorpusError: there are too few.
            RunError: the file is damaged.
        """
        return kept_array(path, self._draw_heldout, "scores are of this text")

    def _draw_heldout(self) -> np.ndarray:
        there, wanted = len(self.heldout), self.num_heldout
        if there < wanted:
            limit, remedy = self.heldout_limit
            raise CorpusError(
                f"the corpus has {there} held-out {self.unit}{limit}, {wanted} are needed "
                f"(heldout_sequences = {self.config.heldout_sequences}); give {remedy}"
            )
        return self._draw(self.heldout, wanted)


def _drawn(samples: Samples, count: int) -> np.ndarray:
    """Numbers of at most `count` of the samples, whatever the seed."""
    return batch_indices(len(samples), count, 0, _DRAW_SEED)


@dataclass
class RunText(RunSamples):
    """The text of a run, as packed sequences or sentences.

    Args:
        tokenizer: the teacher's.
        sentences: samples are sentences instead of packed sequences.
        choose: sentences to train on -> which of them to take, numbers in rising order; all unless given.
        whole: the sentences are documents.
        known: sentences -> which of them there are for training and for scores, likewise; all unless given.
    """

    tokenizer: PreTrainedTokenizerBase
    sentences: bool
    choose: Callable[[Sentences], np.ndarray] | None = None
    whole: bool = False
    known: Callable[[Sentences], np.ndarray] | None = None

    def __post_init__(self) -> None:
        self.unit = "documents" if self.whole else "sentences" if self.sentences else "sequences"
        more = "more text, or lower heldout_sequences or --seq-len"
        self.heldout_limit = (f" of {self.config.seq_len} tokens at most", more)

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
        """Texts to train on; no sentence that is held out is among them."""
        if not self.sentences:
            return self._packed(self.corpus.train)
        texts = self._sentences(self.corpus.train, without=self._sentences(self.corpus.heldout))
        texts = texts if self.known is None else texts.only(self.known(texts))
        return texts if self.choose is None else texts.only(self.choose(texts))

    @property
    def choice(self) -> str | None:
        """Hash of which sentences were chosen; None where all are trained on."""
        chosen = self.train.chosen if isinstance(self.train, Sentences) else None
        return None if chosen is None else hashlib.sha256(chosen.astype("<i8").tobytes()).hexdigest()[:16]

    @cached_property
    def heldout(self) -> PackedSequences | Sentences:
        """Texts that are never trained on."""
        if not self.sentences:
            return self._packed(self.corpus.heldout)
        texts = self._sentences(self.corpus.heldout)
        return texts if self.known is None else texts.only(self.known(texts))

    def _sentences(self, stream: TokenStream, without: Sentences | None = None) -> Sentences:
        return Sentences(stream, self.config.seq_len, *special_affixes(self.tokenizer), without, whole=self.whole)

    def _packed(self, stream: TokenStream) -> PackedSequences:
        return PackedSequences(stream, self.config.seq_len, *special_affixes(self.tokenizer))

    @cached_property
    def tokens_a_step(self) -> int:
        """Tokens of a step's texts, on average."""
        mean = self.config.seq_len if isinstance(self.train, PackedSequences) else self.train.mean_length
        return round(self.samples_a_step * mean)

    def step_indices(self, step: int) -> np.ndarray:
        """Which training samples a step sees, (samples_a_step,), each once; sentences of like length together."""
        if isinstance(self.train, Sentences):
            return length_grouped_indices(self.train, self.samples_a_step, step, self.config.seed)
        return super().step_indices(step)

    def sample_sequences(self, count: int) -> np.ndarray:
        """Some packed sequences of the training text (at most `count`, seq_len), whatever the unit."""
        return self._draw(self._packed(self.corpus.train), count)
