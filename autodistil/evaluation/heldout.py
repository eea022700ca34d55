"""The task-agnostic proxy: a student's distillation loss on held-out text (AutoDistil, section 3.4)."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, partial

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from autodistil.data.batch import Batch, lengths, real_tokens
from autodistil.models.attention import ModelStates
from autodistil.models.retokenised import Reading, Spellings, fitting_length, read
from autodistil.models.superlm import SuperLM
from autodistil.models.teacher import Teacher
from autodistil.objectives.objective import Objective
from autodistil.space.student import Candidate, StudentConfig

BLOCK_SIZE = 16
"""Texts of a block, after each of which a race may stop a student; a part of the measure where an objective compares
texts with each other."""
BATCH_SIZE = 8
"""Texts of a block that go through a model together: those of like length, so that little is padding."""


def block_sizes(texts: np.ndarray) -> list[int]:
    """Texts of each block of held-out texts (texts, tokens)."""
    starts = range(0, len(texts), BLOCK_SIZE)
    return [min(BLOCK_SIZE, len(texts) - start) for start in starts]


def text_fingerprint(texts: np.ndarray) -> str:
    """Hash of held-out texts in their order and blocks: losses on other ones do not compare."""
    digest = hashlib.sha256(repr((texts.shape, texts.dtype.str, BLOCK_SIZE)).encode())
    digest.update(np.ascontiguousarray(texts).tobytes())
    return digest.hexdigest()[:16]


@dataclass(frozen=True)
class HeldOut:
    """Held-out batches with the teacher's states, computed once for all students of one vocabulary."""

    batches: Sequence[Batch]
    teacher_states: Sequence[ModelStates]
    objective: Objective
    rows: Sequence[NDArray[np.int64]]
    """Which texts each batch holds."""
    readings: Sequence[Reading] = ()
    """The batches as students read them, where those have a pruned vocabulary."""

    @classmethod
    def build(
        cls,
        teacher: Teacher,
        texts: np.ndarray,
        objective: Objective,
        layer: int | None = None,
        spellings: Spellings | None = None,
        outputs: tuple[Tensor, Tensor] | None = None,
    ) -> HeldOut:
        """Run the teacher once.

        Args:
            teacher: the frozen teacher.
            texts: token ids (texts, tokens), shorter ones filled up with `batch.PADDING`; or pixels.
            objective: what is measured.
            layer: teacher layer to distil, the last unless given.
            spellings: of the tokens that the students do not know; None where they know all. Texts that this makes
                longer than the model allows are cut, for the teacher too.
            outputs: embeddings of the texts by an output teacher, (texts, dim), and the map (dim, hidden) of the
                teacher into its space.
        """
        if spellings is not None:
            texts = texts[:, : fitting_length(texts, spellings, teacher.max_length)]
        blocks = np.split(np.arange(len(texts)), np.cumsum(block_sizes(texts))[:-1])
        by_length = [block[np.argsort(lengths(texts[block]), kind="stable")] for block in blocks]
        rows = [part for block in by_length for part in np.split(block, range(BATCH_SIZE, len(block), BATCH_SIZE))]
        batches = [teacher.inputs.batch(texts[part], teacher.model.device) for part in rows]
        output, hidden = objective.needs_output, objective.needs_hidden
        states = [teacher.states(batch, layer, output, hidden).for_many() for batch in batches]
        if outputs is not None:
            targets, head = outputs
            states = [replace(s, targets=targets[part], output_head=head) for s, part in zip(states, rows, strict=True)]
        readings = [] if spellings is None else [read(batch, spellings, teacher.padding_id) for batch in batches]
        return cls(batches, states, objective, rows, readings)

    @torch.no_grad()
    def losses_of(self, forward: Callable[[Batch], ModelStates], block: int) -> NDArray[np.float64]:
        """Losses of the texts of a block, (texts,), in their order; their mean is the loss of the block.

        Args:
            forward: a batch, in the teacher's numbering of tokens -> a model's states.
            block: number of the block.
        """
        numbers = [number for number, rows in enumerate(self.rows) if rows.min() // BLOCK_SIZE == block]
        parts = []
        for number in numbers:
            batch, reading = self.batches[number], self.readings[number] if self.readings else None
            states = reading.of_tokens(forward(reading.batch)) if reading else forward(batch)
            parts.append((states, self.teacher_states[number], real_tokens(batch)))
        losses = self.objective.text_losses(parts).double().cpu().numpy()
        return np.asarray(losses[np.argsort(np.concatenate([self.rows[number] for number in numbers]))])

    def mean_of(self, forward: Callable[[Batch], ModelStates]) -> float:
        """Mean loss of a model over all held-out texts; see `losses_of`."""
        blocks = range(1 + int(self.rows[-1].min()) // BLOCK_SIZE)
        return float(np.concatenate([self.losses_of(forward, block) for block in blocks]).mean())

    def loss(self, superlm: SuperLM, student: StudentConfig) -> float:
        """Mean loss of a student over all held-out texts."""
        return self.mean_of(self.forward_of(superlm, student))

    def forward_of(self, superlm: SuperLM, student: StudentConfig) -> Callable[[Batch], ModelStates]:
        """The forward of a student, with what the objective needs."""
        weights = superlm.weights(student)
        output, hidden = self.objective.needs_output, self.objective.needs_hidden
        return lambda batch: superlm.forward(student, batch, weights, output, hidden)


@dataclass
class HeldOutScorer:
    """Scores students by their distillation loss on held-out text; what it needs is read when first needed.

    Args:
        read_heldout: size of a pruned vocabulary, or None -> held-out text as students with it read it.
        superlm_of: name of a sub-space -> its trained SuperLM.
    """

    read_heldout: Callable[[int | None], HeldOut]
    superlm_of: Callable[[str], SuperLM]
    _heldout: dict[int | None, HeldOut] = field(default_factory=dict, init=False, repr=False)

    def heldout(self, vocab_size: int | None = None) -> HeldOut:
        """Held-out text as students with such a vocabulary read it, read once."""
        if vocab_size not in self._heldout:
            self._heldout[vocab_size] = self.read_heldout(vocab_size)
        return self._heldout[vocab_size]

    def heldout_for(self, student: StudentConfig) -> HeldOut:
        """Held-out text as a student reads it."""
        return self.heldout(student.vocab_size)

    def loss(self, superlm: SuperLM, student: StudentConfig) -> float:
        """Mean loss over all held-out texts of a student of any SuperLM."""
        return self.heldout_for(student).loss(superlm, student)

    def blocks_of(self, candidate: Candidate) -> Callable[[int], NDArray[np.float64]]:
        """Number of a block -> losses of its texts (texts,) for a candidate in its trained SuperLM."""
        heldout = self.heldout_for(candidate.config)
        return partial(heldout.losses_of, heldout.forward_of(self.superlm_of(candidate.sub_space), candidate.config))

    @cached_property
    def teacher_loss(self) -> float:
        """The mean loss of the teacher against itself.

        0 but for what looks at the next token, at an output teacher, at early layers or at a part of the dimensions.
        """
        heldout = self.heldout()
        own = [replace(states, targets=None) for states in heldout.teacher_states]
        by_batch = dict(zip(map(id, heldout.batches), own, strict=True))
        return heldout.mean_of(lambda batch: by_batch[id(batch)])

    @property
    def teacher_perplexity(self) -> float:
        """The perplexity of a decoder, where the loss is that of the next token."""
        return math.exp(self.teacher_loss)

    def loaded(self, candidates: Iterable[Candidate]) -> HeldOutScorer:
        """One that holds all that these need, so that it can be sent to another machine."""
        candidates = list(candidates)
        superlms = {name: self.superlm_of(name) for name in dict.fromkeys(one.sub_space for one in candidates)}
        heldout = {size: self.heldout(size) for size in dict.fromkeys(one.config.vocab_size for one in candidates)}
        return HeldOutScorer(heldout.__getitem__, superlms.__getitem__)
