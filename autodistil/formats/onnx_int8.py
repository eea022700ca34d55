"""An ONNX file with weights of 8 bits and activations quantised at run time, in ONNX Runtime."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from autodistil.formats.format import Origin
from autodistil.formats.onnx import ONNX, onnx_file, require
from autodistil.utils import atomic_path, quiet


def write_quantised(origin: Origin, path: Path) -> None:
    """Quantise the ONNX file of a student."""
    quantise_onnx(onnx_file(origin), path)


def quantise_onnx(source: Path, target: Path) -> Path:
    """Quantise the weights of an ONNX file to 8 bits, one scale a channel; activations at run time (dynamic).

    Unlike one scale a matrix, that bears the few large weights of Transformers: a cosine of 0.985 with float32, not
    0.945, on all-MiniLM-L6-v2. A convolution (of patches) stays float32: in 8 bits it takes longer (LOG.md).

    Raises:
        ProfileError: onnx or onnxruntime is not installed.
        RunError: the disk refuses.
    """
    require("onnx")
    quantization = require("onnxruntime.quantization")
    kinds = [kind for kind in require("onnxruntime.quantization.registry").IntegerOpsRegistry if kind != "Conv"]
    signed = quantization.QuantType.QInt8
    with atomic_path(target) as temporary, quiet("root"):
        quantization.quantize_dynamic(source, temporary, kinds, per_channel=True, weight_type=signed)
    return target


ONNX_INT8 = replace(ONNX, write=write_quantised, file="onnx/model_qint8.onnx", min_cosine=0.9)
"""`file_name="model_qint8.onnx"` of Optimum and sentence-transformers opens it."""
