"""Peak memory of a student: from before it is loaded until after it ran, in a process of its own.

On a CPU the resident memory that Linux reports (`VmHWM`): weights, activations, and what the runtime takes for them.
The student is loaded, run and dropped once before, so that what libraries set up at first use does not count. Other
systems have no counter that starts anew, so nothing is measured there. On CUDA what PyTorch allocated.
"""

from __future__ import annotations

import ctypes
import gc
import re
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

from autodistil.profiling.stopwatch import Call

_STATUS, _CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")

Load = Callable[[], Callable[[int, int], Call]]
"""Loads a student, and returns what makes the call of a batch and a length."""


def peak_memory_mb(device: str, load: Load, shapes: Sequence[tuple[int, int]]) -> list[float | None]:
    """Peak memory at each shape, in 1e6 bytes.

    Args:
        device: `cpu` or `cuda`.
        load: loads the student.
        shapes: (batch, length); a peak is also that of the smaller ones, since memory is seldom given back.
    """
    return _cuda_peaks(load, shapes) if device == "cuda" else _cpu_peaks(load, shapes)


def _cpu_peaks(load: Load, shapes: Sequence[tuple[int, int]]) -> list[float | None]:
    if not _STATUS.is_file():
        return [None for _ in shapes]
    load()(1, 1)()
    _forget()
    before, call_of, peaks = _status_bytes("VmRSS"), load(), {}
    for shape in sorted(shapes, key=lambda shape: shape[0] * shape[1]):
        call = call_of(*shape)
        call()
        call()
        peaks[shape] = (_status_bytes("VmHWM") - before) / 1e6
    return [peaks[shape] for shape in shapes]


def _forget() -> None:
    """Give freed memory back to the system, and let its counter of the peak start anew."""
    gc.collect()
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)  # glibc's
    with suppress(OSError):
        _CLEAR.write_text("5")


def _cuda_peaks(load: Load, shapes: Sequence[tuple[int, int]]) -> list[float | None]:
    import torch

    call_of = load()
    peaks: list[float | None] = []
    for shape in shapes:
        torch.cuda.reset_peak_memory_stats()
        call_of(*shape)()
        peaks.append(torch.cuda.max_memory_allocated() / 1e6)
    return peaks


def _status_bytes(name: str) -> int:
    found = re.search(rf"^{name}:\s+(\d+) kB", _STATUS.read_text(encoding="ascii"), re.MULTILINE)
    assert found is not None, f"/proc/self/status without {name}"
    return 1024 * int(found[1])
