"""The ONNX file of a model in the place of its weights."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from autodistil.data.batch import Batch
from autodistil.formats.onnx import OnnxRuntime
from autodistil.models.hf_folder import EvaluatedModel, loading_errors

Forward = Callable[[Batch], Tensor]
"""inputs (batch, seq) -> last hidden states (batch, seq, hidden), or logits."""


def onnx_forward(model: EvaluatedModel) -> Forward:
    """The forward of a model's ONNX file, on one CPU thread."""
    assert model.file is not None
    with loading_errors(f"file {model.file!r} of model {model.source!r} cannot be read", "; export it again"):
        run = OnnxRuntime(model.folder / model.file).run

    def forward(batch: Batch) -> Tensor:
        inputs = {name: batch[name].cpu().numpy() for name in ("input_ids", "attention_mask")}
        return torch.from_numpy(run(inputs)).to(batch["attention_mask"].device)

    return forward
