"""Architectures that Hugging Face lacks. Their code travels in exports, which load with `trust_remote_code=True`.

Where autodistil is installed they are registered, and nothing remote is run.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import transformers
from transformers import AutoConfig, PretrainedConfig

from autodistil.models.architectures.configuration_per_layer import CONFIGS, head_field
from autodistil.models.architectures.modeling_per_layer import MODELS, PerLayerModel

__all__ = ["PER_LAYER_TYPES", "PerLayerModel", "is_per_layer", "per_layer_config", "plain_type"]

PER_LAYER_TYPES = tuple(CONFIGS)
"""Values of `model_type` whose models may have layers of several sizes, and heads of any."""

for _own in CONFIGS.values():
    AutoConfig.register(_own.model_type, _own)
    _own.register_for_auto_class()
for _model, _auto in MODELS.items():
    getattr(transformers, _auto).register(_model.config_class, _model)
    _model.register_for_auto_class(_auto)


def is_per_layer(config: PretrainedConfig) -> bool:
    """Whether a config is of an architecture of ours."""
    return isinstance(config, tuple(CONFIGS.values()))


def plain_type(config: PretrainedConfig) -> str:
    """A config's `model_type`; of an architecture of ours that of the one in transformers it comes from."""
    return str(config.model_type).removeprefix("per-layer-")


def per_layer_config(config: PretrainedConfig, head_size: int, layers: Sequence[tuple[int, int]]) -> PretrainedConfig:
    """The config of a model whose layers have sizes of their own.

    Args:
        config: a plain one, with a model type of `PER_LAYER_TYPES` and as many layers.
        head_size: of all layers.
        layers: heads and FFN units of each; 0 heads: it has no attention, 0 units: no FFN, but one of them.
    """
    assert len(layers) == config.num_hidden_layers
    assert all(heads or units for heads, units in layers)
    own: Any = CONFIGS[config.model_type]
    grouped = hasattr(config, "num_key_value_heads")
    queries = config.num_attention_heads // config.num_key_value_heads if grouped else 1
    assert not any(heads % queries for heads, _ in layers), f"groups of {queries} heads, layers {layers}"

    def sizes(heads: int, units: int) -> dict[str, int]:
        shared = {"num_key_value_heads": heads // queries} if grouped else {}
        return {"num_attention_heads": heads, **shared, "intermediate_size": units}

    most = sizes(*(max(each) or queries for each in zip(*layers, strict=True)))
    per_layer: dict[int, dict[str, Any]] = {}
    for layer, (heads, units) in enumerate(layers):
        differs = {name: size for name, size in sizes(heads, units).items() if size not in (0, most[name])}
        lacks = [block for block, size in (("attention", heads), ("mlp", units)) if not size]
        if differs or lacks:
            per_layer[layer] = {**differs, **({"skip": lacks} if lacks else {})}
    code = {auto: f"modeling_per_layer.{model.__name__}" for model, auto in MODELS.items() if model.config_class is own}
    kept = {name: value for name, value in config.to_dict().items() if name not in ("model_type", "architectures")}
    fields = {
        **{**kept, **most, head_field(config): head_size, "per_layer_config": per_layer or None},
        "auto_map": {"AutoConfig": f"configuration_per_layer.{own.__name__}", **code},
    }
    return cast(PretrainedConfig, own(**fields, attn_implementation=config._attn_implementation))
