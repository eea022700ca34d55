"""How a student runs when it is timed: device, runtime, threads, batch and length, and what of each is allowed."""

from __future__ import annotations

from dataclasses import dataclass

from autodistil.errors import ProfileError, suggest
from autodistil.formats import FORMATS

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


def check_runtime(name: str) -> str:
    """Return `name` if it is a runtime.

    Raises:
        ProfileError: it is not.
    """
    if name not in FORMATS:
        raise ProfileError(
            f"runtime: got {name!r}{suggest(str(name), FORMATS)}; allowed: {', '.join(FORMATS)}; choose one"
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
