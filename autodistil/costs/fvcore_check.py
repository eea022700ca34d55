"""FLOPs counted by tracing a real model with fvcore: the second opinion on `closed_form.flops`.

fvcore knows no handle for `aten::scaled_dot_product_attention`, so under SDPA it silently leaves attention out (2.6 %
of BERT-base at length 128, 9.9 % at 512). The handle below adds it; with it, SDPA and eager attention count the same.
"""

from __future__ import annotations

import copy
from math import prod
from typing import Any

import torch
from transformers import AutoModel, PretrainedConfig, PreTrainedModel

from autodistil.errors import ConfigError
from autodistil.utils import quiet


def count_flops(model: PreTrainedModel | PretrainedConfig, seq_len: int) -> int:
    """Multiply-adds of one sequence, batch 1, in fvcore's convention (five per element of a LayerNorm).

    With a language-model head it is the prefill of a generation, which asks for the logits of the last token.

    Args:
        model: A loaded model, or the config of an encoder, which is then built on the meta device without memory.
        seq_len: Tokens of the sequence, at most what the model's positions allow; a vision encoder has its own.

    Raises:
        ConfigError: fvcore is not installed.
    """
    with quiet("fvcore"):  # neither its loggers nor the deprecations of its tracer say anything about the count
        try:
            from fvcore.nn import FlopCountAnalysis
        except ImportError as error:
            raise ConfigError(f"counting FLOPs by tracing needs fvcore ({error}); run: pip install fvcore") from None
        encoder: Any = _traceable(model)
        was_training = encoder.training
        try:
            generates = encoder.get_output_embeddings() is not None
            traced = _Prefill(encoder).eval() if generates else encoder.eval()
            analysis = FlopCountAnalysis(traced, (_one_input(encoder, seq_len),))
            analysis.set_op_handle("aten::scaled_dot_product_attention", _attention_flops)
            analysis.unsupported_ops_warnings(False).uncalled_modules_warnings(False).tracer_warnings("none")
            return int(analysis.total())
        finally:
            encoder.train(was_training)


def _traceable(model: PreTrainedModel | PretrainedConfig) -> PreTrainedModel:
    """The model, that of a config on the meta device, or a copy with memory where that device knows no convolution."""
    if isinstance(model, PretrainedConfig):
        auto_model: Any = AutoModel  # its class methods are not annotated
        with torch.device("meta"):
            return _traceable(auto_model.from_config(model))
    if model.main_input_name == "pixel_values" and model.device.type == "meta":
        return copy.deepcopy(model).to_empty(device="cpu")
    return model


def _one_input(model: Any, seq_len: int) -> torch.Tensor:
    """Ids (1, seq_len), or pixels (1, channels, height, width) where the model reads images."""
    if model.main_input_name != "pixel_values":
        return torch.zeros(1, seq_len, dtype=torch.long, device=model.device)
    size = model.config.image_size
    height, width = (size, size) if isinstance(size, int) else size
    return torch.zeros(1, model.config.num_channels, height, width, device=model.device)


class _Prefill(torch.nn.Module):
    """A model with a language-model head, asked for the last token's logits alone."""

    def __init__(self, model: torch.nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, input_ids: torch.Tensor) -> torch.Tensor:
        """(1, seq) -> logits (1, 1, vocabulary)."""
        logits: torch.Tensor = self.model(input_ids, use_cache=False, logits_to_keep=1).logits
        return logits


def _attention_flops(inputs: list[Any], outputs: list[Any]) -> int:
    """Multiply-adds of Q K^T and P V; `inputs` starts with query (batch, heads, Sq, dq), key and value."""
    query, key, value = (tensor.type().sizes() for tensor in inputs[:3])
    return int(prod(query[:-1]) * key[-2] * (query[-1] + value[-1]))
