"""What runs an extracted student when it is timed, and how: one class a runtime, its library imported in the instance.

Float32 throughout, except for `onnx-int8`. Each gets ids and a mask of ones, as an application would pass them.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from autodistil.formats.format import Runtime, check_runtime
from autodistil.formats.onnx import OnnxRuntime
from autodistil.formats.onnx_int8 import QuantisedOnnxRuntime
from autodistil.formats.openvino import OpenVinoRuntime
from autodistil.formats.pytorch import CompiledTorchRuntime, TorchRuntime

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
