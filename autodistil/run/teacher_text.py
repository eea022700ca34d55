"""Training text that the teacher writes, kept in the run folder: students then learn on what they are to imitate.

Of each step a share of the sequences keep their first tokens, and the teacher writes the rest (sequence-level knowledge
distillation, Kim & Rush, arXiv 1606.07947; self-data distillation, Thangarasa et al., arXiv 2410.09982). Departures: it
samples, where Kim & Rush search the likeliest text. Thangarasa et al. have it rewrite the answers of instructions and
keep those that are still right; plain text has no answer to compare with, so all that it writes is kept.

Texts are written some steps ahead, as many at a time are quicker, and once: a training that is resumed, another
SuperLM or a refinement reads them again.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch

from autodistil.config import RunConfig
from autodistil.models.generation import rewritten
from autodistil.models.teacher import Teacher
from autodistil.training.trainer import autocast
from autodistil.utils import Progress, evenly, kept_array

BLOCK = 8
"""Steps whose texts are written together, and kept in one file."""


@dataclass
class TeacherText:
    """The texts of steps, some of them written by the teacher.

    Args:
        config: says which share of them, and the seed.
        teacher: a decoder.
        texts_of: step -> its texts as they were, ids (texts, tokens).
        folder: where what is written is kept.
        progress: told once how long it takes.
    """

    config: RunConfig
    teacher: Teacher
    texts_of: Callable[[int], np.ndarray]
    folder: Path
    progress: Progress
    _last: tuple[int, np.ndarray] | None = field(default=None, init=False)

    def __call__(self, step: int) -> np.ndarray:
        """The texts of a step, ids (texts, tokens): a function of the seed and the step alone.

        Raises:
            RunError: a file is damaged.
        """
        texts, first = self.texts_of(step), step - step % BLOCK
        rows = self._rows(step, len(texts))
        if self._last is None or self._last[0] != first:
            path = self.folder / f"{first:08}.npy"
            self._last = first, kept_array(path, lambda: self._write(first), "it was trained on")
        before = sum(len(self._rows(one, len(texts))) for one in range(first, step))
        texts = texts.copy()
        texts[rows] = self._last[1][before : before + len(rows)]
        return texts

    def _rows(self, step: int, there: int) -> np.ndarray:
        """Which texts of a step the teacher writes."""
        share = self.config.teacher_text * there
        count = evenly(share, step) - evenly(share, step - 1)
        return np.sort(np.random.default_rng([self.config.seed, step]).permutation(there)[:count])

    def _write(self, first: int) -> np.ndarray:
        """Write those of the steps from `first` on."""
        begun, model = time.monotonic(), self.teacher.model
        steps = {step: self.texts_of(step) for step in range(first, first + BLOCK)}
        texts = np.concatenate([texts[self._rows(step, len(texts))] for step, texts in steps.items()])
        if not len(texts):
            return texts
        (seed,) = np.random.SeedSequence([self.config.seed, first]).generate_state(1)
        generator = torch.Generator(model.device).manual_seed(int(seed))
        assert self.teacher.head is not None
        with autocast(model.device, self.config.precision):
            ids = torch.from_numpy(texts).to(model.device)
            found: np.ndarray = rewritten(model, self.teacher.head, ids, generator).cpu().numpy()
        if self._last is None:
            took = time.monotonic() - begun
            self.progress.say(
                f"the teacher wrote the ends of {len(texts)} texts of {texts.shape[1]} tokens in {took:,.1f} s: "
                f"they do for {BLOCK} steps"
            )
        return found
