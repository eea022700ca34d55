"""The forms in which a student runs outside of the engine: a file each, which holds what writes it and what runs it.

Float32 throughout, except for `onnx-int8`, `onnx-bits` and `openvino-int8`. Modules here import NumPy alone, and their
libraries where they are used: the runner for phones and edge boxes holds this package too.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from autodistil.formats.format import Format
from autodistil.formats.onnx import ONNX
from autodistil.formats.onnx_bits import ONNX_BITS
from autodistil.formats.onnx_int8 import ONNX_INT8
from autodistil.formats.openvino import OPENVINO
from autodistil.formats.openvino_int8 import OPENVINO_INT8
from autodistil.formats.pytorch import TORCH, TORCH_COMPILE

FORMATS: Mapping[str, Format] = MappingProxyType(
    {
        "torch": TORCH,
        "torch-compile": TORCH_COMPILE,
        "onnx": ONNX,
        "onnx-int8": ONNX_INT8,
        "onnx-bits": ONNX_BITS,
        "openvino": OPENVINO,
        "openvino-int8": OPENVINO_INT8,
    }
)
"""What `--runtime` measures in; those with a file of their own are what `--format` writes."""
