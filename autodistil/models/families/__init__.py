"""Model families, one table each, and which of them describes a model.

Looked at in this order: tables that a user registered, those that installed packages bring, those shipped here.
"""

from __future__ import annotations

from importlib.metadata import entry_points

from transformers import PretrainedConfig

from autodistil.errors import TeacherError, suggest
from autodistil.models.families.bert import BERT, DISTILBERT, ELECTRA, ROBERTA
from autodistil.models.families.family import (
    BERT_FIELDS,
    EMBEDDING,
    FFN,
    GROUPED_CONTEXT,
    GROUPED_KEYS,
    GROUPED_QUERIES,
    GROUPED_VALUES,
    HEADS,
    HIDDEN,
    LM_HEAD,
    ROTARY_HEADS,
    WHOLE,
    Atoms,
    Family,
    HeadGroups,
)
from autodistil.models.families.llama import LLAMA, MINISTRAL, MISTRAL, QWEN2, QWEN3
from autodistil.models.families.modernbert import MODERNBERT
from autodistil.models.families.mpnet import MPNET
from autodistil.models.families.vit import DEIT, DINOV2, VIT, VisionFamily

__all__ = [
    "BERT", "BERT_FIELDS", "DEIT", "DINOV2", "DISTILBERT", "ELECTRA", "EMBEDDING", "FAMILIES", "FFN",
    "GROUPED_CONTEXT", "GROUPED_KEYS", "GROUPED_QUERIES", "GROUPED_VALUES", "HEADS", "HIDDEN", "LLAMA", "LM_HEAD",
    "MINISTRAL", "MISTRAL", "MODERNBERT", "MPNET", "QWEN2", "QWEN3", "ROBERTA", "ROTARY_HEADS", "VIT", "WHOLE",
    "Atoms", "Family", "HeadGroups", "VisionFamily", "family_named", "family_of", "known_families", "register_family",
    "supported_model_types",
]  # fmt: skip

FAMILIES: tuple[Family, ...] = (
    *(BERT, ROBERTA, ELECTRA, DISTILBERT, MPNET, MODERNBERT),
    *(VIT, DEIT, DINOV2),
    *(LLAMA, QWEN2, QWEN3, MISTRAL, MINISTRAL),
)
"""The shipped ones."""

ENTRY_POINTS = "autodistil.families"
"""Group of entry points: each names a `Family` of an installed package."""

_registered: list[Family] = []


def register_family(family: Family) -> None:
    """Make a family known to this process; it goes before the shipped ones."""
    if family not in _registered:
        _registered.insert(0, family)


def known_families() -> tuple[Family, ...]:
    """Registered families, those of installed packages, and the shipped ones."""
    installed = (point.load() for point in entry_points(group=ENTRY_POINTS))
    return (*_registered, *installed, *FAMILIES)


def supported_model_types() -> tuple[str, ...]:
    """All `model_type` values that some family describes."""
    return tuple(dict.fromkeys(name for family in known_families() for name in family.model_types))


def family_named(model_type: str) -> Family | None:
    """The family that describes a `model_type`, None where none does."""
    return next((family for family in known_families() if model_type in family.model_types), None)


def family_of(config: PretrainedConfig) -> Family:
    """The family of a Hugging Face config.

    Raises:
        TeacherError: no table describes `config.model_type`.
    """
    family = family_named(config.model_type)
    if family is not None:
        return family
    supported = supported_model_types()
    raise TeacherError(
        f"model type {config.model_type!r}{suggest(config.model_type, supported)} has no family table; "
        f"supported: {', '.join(supported)}; to add one, write a table autodistil.models.families.Family with "
        f"model_types=({config.model_type!r},) and give it to register_family (docs/families.md: under 60 lines)"
    )
