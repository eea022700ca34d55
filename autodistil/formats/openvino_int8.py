"""OpenVINO with weights and activations of 8 bits, the ranges of activations taken from real text (NNCF).

The recipe for Transformers of NNCF's post-training quantisation: weights have a scale a channel, activations one a
tensor, large activations are moved into the weights first (SmoothQuant, Xiao et al. 2023, arXiv 2211.10438), and biases
are corrected for what rounding shifts. Ranges are fixed when the file is written, which saves the reading of each
activation that `onnx-int8` does at run time.
"""

from __future__ import annotations

import io
import os
from contextlib import redirect_stdout
from dataclasses import replace
from pathlib import Path

from autodistil.errors import ProfileError
from autodistil.formats.format import Origin
from autodistil.formats.onnx import onnx_file
from autodistil.formats.openvino import INSTALL, OPENVINO
from autodistil.utils import optional_import, quiet


def write_quantised(origin: Origin, path: Path) -> None:
    """Quantise a student; its weights lie beside `path` in a .bin file.

    Raises:
        ProfileError: openvino or nncf is not installed.
    """
    os.environ.setdefault("NNCF_CI", "1")  # read at its import: otherwise it reports its use to its makers, unasked
    openvino, nncf = (optional_import(name, "this format", INSTALL, ProfileError) for name in ("openvino", "nncf"))
    rows = [dict(inputs) for inputs in origin.calibration]
    with quiet("nncf"), redirect_stdout(io.StringIO()):  # bars of its own
        exact = openvino.convert_model(onnx_file(origin))
        kind = nncf.ModelType.TRANSFORMER
        model = nncf.quantize(exact, nncf.Dataset(rows), model_type=kind, subset_size=len(rows))
    openvino.save_model(model, path, compress_to_fp16=False)


OPENVINO_INT8 = replace(
    OPENVINO,
    write=write_quantised,
    writing=(*OPENVINO.writing, "nncf"),
    file="openvino/openvino_model_qint8_quantized.xml",
    measured=None,
    min_cosine=0.9,
    ranges=True,
)
"""`file_name="openvino_model_qint8_quantized.xml"` of Optimum and sentence-transformers opens it."""
