"""An ONNX file with weights of few bits: the student's own (axes `embedding_bits` and `layer_bits`), else 4.

Tables of embeddings are ONNX Runtime's GatherBlockQuantized: a token's rows are made floats when it is read, so they
take as little memory as on disk. Linear maps have a scale an output, and integers are multiplied: activations become 8
bits at run time (DynamicQuantizeLinear), weights of 4 bits become 8 when the file is loaded (Cast of a constant). So 4
bits are as fast as 8: ONNX Runtime's MatMulNBits, with a scale a block, takes as long as floats or longer on processors
(LOG.md).
"""

from __future__ import annotations

from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from autodistil.formats.format import Origin
from autodistil.formats.onnx import ONNX, onnx_file, require
from autodistil.formats.quantise import EMBEDDING_BLOCK, MIN_ROWS, Bits, bits_of, quantised
from autodistil.utils import atomic_path

if TYPE_CHECKING:
    from numpy.typing import NDArray

_DEFAULT: Bits = {"embeddings": 4, "layers": 4}
_OPSET = 21
"""The first in which Cast takes 4 bits."""


def write_bits(origin: Origin, path: Path) -> None:
    """Quantise the ONNX file of a student as its config says."""
    onnx = require("onnx")
    bits = bits_of(origin.model.config) or _DEFAULT
    model = onnx.load(onnx_file(origin))
    _Graph(onnx, model, bits).quantise()
    with atomic_path(path) as temporary:
        onnx.save(model, temporary)


class _Graph:
    """A graph whose weights are replaced by codes and scales."""

    def __init__(self, onnx: Any, model: Any, bits: Bits) -> None:
        self._onnx, self._model, self._bits = onnx, model, bits
        self._graph = model.graph
        self._nodes: list[Any] = []
        self._activations: dict[str, tuple[str, str, str]] = {}  # what was made 8 bits already
        self._weights: dict[str, tuple[str, str]] = {}  # codes and scales of weights that are used again

    @cached_property
    def _matrices(self) -> dict[str, NDArray[np.float32]]:
        """Matrices among the weights."""
        read, kind = self._onnx.numpy_helper.to_array, self._onnx.TensorProto.FLOAT
        return {one.name: read(one) for one in self._graph.initializer if len(one.dims) == 2 and one.data_type == kind}

    def quantise(self) -> None:
        """Rewrite the nodes that read a matrix: Gather by `embeddings`, MatMul by `layers`."""
        rewritten = {"Gather": (self._gather, "embeddings", 0), "MatMul": (self._multiply, "layers", 1)}
        for node in list(self._graph.node):
            rewrite, part, at = rewritten.get(node.op_type, (None, "", 0))
            bits, weight = self._bits.get(part), self._matrices.get(node.input[at]) if rewrite else None
            if rewrite is None or bits is None or weight is None or not self._is_of_tokens(node, weight):
                self._nodes.append(node)
            else:
                rewrite(node, weight, bits)
        del self._graph.node[:]
        self._graph.node.extend(self._nodes)
        used = {name for node in self._nodes for name in node.input}
        kept = [one for one in self._graph.initializer if one.name in used]
        del self._graph.initializer[:]
        self._graph.initializer.extend(kept)
        versions = {**{one.domain: one.version for one in self._model.opset_import}, "": _OPSET, "com.microsoft": 1}
        del self._model.opset_import[:]
        self._model.opset_import.extend(self._onnx.helper.make_opsetid(*one) for one in versions.items())

    def _is_of_tokens(self, node: Any, weight: NDArray[np.float32]) -> bool:
        """Whether a matrix is a table of tokens or positions, or is multiplied with all tokens' states."""
        if node.op_type == "Gather":
            return len(weight) >= MIN_ROWS
        return self._dimensions.get(node.input[0]) != 2  # states of texts: what makes embeddings or classes of them

    @cached_property
    def _dimensions(self) -> dict[str, int]:
        """How many dimensions what the nodes make has."""
        return {one.name: len(one.type.tensor_type.shape.dim) for one in self._graph.value_info}

    def _gather(self, node: Any, table: NDArray[np.float32], bits: int) -> None:
        name, ids = node.input
        if name not in self._weights:
            codes, scales = _quantised(table, bits, EMBEDDING_BLOCK)
            whole = codes.reshape(len(table), -1) + 2 ** (bits - 1)
            width = -(-table.shape[1] * bits // 8)
            self._weights[name] = (
                self._keep(f"{name}_codes", _packed(whole.astype(np.uint8), bits)[:, :width]),
                self._keep(f"{name}_scales", scales),
            )
        options = {"bits": bits, "block_size": EMBEDDING_BLOCK, "gather_axis": 0, "quantize_axis": 1}
        codes_name, scales_name = self._weights[name]
        inputs, (output,), width = [codes_name, ids, scales_name], node.output, table.shape[1]
        if width * bits % 8 == 0:
            self._add("GatherBlockQuantized", inputs, [output], domain="com.microsoft", **options)
            return
        wider = f"{output}_in_whole_bytes"
        self._add("GatherBlockQuantized", inputs, [wider], domain="com.microsoft", **options)
        cut = [
            self._keep(f"{output}_{what}", np.array([at])) for what, at in (("from", 0), ("to", width), ("axis", -1))
        ]
        self._add("Slice", [wider, *cut], [output])

    def _multiply(self, node: Any, weight: NDArray[np.float32], bits: int) -> None:
        states, name = node.input
        if name not in self._weights:
            codes, scales = _quantised(weight.T, bits, None)
            integers = np.ascontiguousarray(codes[:, 0].T.astype(np.int8))
            self._weights[name] = self._integers(name, integers, bits), self._keep(f"{name}_scales", scales[:, 0])
        weight_codes, weight_scales = self._weights[name]
        if states not in self._activations:
            made = f"{states}_codes", f"{states}_scale", f"{states}_zero"
            self._activations[states] = made
            self._add("DynamicQuantizeLinear", [states], list(made))
        activations, scale, zero = self._activations[states]
        (output,) = node.output
        products, floats, both = (f"{output}_{what}" for what in ("products", "floats", "scales"))
        self._add("MatMulInteger", [activations, weight_codes, zero], [products])
        self._add("Cast", [products], [floats], to=self._onnx.TensorProto.FLOAT)
        self._add("Mul", [scale, weight_scales], [both])
        self._add("Mul", [floats, both], [output])

    def _integers(self, name: str, codes: NDArray[np.int8], bits: int) -> str:
        """Codes as a constant of 8 bits, on disk of 4 where they fit."""
        if bits != 4:
            return self._keep(f"{name}_codes", codes)
        kind, flat = self._onnx.TensorProto, codes.reshape(1, -1)
        packed = _packed((flat & 15).astype(np.uint8), bits).tobytes()
        tensor = self._onnx.helper.make_tensor(f"{name}_codes", kind.INT4, codes.shape, packed, raw=True)
        self._graph.initializer.append(tensor)
        self._add("Cast", [f"{name}_codes"], [f"{name}_integers"], to=kind.INT8)
        return f"{name}_integers"

    def _keep(self, name: str, values: NDArray[Any]) -> str:
        self._graph.initializer.append(self._onnx.numpy_helper.from_array(np.ascontiguousarray(values), name))
        return name

    def _add(self, kind: str, inputs: list[str], outputs: list[str], **options: Any) -> None:
        self._nodes.append(self._onnx.helper.make_node(kind, inputs, outputs, **options))


def _quantised(
    weight: NDArray[np.float32], bits: int, block: int | None
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """`quantised` of an array."""
    import torch

    codes, scales = quantised(torch.tensor(weight), bits, block)
    return codes.numpy(), scales.numpy()


def _packed(codes: NDArray[np.uint8], bits: int) -> NDArray[np.uint8]:
    """Codes (rows, columns) in bytes (rows, columns x bits / 8), the first one in the lowest bits."""
    a_byte = 8 // bits
    codes = np.pad(codes, ((0, 0), (0, -codes.shape[1] % a_byte)))
    parts = [codes[:, at::a_byte] << (bits * at) for at in range(a_byte)]
    packed: NDArray[np.uint8] = np.bitwise_or.reduce(parts)
    return packed


ONNX_BITS = replace(ONNX, write=write_bits, file="onnx/model_bits.onnx", min_cosine=0.9, own_bits=True)
"""`file_name="model_bits.onnx"` of Optimum and sentence-transformers opens it."""
