"""What runs an extracted student when it is timed, and how: one class a runtime, its library imported in the instance.

Float32 throughout, except for `onnx-int8`. Each gets ids and a mask of ones, as an application would pass them.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from autodistil.formats.format import Ids, Runtime
from autodistil.profiling.stopwatch import Call, cuda_timed


class TorchRuntime(Runtime):
    """PyTorch, eager, scaled-dot-product attention."""

    libraries = ("torch", "transformers")
    install = "pip install autodistil"
    artefact = "folder"

    def __init__(self, path: Path, threads: int, device: str) -> None:
        import torch
        from transformers import AutoModel

        torch.set_num_threads(threads)
        self.torch, self.device = torch, device
        model = AutoModel.from_pretrained(path, attn_implementation="sdpa").to(device).eval()
        for parameter in model.parameters():
            parameter.data = parameter.data.clone()  # memory of its own; before, pages of the file as they are touched
        self.forward: Callable[..., Any] = model

    def run(self, ids: Ids, mask: Ids) -> NDArray[np.float32]:
        """Last hidden states (batch, seq, hidden)."""
        states: NDArray[np.float32] = self._work(ids, mask)().cpu().numpy()
        return states

    def call(self, ids: Ids) -> Call:
        """One forward; on CUDA timed by events, its inputs there already."""
        work = self._work(ids, np.ones_like(ids))
        if self.device == "cuda":
            return cuda_timed(work)

        def call() -> None:
            work()

        return call

    def _work(self, ids: Ids, mask: Ids) -> Callable[[], Any]:
        inputs = [self.torch.from_numpy(array).to(self.device) for array in (ids, mask)]

        def work() -> Any:
            with self.torch.inference_mode():
                return self.forward(input_ids=inputs[0], attention_mask=inputs[1]).last_hidden_state

        return work


class CompiledTorchRuntime(TorchRuntime):
    """PyTorch compiled by Inductor, once for each shape (needs a C++ compiler on a CPU)."""

    def __init__(self, path: Path, threads: int, device: str) -> None:
        super().__init__(path, threads, device)
        self.torch._dynamo.config.recompile_limit = 256
        self.forward = self.torch.compile(self.forward, dynamic=False)
