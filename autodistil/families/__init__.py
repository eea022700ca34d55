"""Model families: one table each, and the registry that finds the one of a model."""

from autodistil.families.bert import BERT, DISTILBERT, ELECTRA, ROBERTA
from autodistil.families.modernbert import MODERNBERT
from autodistil.families.mpnet import MPNET
from autodistil.families.registry import FAMILIES, family_of, known_families, register_family, supported_model_types
from autodistil.families.table import (
    BERT_FIELDS,
    EMBEDDING,
    FFN,
    HEADS,
    HIDDEN,
    ROTARY_HEADS,
    WHOLE,
    Atoms,
    Family,
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
    "HEADS",
    "HIDDEN",
    "MODERNBERT",
    "MPNET",
    "ROBERTA",
    "ROTARY_HEADS",
    "VIT",
    "WHOLE",
    "Atoms",
    "Family",
    "VisionFamily",
    "family_of",
    "known_families",
    "leading",
    "register_family",
    "split_dimensions",
    "supported_model_types",
]
