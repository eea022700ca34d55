"""Configurations of models whose layers have sizes of their own, and heads of any size: `per-layer-bert` and the like.

`num_attention_heads`, `num_key_value_heads` and `intermediate_size` are the largest of any layer. What a layer has
instead stands in `per_layer_config`, as transformers writes it: {"3": {"num_attention_heads": 2}, "5": {"skip":
["attention"]}}. This file travels with exported students: it needs transformers only.
"""

from typing import Any, cast

import transformers
from transformers import PretrainedConfig

_NAMES = ("Bert", "Roberta", "XLMRoberta", "Camembert", "Electra", "MPNet", "ViT", "DeiT", "Llama", "Qwen2", "Qwen3")


def _own(plain: type[PretrainedConfig]) -> type[PretrainedConfig]:
    """A class like `plain`, but that heads need not divide the hidden size, which `validate` would ask for."""
    own = {"model_type": f"per-layer-{plain.model_type}", "validate": lambda _: None, "__module__": __name__}
    return type(f"PerLayer{plain.__name__}", (plain,), own)


_PLAIN = [getattr(transformers, f"{name}Config") for name in _NAMES]
CONFIGS = {plain.model_type: _own(plain) for plain in _PLAIN}
"""`model_type` of transformers -> class."""
globals().update({own.__name__: own for own in CONFIGS.values()})  # where `from_pretrained` looks for them


def head_field(config: PretrainedConfig) -> str:
    """The field with the head size; rotary positions read `head_dim`."""
    return "head_dim" if hasattr(config, "rope_parameters") else "head_size"


def layer_fields(config: PretrainedConfig) -> list[dict[str, Any]]:
    """The fields of each layer. Where layers differ in one, `config` itself refuses to say it, so it is asked for all.

    Those that `per_layer_config` leaves out are the config's; transformers before heterogeneous configs keep it as
    they find it, with keys of either type.
    """
    fields = config.to_dict()
    own = {int(layer): sizes for layer, sizes in (fields.get("per_layer_config") or {}).items()}
    return [{**fields, **own.get(layer, {})} for layer in range(config.num_hidden_layers)]


def plain_config(config: PretrainedConfig) -> PretrainedConfig:
    """The configuration of a model of transformers that has all but the sizes: one head divides any hidden size."""
    left_out = ("model_type", "architectures", "auto_map", "per_layer_config")
    fields = {name: value for name, value in config.to_dict().items() if name not in left_out}
    fields |= {name: 1 for name in ("num_attention_heads", "num_key_value_heads") if name in fields}
    plain: Any = type(config).__bases__[0]
    return cast(PretrainedConfig, plain(**fields, attn_implementation=config._attn_implementation))
