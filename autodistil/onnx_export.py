"""A student as an ONNX file: one graph for all batch sizes and lengths, compared with PyTorch before it is called done.

Exported with `torch.onnx.export(dynamo=True)` at opset 20 (the first with a `Gelu` operator). Inputs are `input_ids`
and `attention_mask` (batch, sequence), the output is `last_hidden_state` (batch, sequence, hidden): the names that
Hugging Face uses.
"""

from __future__ import annotations

import importlib
import logging
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from autodistil.errors import ProfileError
from autodistil.files import atomic_path
from autodistil.parity import Agreement, Case, Run, agreement, check_agreement

OPSET = 20
INSTALL = "pip install 'autodistil[onnx]'"
SHAPES = ((1, 1), (2, 16), (3, 7), (1, 33))
"""(batch, sequence) at which outputs are compared; sequences after the first of a batch end in padding."""
TEXTS = (
    "Where can I return a parcel?",
    "The committee, which had met twice that week, put the decision off until the figures for March were in.",
    "Neural networks with fewer layers answer sooner.",
    "42 % of 1,250 is 525; so is 0.42 * 1250.",
)
"""Real text of several lengths."""


def export_onnx(model: PreTrainedModel, path: Path, cases: Sequence[Case] | None = None) -> Agreement:
    """Write a model to an ONNX file, whole and checked or not at all.

    Args:
        model: an encoder on the CPU, in eval mode.
        path: of the file.
        cases: what it must answer as PyTorch does; `parity_cases` unless given.

    Returns:
        How close ONNX Runtime comes to PyTorch.

    Raises:
        ProfileError: onnx, onnxscript or onnxruntime is not installed.
        IntegrityError: the outputs differ.
        RunError: the disk refuses.
    """
    for library in ("onnx", "onnxscript", "onnxruntime"):
        require(library)
    program = _export(model)
    with atomic_path(path) as temporary:
        program.save(str(temporary), external_data=False)
        found = agreement(onnx_run(temporary), parity_cases(model) if cases is None else cases)
        return check_agreement(found, f"the ONNX export {path.name!r}")


def quantise_onnx(source: Path, target: Path) -> Path:
    """Quantise the weights of an ONNX file to 8 bits, one scale a channel; activations at run time (dynamic).

    Unlike one scale a matrix, that bears the few large weights of Transformers: a cosine of 0.985 with float32, not
    0.945, on all-MiniLM-L6-v2.

    Raises:
        ProfileError: onnx or onnxruntime is not installed.
        RunError: the disk refuses.
    """
    require("onnx")
    quantization = require("onnxruntime.quantization")
    with atomic_path(target) as temporary, _quiet():
        quantization.quantize_dynamic(source, temporary, weight_type=quantization.QuantType.QInt8, per_channel=True)
    return target


@torch.no_grad()
def text_cases(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> list[Case]:
    """Real text, alone and as a padded batch, with the model's own answers."""
    longest = model.config.max_position_embeddings - 2
    cases = []
    for texts in ([TEXTS[0]], list(TEXTS)):
        inputs = tokenizer(texts, padding=True, truncation=True, max_length=longest, return_tensors="pt")
        ids, mask = inputs["input_ids"], inputs["attention_mask"]
        expected = model(input_ids=ids, attention_mask=mask).last_hidden_state
        cases.append(Case(ids.numpy(), mask.numpy(), expected.float().numpy()))
    return cases


@torch.no_grad()
def parity_cases(model: PreTrainedModel) -> list[Case]:
    """Random ids at several shapes, some with padding, with the model's own answers."""
    generator = torch.Generator().manual_seed(0)
    longest = model.config.max_position_embeddings - 2  # RoBERTa keeps the first positions for padding
    cases = []
    for batch, seq_len in SHAPES:
        length = min(seq_len, longest)
        ids = torch.randint(
            min(10, model.config.vocab_size - 1), model.config.vocab_size, (batch, length), generator=generator
        )
        mask = torch.ones_like(ids)
        mask[1:, (length + 1) // 2 :] = 0
        ids = ids.where(mask > 0, model.config.pad_token_id or 0)
        expected = model(input_ids=ids, attention_mask=mask).last_hidden_state
        cases.append(Case(ids.numpy(), mask.numpy(), expected.float().numpy()))
    return cases


def onnx_run(path: Path) -> Run:
    """An ONNX file as a function, on one CPU thread."""
    runtime = require("onnxruntime")
    options = runtime.SessionOptions()
    options.intra_op_num_threads = 1
    session = runtime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])

    def run(ids: NDArray[np.int64], mask: NDArray[np.int64]) -> NDArray[np.float32]:
        return cast(NDArray[np.float32], session.run(None, {"input_ids": ids, "attention_mask": mask})[0])

    return run


def require(module: str) -> Any:
    """A module of the extra `onnx`.

    Raises:
        ProfileError: it is not installed, with the line that installs it.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        library = module.partition(".")[0]
        raise ProfileError(f"ONNX needs {library}, which is not installed; run: {INSTALL}") from error


class _LastHiddenState(nn.Module):
    """The encoder without what else Hugging Face returns (a pooler that is not in the file would be random)."""

    def __init__(self, encoder: nn.Module) -> None:
        super().__init__()
        self.encoder = encoder

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """(batch, sequence) twice -> (batch, sequence, hidden)."""
        return cast(Tensor, self.encoder(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state)


def _export(model: PreTrainedModel) -> Any:
    ids = torch.ones(2, 8, dtype=torch.long)
    axes = {0: "batch", 1: "sequence"}
    with _quiet(), torch.no_grad():
        return torch.onnx.export(
            _LastHiddenState(model).eval(),
            (ids, torch.ones_like(ids)),
            dynamo=True,
            opset_version=OPSET,
            input_names=["input_ids", "attention_mask"],
            output_names=["last_hidden_state"],
            dynamic_shapes={"input_ids": axes, "attention_mask": axes},
            verbose=False,
        )


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep what the exporter and the quantiser say about themselves out of the terminal."""
    loggers = [logging.getLogger(), logging.getLogger("torch.onnx")]
    levels = [log.level for log in loggers]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            for log in loggers:
                log.setLevel(logging.ERROR)
            yield
        finally:
            for log, level in zip(loggers, levels, strict=True):
                log.setLevel(level)
