"""Which device computes."""

from __future__ import annotations

import torch

from autodistil.errors import ConfigError, suggest


def resolve_device(name: str) -> torch.device:
    """The device called `name`: `cpu`, `cuda`, `mps`, or `auto` for the best one that is there.

    Raises:
        ConfigError: no such device, or it is not there.
    """
    available = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if name == "auto":
        return torch.device(next(device for device, there in available.items() if there))
    if not available.get(name):
        here = ", ".join(sorted(device for device, there in available.items() if there))
        raise ConfigError(f"device {name!r} is not available{suggest(name, available)}; available here: {here}")
    return torch.device(name)
