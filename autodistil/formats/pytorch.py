"""PyTorch itself, on the Hugging Face folder of a student: eager, or compiled by Inductor."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from autodistil.formats.format import Format, Origin, Runtime
from autodistil.formats.inputs import Inputs


class TorchRuntime(Runtime):
    """PyTorch, eager, scaled-dot-product attention."""

    queued = True

    def __init__(self, path: Path, threads: int, device: str) -> None:
        import torch
        from transformers import AutoModel

        torch.set_num_threads(threads)
        self.torch, self.device = torch, device
        model = AutoModel.from_pretrained(path, attn_implementation="sdpa").to(device).eval()
        for parameter in model.parameters():
            parameter.data.sum()  # they are pages of the file, in memory as soon as they are read, and once only
        self.forward: Callable[..., Any] = model

    def work(self, inputs: Inputs) -> Callable[[], Any]:
        """One forward; its inputs are on the device already."""
        tensors = {name: self.torch.from_numpy(array).to(self.device) for name, array in inputs.items()}

        def work() -> Any:
            with self.torch.inference_mode():
                return self.forward(**tensors).last_hidden_state

        return work

    def run(self, inputs: Inputs) -> NDArray[np.float32]:
        """Last hidden states (batch, seq, hidden)."""
        states: NDArray[np.float32] = self.work(inputs)().cpu().numpy()
        return states


class CompiledTorchRuntime(TorchRuntime):
    """PyTorch compiled by Inductor, once for each shape (needs a C++ compiler on a CPU)."""

    def __init__(self, path: Path, threads: int, device: str) -> None:
        super().__init__(path, threads, device)
        self.torch._dynamo.config.recompile_limit = 256
        self.forward = self.torch.compile(self.forward, dynamic=False)


def write_folder(origin: Origin, path: Path) -> None:
    """Save the model as Hugging Face does."""
    origin.model.save_pretrained(path)


TORCH = Format(write_folder, TorchRuntime, ("torch", "transformers"), "pip install autodistil")
TORCH_COMPILE = replace(TORCH, load=CompiledTorchRuntime)
