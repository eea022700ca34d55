"""What runs an extracted student when it is timed, and how: one class a runtime, its library imported in the instance.

Float32 throughout, except for `onnx-int8`. Each gets ids and a mask of ones, as an application would pass them.
"""

from __future__ import annotations

import importlib
import importlib.metadata
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from autodistil.errors import ProfileError
from autodistil.profiling.reference import cuda_timed
from autodistil.profiling.setting import check_runtime
from autodistil.profiling.stopwatch import Call

Ids = NDArray[np.int64]


class Runtime(ABC):
    """A student loaded into a runtime.

    Args:
        path: the artefact that it loads.
        threads: of the CPU.
        device: `cpu` or `cuda`.
    """

    libraries: ClassVar[tuple[str, ...]]
    """Distributions that it needs; their versions go into the table."""
    install: ClassVar[str]
    """The line that installs them."""
    artefact: ClassVar[str]
    """What it loads: `folder` (Hugging Face), `onnx` or `onnx-int8`."""
    devices: ClassVar[tuple[str, ...]] = ("cpu", "cuda")

    @abstractmethod
    def __init__(self, path: Path, threads: int, device: str) -> None: ...

    @abstractmethod
    def run(self, ids: Ids, mask: Ids) -> NDArray[np.float32]:
        """Last hidden states (batch, seq, hidden)."""

    def call(self, ids: Ids) -> Call:
        """One forward of these ids, without padding, for the stopwatch."""
        mask = np.ones_like(ids)

        def call() -> None:
            self.run(ids, mask)

        return call

    @classmethod
    def check(cls, device: str) -> None:
        """Import the libraries, and look for the device.

        Raises:
            ProfileError: one of them is not there.
        """
        for library in cls.libraries:
            try:
                importlib.import_module(library)
            except ImportError as error:
                raise ProfileError(
                    f"this runtime needs {library}, which is not installed; run: {cls.install}"
                ) from error
        if device not in cls.devices:
            raise ProfileError(f"device: got {device!r}; this runtime knows: {', '.join(cls.devices)}; choose one")
        if device == "cuda":
            cls.check_cuda()

    @classmethod
    def check_cuda(cls) -> None:
        """Refuse a machine without a CUDA device; PyTorch names it."""
        try:
            torch = importlib.import_module("torch")
        except ImportError:
            raise ProfileError("device: got 'cuda', which only PyTorch's build finds; use --device cpu") from None
        if not torch.cuda.is_available():
            raise ProfileError("device: got 'cuda', which is not available here; allowed here: cpu; use --device cpu")

    @classmethod
    def versions(cls) -> dict[str, str]:
        """Of its libraries."""
        return {library: importlib.metadata.version(library) for library in cls.libraries}


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


class QuantisedOnnxRuntime(OnnxRuntime):
    """ONNX Runtime, weights of 8 bits, activations quantised at run time."""

    artefact = "onnx-int8"


class OpenVinoRuntime(Runtime):
    """OpenVINO, float32, tuned for latency."""

    libraries = ("openvino",)
    install = "pip install 'autodistil[onnx,openvino]'"
    artefact = "onnx"
    devices = ("cpu",)

    def __init__(self, path: Path, threads: int, device: str) -> None:
        import openvino

        # Without the last hint, processors with bfloat16 would compute in that.
        options = {
            "PERFORMANCE_HINT": "LATENCY",
            "INFERENCE_NUM_THREADS": threads,
            "NUM_STREAMS": 1,
            "INFERENCE_PRECISION_HINT": "f32",
        }
        self.model: Any = openvino.Core().compile_model(str(path), "CPU", options)

    def run(self, ids: Ids, mask: Ids) -> NDArray[np.float32]:
        """Last hidden states (batch, seq, hidden)."""
        states: NDArray[np.float32] = self.model({"input_ids": ids, "attention_mask": mask})[0]
        return states


RUNTIMES: Mapping[str, type[Runtime]] = MappingProxyType(
    {
        "torch": TorchRuntime,
        "torch-compile": CompiledTorchRuntime,
        "onnx": OnnxRuntime,
        "onnx-int8": QuantisedOnnxRuntime,
        "openvino": OpenVinoRuntime,
    }
)


def runtime_named(name: str) -> type[Runtime]:
    """The class of a runtime.

    Raises:
        ProfileError: there is none of that name.
    """
    return RUNTIMES[check_runtime(name, RUNTIMES)]
