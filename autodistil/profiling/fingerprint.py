"""Which device a table is of: enough to tell two apart, nothing that identifies a person or a serial number.

Only the standard library and `utils`, since the runner for phones and edge boxes holds this file too.
"""

from __future__ import annotations

import hashlib
import json
import platform
import re
from dataclasses import asdict, dataclass
from pathlib import Path

from autodistil.utils import usable_cpus


@dataclass(frozen=True)
class DeviceFingerprint:
    """A device as its operating system describes it."""

    cpu: str
    """Model of the processor."""
    cores: int
    """Logical cores that a process may use."""
    os: str
    """The operating system, such as `Linux`; its version is among the versions of a table."""
    arch: str
    """The machine's architecture, such as `x86_64`."""
    gpu: str | None = None
    """Name of the accelerator that was measured; None: the processor was."""

    @property
    def id(self) -> str:
        """The same for the same description, 12 hexadecimal digits."""
        text = json.dumps(asdict(self), sort_keys=True, ensure_ascii=True)
        return hashlib.sha256(text.encode("ascii")).hexdigest()[:12]

    @property
    def kind(self) -> str:
        """`cpu` or `cuda`."""
        return "cuda" if self.gpu else "cpu"

    def __str__(self) -> str:
        return f"{self.gpu or self.cpu}, {self.cores} cores, {self.os} {self.arch} ({self.id})"


def this_device(gpu: str | None = None) -> DeviceFingerprint:
    """The fingerprint of the machine that this process runs on.

    Args:
        gpu: name of the accelerator that is measured, if one is.
    """
    return DeviceFingerprint(_cpu_model(), usable_cpus(), platform.system() or "unknown", platform.machine(), gpu)


_CPU_LINES = re.compile(r"^(?:model name|Hardware|CPU part|Model|cpu model)\s*:\s*(.+)$", re.MULTILINE)


def _cpu_model() -> str:
    """The processor's name; on ARM the distinct part numbers of its cores, which is all that Linux knows."""
    try:
        found = _CPU_LINES.findall(Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace"))
    except OSError:
        found = []
    distinct = dict.fromkeys(" ".join(name.split()) for name in found)
    return ", ".join(distinct)[:200] or platform.processor() or platform.machine() or "unknown"
