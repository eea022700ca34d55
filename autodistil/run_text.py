"""What a run draws from, whatever its teacher reads: the protocol of `text.RunText` and `images.RunImages`."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Protocol

import numpy as np

from autodistil.config import RunConfig
from autodistil.errors import ConfigError, RunError
from autodistil.files import atomic_path
from autodistil.inputs import Batch


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
