"""Vision encoders: ViT (arXiv 2010.11929), DeiT (arXiv 2012.12877) with its distillation token, DINOv2 (2304.07193).

Patches of an image stand where tokens of a text do: a convolution whose stride is its size makes one embedding of each,
and learnt special tokens go before them. All images of a model have one size, so its sequences have one length and no
padding. Norms come before blocks, and one behind all layers. Not supported: DINOv2's gated FFN (its giant), a pooler of
another width than the encoder, other channels than grey or RGB.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

from transformers import PretrainedConfig

from autodistil.errors import TeacherError
from autodistil.models.architectures import per_layer_config
from autodistil.models.families.family import FFN, HEADS, HIDDEN, Family
from autodistil.space.shape import EncoderShape, LayerTerms
from autodistil.space.space import SearchSpace
from autodistil.space.student import OPTIONAL_AXES, StudentConfig
from autodistil.utils import listed

CHANNELS = (1, 3)
"""Grey, RGB."""


@dataclass(frozen=True)
class VisionFamily(Family):
    """One table per family of vision encoders."""

    modality: str = "image"
    norms_first: bool = True
    special_tokens: int = 1
    """Learnt tokens before the patches: the class token, and DeiT's distillation token."""
    whole_mlp_ratios: bool = False
    """The config says how many times the hidden size the FFN's is, a whole number, instead of its size."""
    layer_scales: int = 0
    """Learnt vectors of a layer that scale what its blocks add to the residual stream."""

    def max_length(self, config: PretrainedConfig) -> int:
        """Tokens of an image: patches and special tokens."""
        return self.special_tokens + num_patches(config)

    def dimensions(self, config: PretrainedConfig) -> StudentConfig:
        """The axes of a model, read off its config.

        Raises:
            TeacherError: heads do not divide the hidden size, or a part of the model is not supported.
        """
        for reason in _unsupported(config):
            raise TeacherError(f"{config.model_type} teachers with {reason}; give another teacher")
        if self.whole_mlp_ratios:
            config = copy.copy(config)
            config.intermediate_size = int(config.hidden_size * config.mlp_ratio)
        return super().dimensions(config)

    def student_config(
        self, config: PretrainedConfig, student: StudentConfig, layers: Sequence[int]
    ) -> PretrainedConfig:
        """The Hugging Face config of a student: as in `Family`, and what a vision config says besides."""
        result = super().student_config(config, student, layers)
        if hasattr(config, "pooler_output_size"):
            result.pooler_output_size = student.hidden_size
        if self.whole_mlp_ratios:
            result.mlp_ratio = student.intermediate_size // student.hidden_size  # strictly an int; see check_space
        if hasattr(config, "stage_names"):  # of DINOv2 as a backbone: one a layer, checked when the config is read
            result.stage_names = ["stem", *(f"stage{i + 1}" for i in range(student.num_layers))]
            result.set_output_features_output_indices(out_features=[result.stage_names[-1]], out_indices=None)
        return result

    def encoder_shape(self, config: PretrainedConfig, pooler: bool) -> EncoderShape:
        """The constants of the closed-form costs.

        Of each hidden dimension the embeddings hold a filter, its bias, a number a special token and one a position.
        """
        patch = config.num_channels * math.prod(_pair(config.patch_size))
        tokens, mask = self.max_length(config), bool(getattr(config, "use_mask_token", False))
        scales = self.layer_scales // 2
        return EncoderShape(
            vocab_size=0,
            other_embedding_rows=patch + 1 + self.special_tokens + tokens + mask,
            embedding_size=None,
            pooler=pooler,
            layer=LayerTerms(width_biases=3 * config.qkv_bias, hidden_biases=(1 + scales, 1 + scales)),
            embedding_norm=False,
            patch_flops=num_patches(config) * patch,
            fixed_length=tokens,
        )

    def check_space(self, space: SearchSpace, config: PretrainedConfig | None = None) -> None:
        """Check that students have no axis of text encoders, and whole MLP ratios where the config knows no others.

        Raises:
            SpaceError: one has.
        """
        axis = next(filter(space.has_axis_of, OPTIONAL_AXES), None)
        if axis is not None:
            got = f"it for {self.model_types[0]}, which reads images: no word embeddings, few bits or windows"
            raise space.refusal(axis, got, "spaces without it", "leave it out")
        ratios = {ratio for sub in space.sub_spaces for ratio in sub.axes["mlp_ratio"]}
        broken = sorted(ratio for ratio in ratios if not self._writes(ratio))
        if broken:
            allowed = f"whole numbers, as the mlp_ratio in the config of {self.model_types[0]} is one"
            raise space.refusal("mlp_ratio", listed(broken), allowed)
        super().check_space(space, config)

    def fit_space(self, space: SearchSpace) -> SearchSpace:
        """A space that was not made for this family, without the students that it cannot have."""
        ratios = [sub.axes["mlp_ratio"] for sub in space.sub_spaces]
        kept = [tuple(filter(self._writes, given)) or given for given in ratios]
        fitted = (sub.with_axes(mlp_ratio=given) for sub, given in zip(space.sub_spaces, kept, strict=True))
        return replace(space, sub_spaces=tuple(fitted))

    def _writes(self, ratio: float) -> bool:
        """Whether a student's config can say such an MLP ratio."""
        return not self.whole_mlp_ratios or float(ratio).is_integer()


def num_patches(config: PretrainedConfig) -> int:
    """Patches of an image."""
    sizes = zip(_pair(config.image_size), _pair(config.patch_size), strict=True)
    return math.prod(image // patch for image, patch in sizes)


def _pair(size: int | Iterable[int]) -> tuple[int, int]:
    height, width = size if isinstance(size, Iterable) else (size, size)
    return int(height), int(width)


def _is_size(size: int | Sequence[int]) -> bool:
    sides = [size, size] if isinstance(size, int) else size
    return len(sides) == 2 and min(sides) >= 1


def _unsupported(config: PretrainedConfig) -> Iterator[str]:
    if getattr(config, "use_swiglu_ffn", False):
        yield "use_swiglu_ffn = true are not supported (allowed: false)"
    if config.num_channels not in CHANNELS:
        yield f"num_channels = {config.num_channels} are not supported (allowed: 1 or 3)"
    for name in ("image_size", "patch_size"):
        if not _is_size(size := getattr(config, name)):
            yield f"{name} = {size} see nothing (allowed: pixels, or a height and a width)"
    if num_patches(config) < 1:
        yield f"patch_size = {config.patch_size} above image_size = {config.image_size} see nothing (allowed: below it)"
    if (getattr(config, "pooler_output_size", None) or config.hidden_size) != config.hidden_size:
        yield f"pooler_output_size = {config.pooler_output_size} are not supported (allowed: the hidden size)"


_LINEARS = {
    "attention.q_proj": (HEADS, HIDDEN),
    "attention.k_proj": (HEADS, HIDDEN),
    "attention.v_proj": (HEADS, HIDDEN),
    "attention.o_proj": (HIDDEN, HEADS),
    "mlp.fc1": (FFN, HIDDEN),
    "mlp.fc2": (HIDDEN, FFN),
    "pooler.dense": (HIDDEN, HIDDEN),
}
_PATCHES = {"patch_embeddings.projection.weight": (*HIDDEN, None, None, None)}

VIT = VisionFamily(
    model_types=("vit",),
    layers="layers",
    linears=_LINEARS,
    others=_PATCHES,
    value="attention.v_proj",
    tried_on=("examples/vision",),
    own_config=per_layer_config,
)
DEIT = replace(VIT, model_types=("deit",), special_tokens=2, tried_on=())
DINOV2 = replace(
    VIT,
    model_types=("dinov2",),
    layers="encoder.layer",
    layer_scales=2,
    whole_mlp_ratios=True,
    tried_on=(),
    own_config=None,
)
