"""The storage in which every node of a cluster finds checkpoints: a folder, or a URI that pyarrow or fsspec knows."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pyarrow.fs
from pyarrow.lib import ArrowException

from autodistil.errors import ConfigError, one_line


@dataclass(frozen=True)
class Storage:
    """A folder of a file system."""

    filesystem: pyarrow.fs.FileSystem
    path: str
    """Inside the file system."""

    @classmethod
    def of(cls, uri: str) -> Storage:
        """The storage at a URI or local path.

        Raises:
            ConfigError: no such kind of storage, or its package is missing.
        """
        if "://" not in uri:
            return cls(pyarrow.fs.LocalFileSystem(), str(Path(uri).expanduser().resolve()))
        try:
            return cls(*pyarrow.fs.FileSystem.from_uri(uri))
        except ArrowException:
            return cls._of_fsspec(uri)

    @classmethod
    def reached(cls, uri: str) -> Storage:
        """The storage, where it answers: asked before anything is begun that is to be kept there.

        Raises:
            ConfigError: it does not, whatever its package raises for that.
        """
        try:
            storage = cls.of(uri)
            storage.filesystem.create_dir(storage.path, recursive=True)
        except ConfigError:
            raise
        except Exception as error:
            raise ConfigError(
                f"storage {uri!r} cannot be reached ({one_line(error, 160)}); allowed: a folder or URI that this "
                "machine may write to; correct it, or set what its provider asks for"
            ) from error
        return storage

    @classmethod
    def _of_fsspec(cls, uri: str) -> Storage:
        from fsspec.core import url_to_fs

        try:
            filesystem, path = url_to_fs(uri)
        except (ImportError, ValueError) as error:
            reason = one_line(error, 120)
            raise ConfigError(
                f"storage {uri!r} cannot be used ({reason}); allowed: a folder that all nodes see, or a URI of pyarrow "
                "or fsspec such as s3://bucket/folder"
            ) from error
        return cls(pyarrow.fs.PyFileSystem(pyarrow.fs.FSSpecHandler(filesystem)), path)

    def __truediv__(self, name: str) -> Storage:
        return Storage(self.filesystem, f"{self.path.rstrip('/')}/{name}")

    def upload(self, folder: Path) -> None:
        """Copy the content of a local folder here."""
        self.filesystem.create_dir(self.path, recursive=True)
        pyarrow.fs.copy_files(str(folder), self.path, pyarrow.fs.LocalFileSystem(), self.filesystem)

    def remove(self) -> None:
        """Delete this folder, if it is there."""
        if self.filesystem.get_file_info(self.path).type != pyarrow.fs.FileType.NotFound:
            self.filesystem.delete_dir(self.path)
