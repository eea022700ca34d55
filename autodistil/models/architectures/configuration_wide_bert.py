"""Configuration of BERT whose attention may be wider or narrower than its hidden size.

This file travels with exported students: it needs transformers only.
"""

from typing import Any

from transformers import BertConfig


class WideBertConfig(BertConfig):
    """BERT's configuration and a head size of its own: queries, keys and values are heads x head size wide."""

    model_type = "wide-bert"

    def __init__(self, head_size: int = 64, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.head_size = head_size
