"""The sentence-transformers pipeline of a teacher, around its student: the same pooling and scaling."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from autodistil.models.pooling import MODULES, PIPELINE_FILES, PLAIN_MODULES, module_kinds, read_modules
from autodistil.models.teacher import Teacher


def is_plain_pipeline(folder: Path | None) -> bool:
    """Whether a folder holds a sentence-transformers pipeline of an encoder, a pooling and a scaling alone."""
    kinds = module_kinds(folder)
    return bool(kinds) and PLAIN_MODULES.issuperset(kinds)


def write_sentence_pipeline(teacher: Teacher, embedding_size: int, folder: Path) -> bool:
    """Carry a sentence-transformers pipeline over to a student; False where the teacher has none that fits.

    The student's modules lie where sentence-transformers itself would save them, wherever the teacher's do.
    """
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
