"""Output teachers: encoders of any family and tokenizer whose embeddings students learn, through a linear head.

Its embeddings of training texts are made when a step first needs them and kept on disk in half precision, a row a
sample, so that no text is read twice, whoever trains on it. It reads what the run's tokenizer reads: its ids as text.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from autodistil.data.batch import Batch, real_tokens
from autodistil.data.cache import default_cache_dir, key_of
from autodistil.data.tokens import decoded
from autodistil.errors import ConfigError, CorpusError, RunError, one_line
from autodistil.evaluation.embedding import Encoder, folder_encoder, unit
from autodistil.models.hf_folder import EvaluatedModel
from autodistil.models.pooling import pipeline_fingerprint, pool, read_prompts
from autodistil.models.teacher import Teacher
from autodistil.training.trainer import autocast
from autodistil.utils import atomic_path, check_sum, positive_number, split_weight


class Outputs(Protocol):
    """What embeds the samples of a run.

    An encoder of texts (`OutputTeacher`) or images (`output_images.ImageOutputTeacher`), or a file
    (`output_file.OutputFile`).
    """

    @property
    def weight(self) -> float:
        """Beside others."""

    @property
    def dim(self) -> int:
        """Width of its embeddings."""

    @property
    def fingerprint(self) -> str:
        """Of what decides its embeddings of given texts."""

    def embed(self, samples: np.ndarray) -> np.ndarray:
        """Embeddings of samples (texts, tokens), (texts, dim) of float32 and of length 1."""

    def targets(self, take: Callable[[np.ndarray], np.ndarray], count: int, key: Sequence[str]) -> Targets:
        """The same by numbers of samples.

        Args:
            take: numbers of samples -> the samples.
            count: samples there are.
            key: what decides which sample has which number.
        """


Targets = Callable[[np.ndarray], Tensor]
"""Numbers of samples -> their embeddings (samples, dim) of float32."""

HEAD_TEXTS = 1024
"""Training texts to which the head is fitted before training."""
_RIDGE = 1e-3
"""Of the mean square of a dimension."""
_HEAD = "output_head"


@dataclass(frozen=True)
class OutputTeacher:
    """An encoder of texts that come as ids of the run's tokenizer."""

    model: EvaluatedModel
    tokenizer: PreTrainedTokenizerBase
    """The run's."""
    device: torch.device
    length: int
    """Tokens after which it cuts a text."""
    precision: str = "fp32"
    """What it computes under, a key of `trainer.DTYPES`."""
    weight: float = 1.0
    """Beside other output teachers."""
    role: str = "document"
    """What it reads texts as, a key of `read_prompts`."""

    @cached_property
    def _encode(self) -> Encoder:
        return folder_encoder(self.model, self.device, self.length)

    @cached_property
    def prompt(self) -> str:
        """What it puts before each text."""
        return read_prompts(self.model.folder)[self.role]

    @cached_property
    def dim(self) -> int:
        """Width of its embeddings."""
        return int(self._encode([self.prompt + "a text"]).shape[1])

    @property
    def fingerprint(self) -> str:
        """Of what decides its embeddings of given texts."""
        pipeline = pipeline_fingerprint(self.model.folder)
        return key_of([self.model.fingerprint, pipeline, self.prompt, self.length, self.precision])[:16]

    def embed(self, samples: np.ndarray) -> np.ndarray:
        """Embeddings of samples (texts, tokens), (texts, dim) of float32 and of length 1."""
        texts = decoded(self.tokenizer, samples)
        with autocast(self.device, self.precision):
            return unit(self._encode([self.prompt + text for text in texts]).astype(np.float32))

    def targets(self, take: Callable[[np.ndarray], np.ndarray], count: int, key: Sequence[str]) -> OutputTargets:
        """Embeddings by numbers of samples, kept once they are made."""
        return OutputTargets(self, take, count, key)


@dataclass(frozen=True)
class OutputTeachers:
    """One output teacher, or several side by side: the space of all is theirs joined.

    With w_i adding up to 1, an embedding is that of each teacher times sqrt(w_i), one behind the other. So cosines
    there are the weighted means of the teachers' cosines.
    """

    teachers: Sequence[Outputs]

    @property
    def dim(self) -> int:
        """Width of the joined embeddings."""
        return sum(teacher.dim for teacher in self.teachers)

    @property
    def fingerprint(self) -> str:
        """Of what decides the joined embeddings of given texts."""
        if len(self.teachers) == 1:
            return self.teachers[0].fingerprint
        return key_of([f"{teacher.weight:g}*{teacher.fingerprint}" for teacher in self.teachers])[:16]

    def joined(self, parts: Sequence[Tensor]) -> Tensor:
        """Embeddings by each teacher, (texts, dim_i) of length 1, as one (texts, dim) of length 1."""
        total = sum(teacher.weight for teacher in self.teachers)
        scaled = [math.sqrt(one.weight / total) * part for one, part in zip(self.teachers, parts, strict=True)]
        return torch.cat(scaled, dim=1)

    def embed(self, samples: np.ndarray) -> Tensor:
        """Joined embeddings of samples (texts, tokens), (texts, dim) of float32."""
        return self.joined([torch.from_numpy(teacher.embed(samples)) for teacher in self.teachers])


def read_output_teacher(text: str) -> tuple[float, str]:
    """Read a weight and a model such as `mpnet-base` or `0.5*mpnet-base`.

    Raises:
        ConfigError: the weight is not above zero.
    """
    before, name = split_weight(text)
    weight = positive_number(before.removesuffix("*")) if before else 1.0
    if weight is None:
        raise ConfigError(f"output_teacher = {text!r}: its weight is no number above 0; give such as 2*{name}")
    return weight, name


@dataclass
class OutputTargets:
    """Embeddings of the training samples by an output teacher, kept beside the cache of tokens."""

    teacher: Outputs
    take: Callable[[np.ndarray], np.ndarray]
    """Numbers of samples -> the samples."""
    count: int
    """Samples there are."""
    key: Sequence[str]
    """What decides which sample has which number."""
    _rows: np.memmap | None = field(default=None, init=False, repr=False)
    _done: np.memmap | None = field(default=None, init=False, repr=False)

    def __call__(self, numbers: np.ndarray) -> Tensor:
        """Embeddings of samples by number, (samples, dim) of float32.

        Raises:
            CorpusError: the disk refuses.
        """
        rows, done = self._files()
        missing = np.unique(numbers[done[numbers] == 0])
        if len(missing):
            rows[missing] = self.teacher.embed(self.take(missing)).astype(np.float16)
            rows.flush()
            done[missing] = 1  # only what lies on disk counts
        return torch.from_numpy(np.asarray(rows[numbers], dtype=np.float32))

    def _files(self) -> tuple[np.memmap, np.memmap]:
        if self._rows is None or self._done is None:
            folder = default_cache_dir() / "outputs" / key_of([self.teacher.fingerprint, *self.key])
            try:
                folder.mkdir(parents=True, exist_ok=True)
                self._rows = _mapped(folder / "embeddings.f16", np.dtype(np.float16), (self.count, self.teacher.dim))
                self._done = _mapped(folder / "done.u8", np.dtype(np.uint8), (self.count,))
            except OSError as error:
                raise CorpusError(
                    f"embeddings of the output teacher cannot be kept in {str(folder)!r} ({error.strerror or error}); "
                    "free space there, or set AUTODISTIL_CACHE to another folder"
                ) from error
        return self._rows, self._done


def _mapped(path: Path, dtype: np.dtype, shape: tuple[int, ...]) -> np.memmap:
    """A file of zeros, or what another process has written of it; sparse where the disk can.

    Raises:
        CorpusError: it is there, and of another size.
    """
    size = dtype.itemsize * int(np.prod(shape))
    with open(path, "ab") as file:
        if file.tell() not in (0, size):
            raise CorpusError(f"{str(path)!r} has {file.tell()} bytes, not {size}; remove it, and it is made again")
        file.truncate(size)
    return np.memmap(path, dtype=dtype, mode="r+", shape=shape)


def fitted_head(teacher: Teacher, batches: Sequence[Batch], targets: Sequence[Tensor]) -> Tensor:
    """The map (dim, hidden) from a teacher's embeddings to those of an output teacher, by ridge regression.

    Args:
        teacher: in the order that students are slices of.
        batches: texts.
        targets: their embeddings by the output teacher, (texts, dim) a batch.
    """
    ours, theirs = torch.cat([embeddings(teacher, batch) for batch in batches]).double(), torch.cat(list(targets))
    gram = ours.T @ ours
    gram.diagonal().add_(_RIDGE * gram.diagonal().mean())
    return torch.linalg.solve(gram, ours.T @ theirs.to(ours)).T.float()


def save_head(head: Tensor, path: Path) -> None:
    """Keep a head, whole or not at all, so that it never changes."""
    with atomic_path(path, summed=True) as temporary:
        save_file({_HEAD: head.cpu().contiguous()}, temporary)


def load_head(path: Path) -> Tensor:
    """Read what `save_head` wrote.

    Raises:
        RunError: damaged.
    """
    try:
        check_sum(path)
        return load_file(path)[_HEAD]
    except (SafetensorError, OSError, KeyError, ValueError) as error:
        reason = f"is damaged ({one_line(error, 100)}); restore it, or give another --run folder"
        raise RunError(f"head of outputs {str(path)!r} {reason}") from error


@torch.no_grad()
def embeddings(teacher: Teacher, batch: Batch) -> Tensor:
    """What a teacher pools of texts, (texts, hidden); the mean where it does not say."""
    states = teacher.states(batch, output=True)
    assert states.output is not None
    return pool(teacher.pooling, states.output, states.pooled, real_tokens(batch))
