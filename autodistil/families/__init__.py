"""Model families: one table each, and the registry that finds the one of a model."""

from autodistil.families.bert import BERT, DISTILBERT, ELECTRA, ROBERTA
from autodistil.families.llama import LLAMA, QWEN2, QWEN3
from autodistil.families.modernbert import MODERNBERT
from autodistil.families.mpnet import MPNET
from autodistil.families.registry import FAMILIES, family_of, known_families, register_family, supported_model_types
from autodistil.families.table import (
    BERT_FIELDS,
    EMBEDDING,
    FFN,
    GROUPED_CONTEXT,
    GROUPED_KEYS,
    GROUPED_QUERIES,
    GROUPED_VALUES,
    HEADS,
    HIDDEN,
    KV_HEADS,
    LM_HEAD,
    ROTARY_HEADS,
    WHOLE,
    Atoms,
    Family,
    HeadGroups,
    leading,
    split_dimensions,
)
from autodistil.families.vit import DEIT, DINOV2, VIT, VisionFamily

__all__ = [
    "BERT",
    "BERT_FIELDS",
    "DEIT",
    "DINOV2",
    "DISTILBERT",
    "ELECTRA",
    "EMBEDDING",
    "FAMILIES",
    "FFN",
    "GROUPED_CONTEXT",
    "GROUPED_KEYS",
    "GROUPED_QUERIES",
    "GROUPED_VALUES",
    "HEADS",
    "HIDDEN",
    "KV_HEADS",
    "LLAMA",
    "LM_HEAD",
    "MODERNBERT",
    "MPNET",
    "QWEN2",
    "QWEN3",
    "ROBERTA",
    "ROTARY_HEADS",
    "VIT",
    "WHOLE",
    "Atoms",
    "Family",
    "HeadGroups",
    "VisionFamily",
    "family_of",
    "known_families",
    "leading",
    "register_family",
    "split_dimensions",
    "supported_model_types",
]
