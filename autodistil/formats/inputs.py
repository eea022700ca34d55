"""What models read, as arrays by the names that Hugging Face gives them: token ids with their mask, or pixels.

Each kind says what it is to make inputs of any size, which of their dimensions may vary, and how to call them. Needs
NumPy alone, since the runner for phones and edge boxes holds this file too.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from transformers import PreTrainedModel

Inputs = Mapping[str, NDArray[Any]]
"""Of one forward, by name; the first dimension of each is the batch."""
Axes = Mapping[str, Mapping[int, str]]
"""Name of an input -> its dimensions that vary, with their names; in the order of a file's inputs."""


SHAPES = ((1, 1), (2, 16), (3, 7), (1, 33))
"""(batch, tokens) of `Tokens.several`; sequences after the first of a batch end in padding."""
USUAL_LENGTH = 128
"""Tokens, or as many as the model takes."""


@dataclass(frozen=True)
class Tokens:
    """`input_ids` and `attention_mask` (batch, seq), the mask 0 at padding."""

    vocab_size: int
    longest: int
    """Tokens that fit, less those positions that RoBERTa keeps for padding."""
    padding_id: int = 0
    axes: ClassVar[Axes] = {name: {0: "batch", 1: "sequence"} for name in ("input_ids", "attention_mask")}
    vector: ClassVar[str] = "a text's mean"

    def random(self, batch: int, length: int) -> Inputs:
        """A batch without padding; no ids below 10, which are often special tokens."""
        return self._drawn(np.random.default_rng(0), batch, length)

    def several(self) -> Iterator[Inputs]:
        """Batches at `SHAPES`, the same ones each time."""
        draw = np.random.default_rng(0)
        for batch, seq_len in SHAPES:
            length = min(seq_len, self.longest)
            inputs = self._drawn(draw, batch, length)
            ids, mask = inputs.values()
            ids[1:, (length + 1) // 2 :], mask[1:, (length + 1) // 2 :] = self.padding_id, 0
            yield inputs

    def usual(self) -> Inputs:
        """One text of `USUAL_LENGTH`."""
        return self.random(1, min(USUAL_LENGTH, self.longest))

    def words(self, inputs: Inputs) -> str:
        """Batch and length."""
        batch, length = inputs["input_ids"].shape
        return f"{batch} x {length} tokens"

    def _drawn(self, draw: np.random.Generator, batch: int, length: int) -> Inputs:
        ids = draw.integers(min(10, self.vocab_size - 1), self.vocab_size, (batch, length))
        return {"input_ids": ids, "attention_mask": np.ones_like(ids)}


@dataclass(frozen=True)
class Pixels:
    """`pixel_values` (batch, channels, height, width), all images of one size."""

    channels: int
    height: int
    width: int
    axes: ClassVar[Axes] = {"pixel_values": {0: "batch"}}
    vector: ClassVar[str] = "an image's class token"

    def random(self, batch: int, length: int) -> Inputs:
        """A batch of noise; every image is as many tokens, so `length` does not matter."""
        return self._drawn(np.random.default_rng(0), batch)

    def several(self) -> Iterator[Inputs]:
        """One image, and batches, the same ones each time."""
        draw = np.random.default_rng(0)
        return (self._drawn(draw, batch) for batch in (1, 2, 3))

    def usual(self) -> Inputs:
        """One image."""
        return self._drawn(np.random.default_rng(0), 1)

    def words(self, inputs: Inputs) -> str:
        """Batch and size."""
        batch, size = len(inputs["pixel_values"]), f"{self.height} x {self.width}"
        return f"one image of {size}" if batch == 1 else f"{batch} images of {size}"

    def _drawn(self, draw: np.random.Generator, batch: int) -> Inputs:
        noise = draw.standard_normal((batch, self.channels, self.height, self.width), dtype=np.float32)
        return {"pixel_values": noise}


Kind = Tokens | Pixels
"""A kind of inputs, with the sizes of one model. `vector` says what of a sample's states stands for it
(`parity.Case.vectors`)."""


def inputs_of(model: PreTrainedModel) -> Kind:
    """What a model reads."""
    config: Any = model.config
    if model.main_input_name == "pixel_values":
        size = config.image_size
        height, width = (size, size) if isinstance(size, int) else size
        return Pixels(config.num_channels, height, width)
    return Tokens(config.vocab_size, config.max_position_embeddings - 2, config.pad_token_id or 0)


def kind_from_dict(raw: Mapping[str, int]) -> Kind:
    """A kind from its fields, as plain JSON has them."""
    return Pixels(**raw) if "channels" in raw else Tokens(**raw)
