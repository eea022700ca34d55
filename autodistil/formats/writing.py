"""A student in further formats, beside its Hugging Face files and where the libraries of each look for them.

Optimum and sentence-transformers open them by their `file_name`. Every file is compared with PyTorch, on random inputs
and on real texts or images, before it is called done.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from autodistil.errors import ExportError, suggest
from autodistil.formats import FORMATS
from autodistil.formats.format import Embed, Format, Origin, files_of
from autodistil.formats.gguf import GGUF, check_gguf, write_gguf
from autodistil.formats.inputs import Inputs, Kind, inputs_of
from autodistil.formats.onnx import EMBEDDING, OnnxRuntime, onnx_file
from autodistil.formats.parity import (
    Case,
    Compute,
    Parity,
    agreement,
    check_agreement,
    cosines,
    image_cases,
    parity_cases,
    text_cases,
    written_case,
)

FOLDERS = ("hf", "sentence-transformers")
"""Formats that are the Hugging Face folder, which is always written, with a sentence-transformers pipeline where the
teacher has one."""
DECODER_FORMATS = ("hf", "onnx", "onnx-int8", *GGUF)
"""Formats of decoders."""
_ROUNDS = 30
"""Rounds of the timing of the quantised file against the float32 one."""
CALIBRATION_TEXTS = 64
"""Texts of which ranges of activations are taken, or images, less those that are compared; 300 texts are no better
(LOG.md)."""
_IMAGES_COMPARED = 8
_CALIBRATION_TOKENS = 128
"""Tokens after which such a text is cut."""


Text = str | tuple[str, str]
"""A text, or a pair of them."""


@dataclass(frozen=True)
class Deployable:
    """One more format of a student."""

    format: str
    file: str
    """Within the student's folder."""
    size_mb: float
    """Size in 1e6 bytes, weights included."""
    agreement: Parity
    """Agreement with PyTorch."""
    embedding: Parity | None = None
    """That of its output of embeddings, where it has one."""
    continued: Parity | None = None
    """That of a decoder's logits token by token through its cache, where it has one."""
    speed: float | None = None
    """Time of a forward over that of the float32 ONNX file, median of rounds in turns; of the quantised one only."""
    size_share: float | None = None
    """Size of the quantised file over that of the float32 ONNX file."""
    text_cosine: float | None = None
    """Lowest cosine of a text's mean over its tokens, of an image's class token, or of the classes' probabilities of a
    text or token, with PyTorch's."""
    classes: str | None = None
    """What its logits are of, where it has a head: `classes` or `next tokens`."""
    reads: Kind | None = None
    """What it was compared on, and timed with; of a quantised one only."""

    @property
    def line(self) -> str:
        """The format in words, for the terminal and the model card."""
        exact = f"differs from PyTorch by {self.agreement.max_difference:.0e}"
        if self.embedding is not None:
            exact += f", its `{EMBEDDING}` by {self.embedding.max_difference:.0e}"
        if self.continued is not None:
            exact += f", token by token through its cache by {self.continued.max_difference:.0e}"
        if self.text_cosine is None or self.reads is None:
            return f"`{self.file}`: {self.size_mb:.1f} MB, {exact}"
        inputs = self.reads.words(self.reads.usual())
        mean, lowest = ("mean", "lowest") if self.classes else ("mean of tokens", f"lowest of {self.reads.vector}")
        what = f"cosine of {self.classes}' probabilities" if self.classes else "cosine"
        said = (
            f"`{self.file}`: {self.size_mb:.1f} MB, {self.size_share:.2f} of float32's; {what} with PyTorch "
            f"{self.agreement.mean_cosine:.3f} ({mean}), {self.text_cosine:.3f} ({lowest})"
        )
        if self.continued is not None:
            said += f", {self.continued.mean_cosine:.3f} (mean, token by token through its cache)"
        if self.speed is None:
            return said
        return f"{said}; {self.speed:.2f} of float32's time here ({inputs}, one thread, {_ROUNDS} rounds)"


def format_files() -> tuple[str, ...]:
    """Formats with a file of their own."""
    return tuple(name for name, entry in FORMATS.items() if entry.file)


def check_formats(formats: Sequence[str], decoder: bool = False) -> tuple[str, ...]:
    """The formats, each once, if a decoder, or an encoder, has them.

    Raises:
        ExportError: one is unknown, or of the other kind.
        ProfileError: what writes one is not installed.
    """
    encoders = (*FOLDERS, *format_files())
    allowed, whose = (DECODER_FORMATS, "decoders") if decoder else (encoders, "encoders")
    for name in formats:
        if name not in (*encoders, *DECODER_FORMATS):
            raise ExportError(f"format {name!r}{suggest(name, allowed)} is unknown; allowed: {', '.join(allowed)}")
        if name not in allowed:
            raise ExportError(f"format {name!r} is not for {whose}; allowed: {', '.join(allowed)}; choose one")
        if name in FORMATS:
            FORMATS[name].check_writing()
        elif name in GGUF:
            check_gguf()
    return tuple(dict.fromkeys(formats))


def write_formats(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase | None,
    formats: Sequence[str],
    folder: Path,
    embed: Embed | None = None,
    texts: Sequence[Text] = (),
    images: NDArray[np.float32] | None = None,
) -> list[Deployable]:
    """Write a student's further formats into its folder.

    Args:
        model: the student on the CPU, in eval mode.
        tokenizer: its tokenizer; None to compare on random inputs, or images, alone.
        formats: keys of `FORMATS` that have a file, or of `GGUF` where it is a decoder; those of `FOLDERS` are there
            already.
        folder: the student's.
        embed: what makes embeddings of its states, of a sentence encoder; a further output of the files.
        texts: such as it will read, of which ranges of activations are taken; the first `CALIBRATION_TEXTS`.
        images: such as it will read, (images, channels, height, width), in the place of texts; the last
            `_IMAGES_COMPARED` are compared, ranges are taken of the others.

    Raises:
        ExportError: a format is unknown, or none that this model has.
        ProfileError: a library is not installed; the message says how to install it.
        IntegrityError: a file computes something else.
    """
    further = [name for name in check_formats(formats, model.can_generate()) if name not in FOLDERS]
    if not further:
        return []
    cases: list[Case] = parity_cases(model) if images is None else image_cases(model, images[-_IMAGES_COMPARED:])
    samples: list[Inputs] = (
        [] if images is None else [{"pixel_values": image[None]} for image in images[:-_IMAGES_COMPARED]]
    )
    if tokenizer is not None:
        cases += text_cases(model, tokenizer)
        longest = min(_CALIBRATION_TOKENS, model.config.max_position_embeddings - 2)
        samples = [tokenised(tokenizer, text, longest) for text in texts[:CALIBRATION_TEXTS]]
    with tempfile.TemporaryDirectory(prefix="autodistil-formats-") as scratch:
        origin = Origin(model, cases, Path(scratch), embed, samples)
        return [
            _write_gguf(name, origin, tokenizer, folder)
            if name in GGUF
            else _write(name, FORMATS[name], origin, folder)
            for name in further
        ]


def tokenised(tokenizer: PreTrainedTokenizerBase, text: Text, longest: int) -> Inputs:
    """Ids and mask (1, seq) of a text or pair, cut to `longest` tokens."""
    pair = (text,) if isinstance(text, str) else text
    inputs = tokenizer(*pair, truncation=True, max_length=longest, return_tensors="np")
    return {name: inputs[name].astype(np.int64) for name in ("input_ids", "attention_mask")}


def _write(name: str, entry: Format, origin: Origin, folder: Path) -> Deployable:
    assert entry.file is not None
    path = folder / entry.file
    path.parent.mkdir(exist_ok=True)
    entry.write(origin, path)
    path.chmod(0o644)
    runtime = entry.load(path, 1, "cpu")
    run = runtime.run
    found = check_agreement(agreement(run, origin.cases), entry.file, entry.min_cosine)
    embedding = None
    if runtime.embeds and (cases := origin.embedding_cases):
        what = f"{EMBEDDING} of {entry.file}"
        embedding = check_agreement(agreement(runtime.embed, cases), what, entry.min_cosine)
    continued = None
    if origin.model.can_generate():
        cases, what = [*origin.cases, written_case(origin.model)], f"{entry.file}, token by token through its cache,"
        continued = check_agreement(agreement(runtime.continued, cases), what, entry.min_cosine)
    if entry.min_cosine is None:
        return Deployable(name, entry.file, _size(path), found, embedding, continued)
    exact, kind = onnx_file(origin), inputs_of(origin.model)
    speed = _relative_time(run, OnnxRuntime(exact).run, kind.usual())
    share, lowest = _size(path) / _size(exact), lowest_text_cosine(run, origin.cases)
    classes = _classes(origin.model)
    return Deployable(name, entry.file, _size(path), found, embedding, continued, speed, share, lowest, classes, kind)


def _write_gguf(name: str, origin: Origin, tokenizer: PreTrainedTokenizerBase | None, folder: Path) -> Deployable:
    assert tokenizer is not None, "a file for llama.cpp holds the tokenizer"
    run = write_gguf(name, origin.model, tokenizer, origin.cases, folder)
    entry, found = GGUF[name], agreement(run, origin.cases)
    size = _size(folder / entry.file)
    if not entry.max_error:
        return Deployable(name, entry.file, size, found)
    share = size / (origin.model.num_parameters() * 4 / 1e6)
    lowest, kind = lowest_text_cosine(run, origin.cases), inputs_of(origin.model)
    return Deployable(name, entry.file, size, found, None, None, None, share, lowest, _classes(origin.model), kind)


def _classes(model: PreTrainedModel) -> str | None:
    """What a model's logits are of, where it has a head."""
    if model.base_model is model:
        return None
    return "next tokens" if model.can_generate() else "classes"


def _size(path: Path) -> float:
    """The size of a file in 1e6 bytes, with the file of weights beside it if there is one."""
    return sum(file.stat().st_size for file in files_of(path)) / 1e6


def lowest_text_cosine(run: Compute, cases: Sequence[Case]) -> float:
    """Lowest cosine with PyTorch's of what a user sees: probabilities of classes, or `Case.vectors`."""
    lowest = 1.0
    for case in cases:
        answer = run(case.inputs)
        found = case.cosines(answer) if case.logits else cosines(*map(case.vectors, (answer, case.expected)))
        lowest = min(lowest, float(found.min()))
    return lowest


def _relative_time(one: Compute, other: Compute, inputs: Inputs) -> float:
    """Time of `one` over that of `other`, median of rounds in which both take turns."""

    def seconds(run: Compute) -> float:
        begun = time.perf_counter()
        run(inputs)
        return time.perf_counter() - begun

    ratios = [seconds(one) / seconds(other) for _ in range(3 + _ROUNDS)]
    return statistics.median(ratios[3:])
