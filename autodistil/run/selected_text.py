"""The part of a run's sentences that is trained on, chosen once and kept in the run folder."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch

from autodistil.config import RunConfig
from autodistil.data.batch import real_tokens
from autodistil.data.selection import Pool, select
from autodistil.data.sequences import Sentences
from autodistil.models.pooling import pool
from autodistil.models.teacher import Teacher
from autodistil.training.trainer import autocast
from autodistil.utils import Progress, kept_array

_BATCH = 64
"""Sentences that the teacher reads at a time."""


def selected_text(
    sentences: Sentences, config: RunConfig, teacher: Teacher, path: Path, progress: Progress
) -> np.ndarray:
    """Numbers of the sentences to train on, in rising order.

    Args:
        sentences: all that there are.
        config: says how to choose, and how many tokens.
        teacher: whose embeddings some choices go by; it reads all sentences for these.
        path: where the choice is kept.
        progress: told of it.

    Raises:
        RunError: the file is damaged.
    """
    name, tokens = config.select, config.tokens
    assert name is not None
    assert tokens is not None
    among = Pool(sentences, lambda: _embedded(sentences, config, teacher, progress))
    numbers = kept_array(path, lambda: select(name, among, tokens), "it says which text was trained on")
    taken, there = (int(np.diff(spans, axis=1).sum()) for spans in (sentences.spans[numbers], sentences.spans))
    progress.say(f"{name} text: {len(numbers):,} sentences with {taken:,} of {there:,} tokens")
    return numbers


@torch.no_grad()
def _embedded(
    sentences: Sentences, config: RunConfig, teacher: Teacher, progress: Progress
) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Numbers of sentences, the teacher's embeddings of them and those half way up its layers, of length 1."""
    by_length = np.argsort(np.diff(sentences.spans, axis=1)[:, 0], kind="stable")
    device = teacher.model.device
    with progress.track("reading text to choose from", len(by_length)) as advance:
        for rows in np.split(by_length, range(_BATCH, len(by_length), _BATCH)):
            batch = teacher.inputs.batch(sentences.take(rows), device)
            with autocast(device, config.precision):
                states = teacher.states(batch, output=True, hidden=True)
            ends = states.hidden[-1], states.hidden[max(0, len(states.hidden) // 2 - 1)]
            pooled = (pool(teacher.pooling, end, states.pooled, real_tokens(batch)) for end in ends)
            whole, half = (torch.nn.functional.normalize(one.float(), dim=-1).cpu().numpy() for one in pooled)
            yield rows, whole, half
            advance(len(rows))
