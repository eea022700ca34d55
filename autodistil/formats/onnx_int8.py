"""An ONNX file with weights of 8 bits and activations quantised at run time, in ONNX Runtime.

Of a decoder weights have a scale for 32 inputs (MatMulNBits): one for each output costs it its answers, and a token
that is written alone waits for memory, so blocks are no slower there (LOG.md).
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from autodistil.formats.format import Origin
from autodistil.formats.onnx import ONNX, onnx_file, require
from autodistil.formats.quantise import quantised
from autodistil.utils import atomic_path, quiet

_BLOCK = 32
_BYTES = 4
"""Accuracy level of MatMulNBits at which activations become 8 bits."""


def write_quantised(origin: Origin, path: Path) -> None:
    """Quantise the ONNX file of a student."""
    quantise = quantise_blocks if origin.model.can_generate() else quantise_onnx
    quantise(onnx_file(origin), path)


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


def quantise_blocks(source: Path, target: Path) -> Path:
    """Quantise the matrices that an ONNX file multiplies with, in blocks of `_BLOCK` inputs; embeddings stay float32.

    Raises:
        ProfileError: onnx is not installed.
        RunError: the disk refuses.
    """
    import torch

    onnx = require("onnx")
    model = onnx.load(source)
    graph, read, made = model.graph, onnx.numpy_helper.to_array, onnx.numpy_helper.from_array
    matrices = {one.name: one for one in graph.initializer if len(one.dims) == 2}
    done: set[str] = set()
    for node in graph.node:
        if node.op_type != "MatMul" or node.input[1] not in matrices:
            continue
        states, name = node.input
        inputs, outputs = matrices[name].dims
        if name not in done:
            codes, scales = quantised(torch.tensor(read(matrices[name])).T.contiguous(), 8, _BLOCK)
            whole = (codes + 128).numpy().astype(np.uint8)
            graph.initializer.extend([made(whole, f"{name}_codes"), made(scales.numpy(), f"{name}_scales")])
            done.add(name)
        names, sizes = [states, f"{name}_codes", f"{name}_scales"], {"K": inputs, "N": outputs}
        options = {**sizes, "bits": 8, "block_size": _BLOCK, "accuracy_level": _BYTES}
        kind = "MatMulNBits"
        node.CopyFrom(onnx.helper.make_node(kind, names, list(node.output), domain="com.microsoft", **options))
    used = {name for node in graph.node for name in node.input}
    kept = [one for one in graph.initializer if one.name in used]
    del graph.initializer[:]
    graph.initializer.extend(kept)
    if all(one.domain != "com.microsoft" for one in model.opset_import):
        model.opset_import.append(onnx.helper.make_opsetid("com.microsoft", 1))
    with atomic_path(target) as temporary:
        onnx.save(model, temporary)
    return target


ONNX_INT8 = replace(ONNX, write=write_quantised, file="onnx/model_qint8.onnx", min_cosine=0.9)
"""`file_name="model_qint8.onnx"` of Optimum and sentence-transformers opens it."""
