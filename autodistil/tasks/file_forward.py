"""The file of another runtime in the place of a model's weights."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from autodistil.data.batch import Batch
from autodistil.formats import FORMATS
from autodistil.models.hf_folder import RUNTIME_FILES, EvaluatedModel, loading_errors

Forward = Callable[[Batch], Tensor]
"""inputs (batch, seq) -> last hidden states (batch, seq, hidden), or logits."""


def file_forward(model: EvaluatedModel) -> Forward:
    """The forward of a model's file, on one CPU thread.

    Raises:
        ProfileError: what runs it is not installed.
        TeacherError: it is damaged.
    """
    assert model.file is not None
    runtime = FORMATS[RUNTIME_FILES[Path(model.file).suffix]]
    runtime.check("cpu")
    with loading_errors(f"file {model.file!r} of model {model.source!r} cannot be read", "; export it again"):
        run = runtime.load(model.folder / model.file, 1, "cpu").run

    names = ["pixel_values"] if model.reads_images else ["input_ids", "attention_mask"]

    def forward(batch: Batch) -> Tensor:
        inputs = {name: batch[name].cpu().numpy() for name in names}
        return torch.from_numpy(run(inputs)).to(batch[names[0]].device)

    return forward
