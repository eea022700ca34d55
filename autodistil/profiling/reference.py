"""The reference kernel that neighbour load is told by: a matrix product of constant size on the measured threads."""

from __future__ import annotations

from typing import Any

import numpy as np

from autodistil.profiling.stopwatch import Call

_SIZE, _CUDA_SIZE = 256, 2048
"""About a millisecond on one core, and on an accelerator."""


def reference_kernel(device: str) -> Call:
    """The kernel for a device. On a CPU, BLAS takes the threads that the environment gave it at the start."""
    return _cuda_kernel() if device == "cuda" else _cpu_kernel()


def _cpu_kernel() -> Call:
    left, right = np.random.default_rng(0).standard_normal((2, _SIZE, _SIZE)).astype(np.float32)
    out = np.empty_like(left)

    def call() -> None:
        np.matmul(left, right, out=out)

    return call


def _cuda_kernel() -> Call:
    import torch

    left = torch.randn(_CUDA_SIZE, _CUDA_SIZE, device="cuda")
    return cuda_timed(lambda: left @ left)


def cuda_timed(work: Any) -> Call:
    """A call that waits for the accelerator and returns the seconds between two CUDA events around `work`."""
    import torch

    start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)

    def call() -> float:
        start.record()
        work()
        end.record()
        end.synchronize()
        return float(start.elapsed_time(end)) / 1e3

    return call
