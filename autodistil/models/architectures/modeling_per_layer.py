"""Models whose layers have sizes of their own: heads of any size, units of the FFN, and blocks that a layer lacks.

Each is a model of transformers with other matrices in its layers; parameters are named as there. Where all layers are
alike, attention may still be wider than the hidden size, as in students of the AutoDistil paper (Xu et al., NeurIPS
2022, arXiv 2201.12507), whose heads keep 64 dimensions. This file travels with exports: torch and transformers suffice.
"""

from typing import Any, NamedTuple

import transformers
from torch import Tensor, nn
from transformers import PretrainedConfig, PreTrainedModel

# relative, as transformers copies it along with an export
from .configuration_per_layer import CONFIGS, head_field, layer_fields, plain_config


class _Same(nn.Module):
    """Instead of attention and the norm behind it (an `...Attention` here would make transformers search the file)."""

    def forward(self, hidden_states: Tensor, *_: Any, **__: Any) -> tuple[Tensor, None]:
        return hidden_states, None


class _Second(nn.Module):
    """Instead of the second half of an FFN and the norm behind it."""

    def forward(self, _: Tensor, hidden_states: Tensor) -> Tensor:
        return hidden_states


class _Zero(nn.Module):
    """Instead of an FFN that is added to the residual stream: one number, as all would be the same."""

    def forward(self, hidden_states: Tensor) -> Tensor:
        return hidden_states.new_zeros(())


class _ZeroAndNone(nn.Module):
    """Instead of attention that is added to the residual stream."""

    def forward(self, hidden_states: Tensor, *_: Any, **__: Any) -> tuple[Tensor, None]:
        return hidden_states.new_zeros(()), None


class _Layout(NamedTuple):
    """Where a family has what. Names are from a layer on, several ones with spaces between."""

    layers: str
    attention: str
    """What computes attention; Q, K and V are named from here on."""
    qkv: str
    out: str
    up: str
    down: str
    without_attention: dict[str, type[nn.Module]]
    """What stands for the modules of the block in a layer that lacks it."""
    without_ffn: dict[str, type[nn.Module]]
    models: str = "Model ForSequenceClassification ForTokenClassification ForQuestionAnswering"

    def linears(self) -> dict[str, tuple[str, str]]:
        """Name -> the sizes of its outputs and inputs."""
        query, *shared = (f"{self.attention}.{name}" for name in self.qkv.split())
        into = {query: "queries", **dict.fromkeys(shared, "keys"), **dict.fromkeys(self.up.split(), "units")}
        return {
            **{name: (size, "hidden") for name, size in into.items()},
            **{self.out: ("hidden", "queries"), self.down: ("hidden", "units")},
        }


_BERT = _Layout(
    *("encoder.layer", "attention.self", "query key value", "attention.output.dense"),
    *("intermediate.dense", "output.dense"),
    without_attention={"attention": _Same},
    without_ffn={"intermediate": nn.Identity, "output": _Second},
)
_MPNET = _BERT._replace(attention="attention.attn", qkv="q k v", out="attention.attn.o")
_VIT = _Layout(
    *("layers", "attention", "q_proj k_proj v_proj", "attention.o_proj", "mlp.fc1", "mlp.fc2"),
    without_attention={"layernorm_before": nn.Identity, "attention": _ZeroAndNone},
    without_ffn={"layernorm_after": nn.Identity, "mlp": _Zero},
    models="Model ForImageClassification",
)
_LLAMA = _Layout(
    *("layers", "self_attn", "q_proj k_proj v_proj", "self_attn.o_proj"),
    *("mlp.gate_proj mlp.up_proj", "mlp.down_proj"),
    without_attention={"input_layernorm": nn.Identity, "self_attn": _ZeroAndNone},
    without_ffn={"post_attention_layernorm": nn.Identity, "mlp": _Zero},
    models="Model ForCausalLM ForSequenceClassification ForTokenClassification",
)
_OTHERS = {"mpnet": _MPNET, "vit": _VIT, "deit": _VIT, "llama": _LLAMA, "qwen2": _LLAMA, "qwen3": _LLAMA}
_LAYOUTS = {model_type: _OTHERS.get(model_type, _BERT) for model_type in CONFIGS}


class PerLayerModel(PreTrainedModel):
    """What goes before a class of transformers and gives its layers the sizes that the config says."""

    def __init__(self, config: PretrainedConfig, *args: Any, **kwargs: Any) -> None:
        plain = plain_config(config)
        super().__init__(plain, *args, **kwargs)
        config._attn_implementation = plain._attn_implementation  # as it was settled just now
        for module in self.modules():
            if isinstance(getattr(module, "config", None), type(plain)):
                module.__dict__["config"] = config
        layout = _LAYOUTS[plain.model_type]
        layers: Any = self.base_model.get_submodule(layout.layers)
        for layer, fields in zip(layers, layer_fields(config), strict=True):
            _resize(layer, layout, fields, fields[head_field(config)])
        if plain.model_type == "mpnet":
            _share_positions(self.base_model.encoder, config.to_dict()["num_attention_heads"])
        cached = next((module for module in layers.modules() if hasattr(module, "layer_idx")), None)
        if cached is not None:
            cached.layer_idx = 0  # of the keys and values that say how many tokens a cache holds
        self.post_init()


def _resize(layer: nn.Module, layout: _Layout, fields: dict[str, Any], head_size: int) -> None:
    """Give a layer of a plain model its own blocks and matrices, new ones."""
    blocks = {"attention": layout.without_attention, "mlp": layout.without_ffn}
    for name, instead in (pair for block in fields.get("skip", ()) for pair in blocks[block].items()):
        setattr(layer, name, instead())
    heads, modules = fields["num_attention_heads"], dict(layer.named_modules())
    shared = fields.get("num_key_value_heads", heads)
    width = {"hidden": fields["hidden_size"], "units": fields["intermediate_size"]}
    width |= {"queries": heads * head_size, "keys": shared * head_size}
    for name, (outputs, inputs) in layout.linears().items():
        if (old := modules.get(name)) is not None:
            like = {"device": old.weight.device, "dtype": old.weight.dtype}
            new = nn.Linear(width[inputs], width[outputs], bias=old.bias is not None, **like)
            layer.set_submodule(name, new)
    known = {"num_attention_heads": heads, "all_head_size": width["queries"], "num_key_value_groups": heads // shared}
    known |= {"attention_head_size": head_size, "head_dim": head_size, "scaling": head_size**-0.5}
    for name, value in known.items():
        if hasattr(modules.get(layout.attention), name):
            setattr(modules[layout.attention], name, value)


def _share_positions(encoder: Any, heads: int) -> None:
    """Of MPNet's relative positions, a table that all layers share, each layer takes the columns of its heads."""
    old = encoder.relative_attention_bias
    like = {"device": old.weight.device, "dtype": old.weight.dtype}
    encoder.n_heads, encoder.relative_attention_bias = heads, nn.Embedding(old.num_embeddings, heads, **like)
    for layer in encoder.layer:
        if not isinstance(layer.attention, _Same):
            layer.attention.attn.register_forward_pre_hook(_leading_heads)


def _leading_heads(attention: Any, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
    hidden_states, mask, positions, *more = inputs
    return hidden_states, mask, positions[:, : attention.num_attention_heads], *more


MODELS: dict[type[PreTrainedModel], str] = {}
"""Class -> that of transformers' `AutoModel...` which makes it."""
for _type, _config in CONFIGS.items():
    for _model in _LAYOUTS[_type].models.split():
        _plain = getattr(transformers, _config.__bases__[0].__name__.removesuffix("Config") + _model)
        _own = type(f"PerLayer{_plain.__name__}", (PerLayerModel, _plain), {"config_class": _config})
        MODELS[_own] = f"AutoModel{_model.removeprefix('Model')}"
        globals()[_own.__name__] = _own  # where `from_pretrained` looks for it
