"""A student in the formats that runtimes load, beside its Hugging Face files and where their libraries look for them.

`onnx/model.onnx` is what Optimum and sentence-transformers (`backend="onnx"`) open; `onnx/model_qint8.onnx` and
`openvino/openvino_model.xml` by their `file_name`. Every file is compared with PyTorch before it is called done.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

import numpy as np
from transformers import PreTrainedModel

from autodistil.errors import ExportError, ProfileError, suggest
from autodistil.onnx_export import export_onnx, onnx_run, parity_cases, quantise_onnx
from autodistil.parity import Agreement, Run, agreement, check_agreement

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

    @property
    def line(self) -> str:
        """For the terminal and the model card."""
        exact = f"differs from PyTorch by {self.agreement.max_difference:.0e}"
        rounded = f"mean cosine of tokens with PyTorch {self.agreement.mean_cosine:.3f}"
        told = f"`{self.file}`: {self.size_mb:.1f} MB, {exact if self.speed is None else rounded}"
        if self.speed is None:
            return told
        batch, tokens = _SHAPE
        return (
            f"{told}, {self.speed:.2f} of float32's time here ({batch} x {tokens} tokens, one thread, {_ROUNDS} rounds)"
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


def write_formats(model: PreTrainedModel, formats: Sequence[str], folder: Path) -> list[Deployable]:
    """Write a student's further formats into its folder.

    Args:
        model: the student on the CPU, in eval mode.
        formats: keys of `FORMATS`; `hf` is what the folder is already.
        folder: the student's.

    Raises:
        ExportError: a format is unknown.
        ProfileError: a library is not installed; the message says how to install it.
        IntegrityError: a file computes something else.
    """
    writers = [writer for name in check_formats(formats) if (writer := FORMATS[name]) is not None]
    return [writer(model, folder) for writer in writers]


def _onnx(model: PreTrainedModel, folder: Path) -> Deployable:
    path = folder / ONNX
    path.parent.mkdir(exist_ok=True)
    found = export_onnx(model, path)
    path.chmod(0o644)
    return Deployable("onnx", ONNX, _size(path), found)


def _quantised(model: PreTrainedModel, folder: Path) -> Deployable:
    source, target = folder / ONNX, folder / QUANTISED
    alone = not source.is_file()
    if alone:
        _onnx(model, folder)
    quantise_onnx(source, target)
    target.chmod(0o644)
    exact, rounded = onnx_run(source), onnx_run(target)
    found = check_agreement(agreement(rounded, parity_cases(model)), QUANTISED, quantised=True)
    speed = _relative_time(rounded, exact, model.config.vocab_size, model.config.max_position_embeddings - 2)
    if alone:
        source.unlink()
    return Deployable("onnx-int8", QUANTISED, _size(target), found, speed)


def _openvino(model: PreTrainedModel, folder: Path) -> Deployable:
    try:
        import openvino
    except ImportError as error:
        raise ProfileError(
            "format 'openvino' needs openvino, which is not installed; run: pip install 'autodistil[onnx,openvino]'"
        ) from error
    source, target = folder / ONNX, folder / OPENVINO
    alone = not source.is_file()
    if alone:
        _onnx(model, folder)
    target.parent.mkdir(exist_ok=True)
    openvino.save_model(openvino.convert_model(source), target, compress_to_fp16=False)
    compiled = openvino.Core().compile_model(target, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    found = agreement(lambda ids, mask: compiled({"input_ids": ids, "attention_mask": mask})[0], parity_cases(model))
    check_agreement(found, OPENVINO)
    if alone:
        source.unlink()
        source.parent.rmdir()
    return Deployable("openvino", OPENVINO, _size(target) + _size(target.with_suffix(".bin")), found)


FORMATS: Mapping[str, Callable[[PreTrainedModel, Path], Deployable] | None] = MappingProxyType(
    {"hf": None, "onnx": _onnx, "onnx-int8": _quantised, "openvino": _openvino}
)
"""Name -> what writes it; None for the Hugging Face folder, which is always written."""


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
