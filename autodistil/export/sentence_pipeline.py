"""The sentence-transformers pipeline of a teacher, around its student: the same pooling and scaling."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from safetensors.torch import save_file
from torch import Tensor

from autodistil.models.pooling import (
    MODULES,
    PIPELINE_FILES,
    PLAIN_MODULES,
    POOLING_FLAGS,
    module_kinds,
    read_modules,
)
from autodistil.models.teacher import Teacher

_PATHS = {"Transformer": "", "Pooling": "1_Pooling", "Dense": "2_Dense", "Normalize": "3_Normalize"}
"""Modules of a student with a head of its own, and where they lie."""


def is_plain_pipeline(folder: Path | None) -> bool:
    """Whether a folder holds a sentence-transformers pipeline of an encoder, a pooling and a scaling alone."""
    kinds = module_kinds(folder)
    return bool(kinds) and PLAIN_MODULES.issuperset(kinds)


def write_sentence_pipeline(
    teacher: Teacher, embedding_size: int, folder: Path, output_head: Tensor | None = None
) -> bool:
    """Carry a sentence-transformers pipeline over to a student; False where the teacher has none that fits.

    The student's modules lie where sentence-transformers itself would save them, wherever the teacher's do.

    Args:
        teacher: whose pipeline it is.
        embedding_size: the student's hidden size.
        folder: the student's.
        output_head: map (dim, hidden) into the space of an output teacher, written as a `Dense` module; embeddings
            then have length 1, and a teacher without a pipeline is pooled by the mean.
    """
    if output_head is not None:
        _write_output_pipeline(teacher.pooling or "mean", output_head, folder)
        return True
    if not is_plain_pipeline(teacher.folder):
        return False
    assert teacher.folder is not None
    for name in PIPELINE_FILES:
        if (teacher.folder / name).is_file():
            shutil.copyfile(teacher.folder / name, folder / name)
    entries = []
    for number, module in enumerate(read_modules(teacher.folder)):
        path = "" if module.kind == "Transformer" else f"{number}_{module.kind}"
        entries.append({"idx": number, "name": str(number), "path": path, "type": module.type})
        (folder / path).mkdir(exist_ok=True)
        if module.kind == "Pooling":
            options = json.loads((teacher.folder / module.path / "config.json").read_text(encoding="utf-8"))
            size_key = "word_embedding_dimension" if "word_embedding_dimension" in options else "embedding_dimension"
            options[size_key] = embedding_size
            (folder / path / "config.json").write_text(json.dumps(options, indent=2), encoding="utf-8")
    (folder / MODULES).write_text(json.dumps(entries, indent=2), encoding="utf-8")
    return True


def _write_output_pipeline(pooling: str, head: Tensor, folder: Path) -> None:
    """Modules of an encoder, a pooling, a linear map and a scaling, as sentence-transformers reads them."""
    dim, hidden = head.shape
    flags = {flag: name == pooling for flag, name in POOLING_FLAGS.items()}
    identity = "torch.nn.modules.linear.Identity"
    settings = {
        "Pooling": {"word_embedding_dimension": hidden, **flags},
        "Dense": {"in_features": hidden, "out_features": dim, "bias": False, "activation_function": identity},
    }
    entries = []
    for number, (kind, path) in enumerate(_PATHS.items()):
        type_ = f"sentence_transformers.models.{kind}"
        entries.append({"idx": number, "name": str(number), "path": path, "type": type_})
        (folder / path).mkdir(exist_ok=True)
        if kind in settings:
            (folder / path / "config.json").write_text(json.dumps(settings[kind], indent=2), encoding="utf-8")
    save_file({"linear.weight": head.contiguous()}, folder / _PATHS["Dense"] / "model.safetensors")
    (folder / MODULES).write_text(json.dumps(entries, indent=2), encoding="utf-8")
