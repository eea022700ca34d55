"""The sentence-transformers pipeline of a teacher, around its student: the same pooling and scaling."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from autodistil.models.pooling import PLAIN_MODULES, module_kinds
from autodistil.models.teacher import Teacher


def is_plain_pipeline(folder: Path | None) -> bool:
    """Whether a folder holds a sentence-transformers pipeline of an encoder, a pooling and a scaling alone."""
    kinds = module_kinds(folder)
    return bool(kinds) and PLAIN_MODULES.issuperset(kinds)


def write_sentence_pipeline(teacher: Teacher, embedding_size: int, folder: Path) -> bool:
    """Carry a sentence-transformers pipeline over to a student; False where the teacher has none that fits."""
    if not is_plain_pipeline(teacher.folder):
        return False
    assert teacher.folder is not None
    kinds = module_kinds(teacher.folder)
    modules = json.loads((teacher.folder / "modules.json").read_text(encoding="utf-8"))
    for name in ("modules.json", "config_sentence_transformers.json", "sentence_bert_config.json"):
        if (teacher.folder / name).is_file():
            shutil.copyfile(teacher.folder / name, folder / name)
    for module, kind in zip(modules, kinds, strict=True):
        inner = folder / module["path"]
        inner.mkdir(exist_ok=True)
        if kind == "Pooling":
            options = json.loads((teacher.folder / module["path"] / "config.json").read_text(encoding="utf-8"))
            size_key = "word_embedding_dimension" if "word_embedding_dimension" in options else "embedding_dimension"
            options[size_key] = embedding_size
            (inner / "config.json").write_text(json.dumps(options, indent=2), encoding="utf-8")
    return True
