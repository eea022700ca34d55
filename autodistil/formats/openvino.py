"""What runs an extracted student when it is timed, and how: one class a runtime, its library imported in the instance.

Float32 throughout, except for `onnx-int8`. Each gets ids and a mask of ones, as an application would pass them.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from autodistil.formats.format import Ids, Runtime


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
