"""A student in the formats that runtimes load, beside its Hugging Face files and where their libraries look for them.

`onnx/model.onnx` is what Optimum and sentence-transformers (`backend="onnx"`) open; `onnx/model_qint8.onnx` and
`openvino/openvino_model.xml` by their `file_name`. Every file is compared with PyTorch, on random ids and
on real text, before it is called done.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

import numpy as np
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from autodistil.errors import ExportError, suggest
from autodistil.formats.onnx import export_onnx, onnx_run
from autodistil.formats.onnx_int8 import quantise_onnx
from autodistil.formats.openvino import OpenVinoRuntime
from autodistil.formats.parity import Agreement, Case, Run, agreement, check_agreement, parity_cases, text_cases

ONNX, QUANTISED, OPENVINO = "onnx/model.onnx", "onnx/model_qint8.onnx", "openvino/openvino_model.xml"
_ROUNDS, _SHAPE = 30, (1, 128)
"""Of the comparison of the quantised file with the other one: (batch, tokens)."""


@dataclass(frozen=True)
class Deployable:
    """One more format of a student."""

    format: str
    file: str
    """Within the student's folder."""
    size_mb: float
    """In 1e6 bytes, weights included."""
    agreement: Agreement
    """With PyTorch."""
    speed: float | None = None
    """Time of a forward over that of the float32 ONNX file, median of rounds in turns; of the quantised one only."""
    size_share: float | None = None
    """Its size over that of the float32 ONNX file."""
    text_cosine: float | None = None
    """Lowest cosine of a text's mean over its tokens with PyTorch's."""

    @property
    def line(self) -> str:
        """For the terminal and the model card."""
        exact = f"differs from PyTorch by {self.agreement.max_difference:.0e}"
        if self.speed is None:
            return f"`{self.file}`: {self.size_mb:.1f} MB, {exact}"
        batch, tokens = _SHAPE
        return (
            f"`{self.file}`: {self.size_mb:.1f} MB, {self.size_share:.2f} of float32's; cosine with PyTorch "
            f"{self.agreement.mean_cosine:.3f} (mean of tokens), {self.text_cosine:.3f} (lowest of a text's mean); "
            f"{self.speed:.2f} of float32's time here ({batch} x {tokens} tokens, one thread, {_ROUNDS} rounds)"
        )


def check_formats(formats: Sequence[str]) -> tuple[str, ...]:
    """The formats, each once.

    Raises:
        ExportError: one is unknown.
    """
    for name in formats:
        if name not in FORMATS:
            allowed = ", ".join(FORMATS)
            raise ExportError(f"format {name!r}{suggest(name, FORMATS)} is unknown; allowed: {allowed}")
    return tuple(dict.fromkeys(formats))


@dataclass(frozen=True)
class _Student:
    """What is written."""

    model: PreTrainedModel
    folder: Path
    cases: Sequence[Case]
    """What every file must answer as PyTorch does."""


def write_formats(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase | None, formats: Sequence[str], folder: Path
) -> list[Deployable]:
    """Write a student's further formats into its folder.

    Args:
        model: the student on the CPU, in eval mode.
        tokenizer: its tokenizer; None to compare on random ids alone.
        formats: keys of `FORMATS`; `hf` is what the folder is already.
        folder: the student's.

    Raises:
        ExportError: a format is unknown.
        ProfileError: a library is not installed; the message says how to install it.
        IntegrityError: a file computes something else.
    """
    writers = {name: writer for name in check_formats(formats) if (writer := FORMATS[name]) is not None}
    if not writers:
        return []
    student = _Student(
        model, folder, [*parity_cases(model), *([] if tokenizer is None else text_cases(model, tokenizer))]
    )
    exact = _onnx(student)  # the others are made from it
    written = [exact if name == "onnx" else writer(student) for name, writer in writers.items()]
    if "onnx" not in writers:
        source = folder / ONNX
        source.unlink()
        if not any(source.parent.iterdir()):
            source.parent.rmdir()
    return written


def _onnx(student: _Student) -> Deployable:
    path = student.folder / ONNX
    path.parent.mkdir(exist_ok=True)
    found = export_onnx(student.model, path, student.cases)
    path.chmod(0o644)
    return Deployable("onnx", ONNX, _size(path), found)


def _quantised(student: _Student) -> Deployable:
    source, target = student.folder / ONNX, student.folder / QUANTISED
    quantise_onnx(source, target)
    target.chmod(0o644)
    exact, rounded = onnx_run(source), onnx_run(target)
    found = check_agreement(agreement(rounded, student.cases), QUANTISED, quantised=True)
    config = student.model.config
    speed = _relative_time(rounded, exact, config.vocab_size, config.max_position_embeddings - 2)
    share, lowest = _size(target) / _size(source), lowest_text_cosine(rounded, student.cases)
    return Deployable("onnx-int8", QUANTISED, _size(target), found, speed, share, lowest)


def lowest_text_cosine(run: Run, cases: Sequence[Case]) -> float:
    """Lowest cosine of a text's mean over its real tokens, with PyTorch's: what a user of embeddings sees."""
    lowest = 1.0
    for case in cases:
        mask = case.attention_mask[..., None]
        ours, theirs = (
            (states * mask).sum(1) / mask.sum(1) for states in (run(case.input_ids, case.attention_mask), case.expected)
        )
        norms = np.linalg.norm(ours, axis=-1) * np.linalg.norm(theirs, axis=-1)
        lowest = min(lowest, float(((ours * theirs).sum(-1) / np.maximum(norms, 1e-12)).min()))
    return lowest


def _openvino(student: _Student) -> Deployable:
    OpenVinoRuntime.check("cpu")
    import openvino

    target = student.folder / OPENVINO
    target.parent.mkdir(exist_ok=True)
    openvino.save_model(openvino.convert_model(student.folder / ONNX), target, compress_to_fp16=False)
    found = check_agreement(agreement(OpenVinoRuntime(target, 1, "cpu").run, student.cases), OPENVINO)
    return Deployable("openvino", OPENVINO, _size(target) + _size(target.with_suffix(".bin")), found)


FORMATS: Mapping[str, Callable[[_Student], Deployable] | None] = MappingProxyType(
    {"hf": None, "sentence-transformers": None, "onnx": _onnx, "onnx-int8": _quantised, "openvino": _openvino}
)
"""Name -> what writes it; None for the Hugging Face folder, which is always written, with a
sentence-transformers pipeline where the teacher has one."""


def _size(path: Path) -> float:
    return path.stat().st_size / 1e6


def _relative_time(one: Run, other: Run, vocab_size: int, longest: int) -> float:
    """Time of `one` over that of `other`, median of rounds in which both take turns."""
    batch, tokens = _SHAPE
    shape = (batch, min(tokens, longest))
    ids = np.random.default_rng(0).integers(min(10, vocab_size - 1), vocab_size, shape)
    mask = np.ones_like(ids)
    ratios = []
    for _ in range(3 + _ROUNDS):
        times = []
        for run in (one, other):
            begun = time.perf_counter()
            run(ids, mask)
            times.append(time.perf_counter() - begun)
        ratios.append(times[0] / times[1])
    return statistics.median(ratios[3:])
