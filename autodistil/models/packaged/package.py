"""Installed packages that bring a model: where they lie, a model that lies in one as it is, and checks of weights."""

from __future__ import annotations

import hashlib
import importlib.util
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from autodistil.errors import TeacherError


class PackagedModel(Protocol):
    """A model that installs by name."""

    def folder(self, name: str) -> Path:
        """Its Hugging Face folder.

        Args:
            name: how the user called it.

        Raises:
            TeacherError: its packages are not installed, or are not what they should be.
        """
        ...

    def status(self, name: str) -> str:
        """Whether it is there, or the line that brings it."""
        ...


@dataclass(frozen=True)
class Packages:
    """Installed packages that belong together."""

    modules: tuple[str, ...]
    """Importable names; none of them is imported."""
    extra: str
    """Extra of autodistil that installs them."""
    command: str | None = None
    """What installs them instead, where they depend on much that is not needed."""

    @property
    def install(self) -> str:
        """The command that installs them."""
        return self.command or f"pip install 'autodistil[{self.extra}]'"

    def folders(self, name: str) -> tuple[Path, ...]:
        """Where each is installed.

        Raises:
            TeacherError: one is not.
        """
        return tuple(self._folder(module, name) for module in self.modules)

    def status(self) -> str:
        """`installed`, or the line that installs them."""
        there = all(importlib.util.find_spec(module) for module in self.modules)
        return "installed" if there else self.install

    def _folder(self, module: str, name: str) -> Path:
        spec = importlib.util.find_spec(module)
        if spec is None or spec.origin is None:
            raise TeacherError(
                f"teacher {name!r} needs the package {module.replace('_', '-')}; "
                f"install it with: {self.install}, or give --teacher another id or folder"
            )
        return Path(spec.origin).parent


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


def chunks(paths: Iterable[Path], size: int = 1 << 20) -> Iterator[bytes]:
    """The bytes of files one after the other."""
    for path in paths:
        with open(path, "rb") as file:
            while chunk := file.read(size):
                yield chunk


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
    digest = hashlib.sha256()
    for chunk in chunks([path]):
        digest.update(chunk)
    found = digest.hexdigest()
    if found != expected:
        raise TeacherError(
            f"teacher {name!r}: its weights have sha256 {found[:12]}..., expected {expected[:12]}...; "
            f"install the package again: {install}"
        )
