"""How a student runs when it is timed: device, runtime, threads, batch and length."""

from __future__ import annotations

import importlib
from abc import ABC, abstractmethod
from collections.abc import Iterable
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from autodistil.errors import ProfileError, suggest
from autodistil.profiling.stopwatch import Call

RUNTIME_NAMES = ("torch", "torch-compile", "onnx", "onnx-int8", "openvino")
"""What runs a student; `runtimes.RUNTIMES` holds a class for each."""

DEVICES = ("cpu", "cuda")
"""Kinds of devices that a process measures on itself."""

MAX_THREADS, MAX_BATCH, MAX_SEQ_LEN = 1_024, 65_536, 100_000


@dataclass(frozen=True)
class RuntimeSetting:
    """One way of running a student.

    Raises:
        ProfileError: the runtime is unknown, or a number is out of bounds.
    """

    device: str = "cpu"
    """`cpu`, `cuda`, or what people call a device that they have a table of."""
    runtime: str = "onnx"
    threads: int = 1
    batch: int = 1
    """Sequences."""
    seq_len: int = 128
    """Tokens a sequence, without padding."""

    def __post_init__(self) -> None:
        """Refuse what no process can run."""
        check_runtime(self.runtime)
        check_whole("threads", self.threads, MAX_THREADS)
        check_whole("batch", self.batch, MAX_BATCH)
        check_whole("sequence length", self.seq_len, MAX_SEQ_LEN)

    def __str__(self) -> str:
        unit = "thread" if self.threads == 1 else "threads"
        return f"{self.device}, {self.runtime}, {self.threads} {unit}, batch {self.batch}, length {self.seq_len}"


def check_runtime(name: str, allowed: Iterable[str] = RUNTIME_NAMES) -> str:
    """Return `name` if it is a runtime.

    Raises:
        ProfileError: it is not.
    """
    allowed = tuple(allowed)
    if name not in allowed:
        raise ProfileError(
            f"runtime: got {name!r}{suggest(str(name), allowed)}; allowed: {', '.join(allowed)}; choose one"
        )
    return name


def check_whole(what: str, value: int, most: int, least: int = 1) -> int:
    """Return `value` if it is a whole number from `least` to `most`.

    Raises:
        ProfileError: it is not.
    """
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
        raise ProfileError(f"{what}: got {value!r}; allowed: whole numbers from {least} to {most:,}; correct it")
    return value


Ids = NDArray[np.int64]


class Runtime(ABC):
    """A student loaded into a runtime.

    Args:
        path: the artefact that it loads.
        threads: of the CPU.
        device: `cpu` or `cuda`.
    """

    libraries: ClassVar[tuple[str, ...]]
    """Distributions that it needs; their versions go into the table."""
    install: ClassVar[str]
    """The line that installs them."""
    artefact: ClassVar[str]
    """What it loads: `folder` (Hugging Face), `onnx` or `onnx-int8`."""
    devices: ClassVar[tuple[str, ...]] = ("cpu", "cuda")

    @abstractmethod
    def __init__(self, path: Path, threads: int, device: str) -> None: ...

    @abstractmethod
    def run(self, ids: Ids, mask: Ids) -> NDArray[np.float32]:
        """Last hidden states (batch, seq, hidden)."""

    def call(self, ids: Ids) -> Call:
        """One forward of these ids, without padding, for the stopwatch."""
        mask = np.ones_like(ids)

        def call() -> None:
            self.run(ids, mask)

        return call

    @classmethod
    def check(cls, device: str) -> None:
        """Import the libraries, and look for the device.

        Raises:
            ProfileError: one of them is not there.
        """
        for library in cls.libraries:
            try:
                importlib.import_module(library)
            except ImportError as error:
                raise ProfileError(
                    f"this runtime needs {library}, which is not installed; run: {cls.install}"
                ) from error
        if device not in cls.devices:
            raise ProfileError(f"device: got {device!r}; this runtime knows: {', '.join(cls.devices)}; choose one")
        if device == "cuda":
            cls.check_cuda()

    @classmethod
    def check_cuda(cls) -> None:
        """Refuse a machine without a CUDA device; PyTorch names it."""
        try:
            torch = importlib.import_module("torch")
        except ImportError:
            raise ProfileError("device: got 'cuda', which only PyTorch's build finds; use --device cpu") from None
        if not torch.cuda.is_available():
            raise ProfileError("device: got 'cuda', which is not available here; allowed here: cpu; use --device cpu")

    @classmethod
    def versions(cls) -> dict[str, str]:
        """Of its libraries."""
        return {library: metadata.version(library) for library in cls.libraries}
