"""OpenVINO on a CPU, float32, tuned for latency. It reads ONNX files too, and is measured on those."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from autodistil.errors import ProfileError
from autodistil.formats.format import Format, Origin, Runtime
from autodistil.formats.inputs import Inputs
from autodistil.formats.onnx import EMBEDDING, ONNX, WRITING, onnx_file
from autodistil.utils import optional_import

INSTALL = "pip install 'autodistil[onnx,openvino]'"


class OpenVinoRuntime(Runtime):
    """An OpenVINO or ONNX file, compiled."""

    embeds = True

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

    def work(self, inputs: Inputs) -> Callable[[], Any]:
        """One forward, padded or not."""
        return lambda: self.model(inputs)[0]

    def embed(self, inputs: Inputs) -> NDArray[np.float32]:
        """Sentence embeddings (batch, dim)."""
        found: NDArray[np.float32] = self.model(inputs)[EMBEDDING]
        return found


def write_openvino(origin: Origin, path: Path) -> None:
    """Convert the ONNX file of a student; its weights lie beside `path` in a .bin file."""
    openvino = optional_import("openvino", "this format", INSTALL, ProfileError)
    openvino.save_model(openvino.convert_model(onnx_file(origin)), path, compress_to_fp16=False)


_FILE = "openvino/openvino_model.xml"
OPENVINO = Format(
    write_openvino,
    OpenVinoRuntime,
    ("openvino",),
    INSTALL,
    writing=(*WRITING, "onnxruntime"),
    file=_FILE,
    measured=ONNX,
    devices=("cpu",),
)
