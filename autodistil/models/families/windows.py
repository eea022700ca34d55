"""How configs of a family say that layers attend to some tokens alone: one `Windows` for each way (axes/window.py).

A window changes no weights, only the mask: scores outside of it are computed and hidden under SDPA. Attention sinks
(StreamingLLM, arXiv 2309.17453), first tokens that all later ones see beside their window, are in no class of
transformers, so no export could have them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, cast

from transformers import MinistralConfig, MistralConfig, PretrainedConfig

LOCAL, GLOBAL = "sliding_attention", "full_attention"
"""Values of `layer_types`."""


@dataclass(frozen=True)
class Windows:
    """Local layers in the configs of a family."""

    given: Callable[[PretrainedConfig, int, int | None], PretrainedConfig]
    """(a student's config, window, number of layers to a global one or None) -> the config with that window."""
    of: Callable[[PretrainedConfig], int | None]
    """Tokens that the local layers of a model attend to; None where it has none, or a decoder has other layers too."""
    even: bool = False
    """Half of a window lies on either side."""
    picks_layers: bool = True
    """Students may make other layers global than the teacher."""
    lacks: Callable[[PretrainedConfig], str] = lambda _: ""
    """What a model has that none with a window has, or lacks; nothing where its students may have windows."""


def layer_types(num_layers: int, global_every: int | None) -> list[str]:
    """Each `global_every`-th layer global, from the first on; None: none."""
    return [GLOBAL if global_every and not layer % global_every else LOCAL for layer in range(num_layers)]


# ---- encoders: the teacher's local layers, half of a window to either side


def _around(config: PretrainedConfig, window: int, global_every: int | None) -> PretrainedConfig:
    assert global_every is None, "what `check_space` refuses"
    config.local_attention = window
    return config


AROUND = Windows(
    given=_around,
    of=lambda config: int(config.local_attention) if LOCAL in config.layer_types else None,
    even=True,
    picks_layers=False,
    lacks=lambda config: "" if LOCAL in config.layer_types else "global layers alone",
)
"""ModernBERT: rotary positions turn faster in local layers, so these stay the teacher's."""


# ---- decoders: a window ends with the token


def _by_layer_types(config: PretrainedConfig, window: int, global_every: int | None) -> PretrainedConfig:
    config.use_sliding_window, config.max_window_layers = True, 0
    config.sliding_window = window
    config.layer_types = layer_types(config.num_hidden_layers, global_every)
    return config


def _as_mistral(config: PretrainedConfig, window: int, global_every: int | None) -> PretrainedConfig:
    """Llama's layer with a window is Mistral's (arXiv 2310.06825), and Ministral's where some layers are global."""
    left_out = ("model_type", "architectures", "attention_bias", "mlp_bias", "pretraining_tp", "layer_types")
    fields = {name: value for name, value in config.to_dict().items() if name not in left_out}
    kind: Any = MistralConfig if global_every is None else MinistralConfig  # their fields are not all annotated
    types = {} if global_every is None else {"layer_types": layer_types(config.num_hidden_layers, global_every)}
    fields = {**fields, **types, "sliding_window": window}
    return cast(PretrainedConfig, kind(**fields, attn_implementation=config._attn_implementation))


def _biases(config: PretrainedConfig) -> Iterator[str]:
    return (name for name in ("attention_bias", "mlp_bias") if getattr(config, name, False))


def _of_all_layers(config: PretrainedConfig) -> int | None:
    types = getattr(config, "layer_types", None) or [LOCAL]
    return getattr(config, "sliding_window", None) if GLOBAL not in types else None


LAYER_TYPES = Windows(given=_by_layer_types, of=_of_all_layers)
"""Qwen2 and Qwen3 say it of each layer."""
MISTRAL_LIKE = Windows(
    given=_as_mistral, of=_of_all_layers, lacks=lambda config: next((f"{name} = true" for name in _biases(config)), "")
)
"""Llama has no window: its students are Mistral or Ministral models."""
