"""BERT whose attention may be wider or narrower than its hidden size: the students of the AutoDistil paper.

Those keep 64 dimensions a head whatever the hidden size (Xu et al., NeurIPS 2022, arXiv 2201.12507, and its code),
which Hugging Face's BERT cannot be told. This file travels with exports and needs torch and transformers only.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch import nn
from transformers import BertForSequenceClassification, BertModel

from .configuration_wide_bert import WideBertConfig  # relative, as transformers copies it along with an export


class WideBertModel(BertModel):
    """`BertModel` with queries, keys and values of `num_attention_heads * head_size` dimensions."""

    config_class = WideBertConfig

    def __init__(self, config: WideBertConfig, add_pooling_layer: bool = True) -> None:
        with _one_head(config):
            super().__init__(config, add_pooling_layer=add_pooling_layer)
        for layer in self.encoder.layer:
            _widen(layer.attention, config)
        self.post_init()


class WideBertForSequenceClassification(BertForSequenceClassification):
    """`BertForSequenceClassification` over a `WideBertModel`."""

    config_class = WideBertConfig

    def __init__(self, config: WideBertConfig) -> None:
        with _one_head(config):
            super().__init__(config)
        self.bert = WideBertModel(config)
        self.post_init()


@contextmanager
def _one_head(config: WideBertConfig) -> Iterator[None]:
    """BERT refuses a number of heads that does not divide the hidden size; one always does."""
    heads, config.num_attention_heads = config.num_attention_heads, 1
    try:
        yield
    finally:
        config.num_attention_heads = heads


def _widen(attention: Any, config: WideBertConfig) -> None:
    inner, width = attention.self, config.num_attention_heads * config.head_size
    inner.num_attention_heads, inner.attention_head_size = config.num_attention_heads, config.head_size
    inner.all_head_size = width
    inner.scaling = config.head_size**-0.5
    for name in ("query", "key", "value"):
        setattr(inner, name, nn.Linear(config.hidden_size, width))
    attention.output.dense = nn.Linear(width, config.hidden_size)
