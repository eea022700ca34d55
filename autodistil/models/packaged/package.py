"""Installed packages that bring a model: as it is, or as what it is made of once, into the cache; checks of weights."""

from __future__ import annotations

import importlib.util
from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from autodistil.data.cache import built_once, default_cache_dir
from autodistil.errors import TeacherError
from autodistil.utils import file_sum

_MODEL = "model"
"""The folder inside a cache entry."""


@dataclass(frozen=True)
class Packages:
    """Installed packages that belong together."""

    modules: tuple[str, ...]
    """Importable names; none of them is imported."""
    install: str
    """The command that installs them."""

    def folders(self, name: str) -> tuple[Path, ...]:
        """The folder of each.

        Args:
            name: how the user called the model.

        Raises:
            TeacherError: one is not installed.
        """
        specs = {module: importlib.util.find_spec(module) for module in self.modules}
        origins = {module: spec.origin for module, spec in specs.items() if spec is not None and spec.origin}
        missing = [module for module in self.modules if module not in origins]
        if missing:
            raise TeacherError(
                f"teacher {name!r} needs the package {missing[0].replace('_', '-')}; "
                f"install it with: {self.install}, or give --teacher another id or folder"
            )
        return tuple(Path(origin).parent for origin in origins.values())

    def status(self) -> str:
        """`installed`, or the line that installs them."""
        there = all(importlib.util.find_spec(module) for module in self.modules)
        return "installed" if there else self.install


@dataclass(frozen=True)
class PlainPackage:
    """One package that holds a complete model folder."""

    packages: Packages
    inner: str
    """The folder inside of it."""

    def folder(self, name: str) -> Path:
        """The folder inside the package."""
        (package,) = self.packages.folders(name)
        return package / self.inner

    def status(self, name: str) -> str:
        """Whether its package is installed."""
        return self.packages.status()


@dataclass(frozen=True)
class CachedModel(ABC):
    """A model that is made once, in the cache, of what its packages hold."""

    packages: Packages
    sha256: str
    """SHA-256 of what it is made of."""
    waits: ClassVar[str]
    """What `status` says of one that is not made yet, with `{cache}` and `{name}`."""

    def folder(self, name: str) -> Path:
        """The folder in the cache, made when it is not there.

        Raises:
            TeacherError: its packages are not installed, or hold something else than expected.
            CorpusError: the cache cannot be written.
        """

        def build(building: Path) -> dict[str, str]:
            self.write(name, building / _MODEL)
            return {"sha256": self.sha256}

        built_once(self._entry(name), build)
        return self._entry(name) / _MODEL

    @abstractmethod
    def write(self, name: str, folder: Path) -> None:
        """Make the folder of the model called `name`."""

    def status(self, name: str) -> str:
        """Whether its packages are installed and it is made, or the line that installs them."""
        status = self.packages.status()
        waits = status == "installed" and not self._entry(name).is_dir()
        return f"{status}; {self.waits.format(cache=default_cache_dir(), name=name)}" if waits else status

    def _entry(self, name: str) -> Path:
        return default_cache_dir() / "teachers" / f"{name}-{self.sha256[:12]}"


def check_sha256(name: str, path: Path, expected: str, install: str) -> None:
    """Check that a package brought the weights that it is known for.

    Args:
        name: how the user called the teacher.
        path: the weights.
        expected: their sha256.
        install: the command that installs the package again.

    Raises:
        TeacherError: they are others.
    """
    found = file_sum(path)
    if found != expected:
        raise TeacherError(
            f"teacher {name!r}: its weights have sha256 {found[:12]}..., expected {expected[:12]}...; "
            f"install the package again: {install}"
        )
