"""Architectures that Hugging Face lacks. Their code travels in exports, which load with `trust_remote_code=True`.

Where autodistil is installed they are registered, and nothing remote is run.
"""

from __future__ import annotations

from transformers import AutoConfig, AutoModel, AutoModelForSequenceClassification, BertConfig, PretrainedConfig

from autodistil.models.architectures.configuration_wide_bert import WideBertConfig
from autodistil.models.architectures.modeling_wide_bert import WideBertForSequenceClassification, WideBertModel

__all__ = ["WideBertConfig", "WideBertForSequenceClassification", "WideBertModel", "wide_bert_config"]

AutoConfig.register(WideBertConfig.model_type, WideBertConfig)
AutoModel.register(WideBertConfig, WideBertModel)
AutoModelForSequenceClassification.register(WideBertConfig, WideBertForSequenceClassification)
WideBertConfig.register_for_auto_class()
WideBertModel.register_for_auto_class("AutoModel")
WideBertForSequenceClassification.register_for_auto_class("AutoModelForSequenceClassification")


def wide_bert_config(config: PretrainedConfig, head_size: int) -> WideBertConfig:
    """BERT's configuration with a head size of its own."""
    assert isinstance(config, BertConfig), f"no wide architecture for {config.model_type}"
    fields = {k: v for k, v in config.to_dict().items() if k not in ("model_type", "architectures", "auto_map")}
    return WideBertConfig(**fields, head_size=head_size)
