"""Ways to fine-tune a student on labelled rows: a file a way, and the dict of all."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from autodistil.tasks.adapt.anchor import ANCHORED
from autodistil.tasks.adapt.augmented_labels import AUGMENTED_LABELS
from autodistil.tasks.adapt.cross_entropy import CROSS_ENTROPY
from autodistil.tasks.adapt.experts import EXPERTS
from autodistil.tasks.adapt.further_pretrain import FURTHER_PRETRAIN
from autodistil.tasks.adapt.intermediate import INTERMEDIATE
from autodistil.tasks.adapt.label_smoothing import LABEL_SMOOTHING
from autodistil.tasks.adapt.lelp import LELP
from autodistil.tasks.adapt.method import Method
from autodistil.tasks.adapt.ps_kd import PS_KD
from autodistil.tasks.adapt.self_guided import SELF_GUIDED
from autodistil.tasks.adapt.self_kd import SELF_KD
from autodistil.tasks.adapt.soft_targets import SOFT_TARGETS
from autodistil.tasks.adapt.trans_encoder import TRANS_ENCODER

METHODS: Mapping[str, Method] = MappingProxyType(
    {
        "cross-entropy": CROSS_ENTROPY,
        "label-smoothing": LABEL_SMOOTHING,
        "soft-targets": SOFT_TARGETS,
        "intermediate": INTERMEDIATE,
        "lelp": LELP,
        "ps-kd": PS_KD,
        "self-kd": SELF_KD,
        "self-guided": SELF_GUIDED,
        "augmented-labels": AUGMENTED_LABELS,
        "experts": EXPERTS,
        "anchor": ANCHORED,
        "further-pretrain": FURTHER_PRETRAIN,
        "trans-encoder": TRANS_ENCODER,
    }
)
