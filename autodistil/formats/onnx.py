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
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from numpy.typing import NDArray

from autodistil.errors import ProfileError
from autodistil.formats.format import Ids, Runtime
from autodistil.formats.parity import Agreement, Case, Run, agreement, check_agreement, parity_cases
from autodistil.utils import atomic_path

if TYPE_CHECKING:
    from transformers import PreTrainedModel

OPSET = 20
INSTALL = "pip install 'autodistil[onnx]'"


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


def _export(model: PreTrainedModel) -> Any:
    """The graph of a model, without what else Hugging Face returns (a pooler not in the file would be random)."""
    import torch  # the runner for phones holds this file too

    class LastHiddenState(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.encoder = model

        def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
            """(batch, sequence) twice -> (batch, sequence, hidden)."""
            return cast(
                torch.Tensor, self.encoder(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state
            )

    ids = torch.ones(2, 8, dtype=torch.long)
    axes = {0: "batch", 1: "sequence"}
    with _quiet(), torch.no_grad():
        return torch.onnx.export(
            LastHiddenState().eval(),
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


class OnnxRuntime(Runtime):
    """ONNX Runtime, float32, all graph optimisations."""

    libraries = ("onnxruntime",)
    install = "pip install 'autodistil[onnx]'"
    artefact = "onnx"

    def __init__(self, path: Path, threads: int, device: str) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
        # Threads that spin after a forward would take the processor from the reference kernel.
        options.add_session_config_entry("session.force_spinning_stop", "1")
        provider = "CUDAExecutionProvider" if device == "cuda" else "CPUExecutionProvider"
        self.session: Any = onnxruntime.InferenceSession(str(path), options, providers=[provider])

    def run(self, ids: Ids, mask: Ids) -> NDArray[np.float32]:
        """Last hidden states (batch, seq, hidden)."""
        states: NDArray[np.float32] = self.session.run(None, {"input_ids": ids, "attention_mask": mask})[0]
        return states

    @classmethod
    def check_cuda(cls) -> None:
        """Refuse a build without CUDA."""
        if "CUDAExecutionProvider" not in importlib.import_module("onnxruntime").get_available_providers():
            raise ProfileError(
                "device: got 'cuda', which this onnxruntime has no provider for; "
                "run: pip install onnxruntime-gpu, or use --device cpu"
            )
        super().check_cuda()
