"""Queries, keys and values of one attention layer of any Hugging Face model, taken where the model computes attention.

Transformers sends every layer's query, key and value through `AttentionInterface`. The implementation registered here
is SDPA with a tap: inside `run_tapped` it hands over the states of one layer and, when nothing behind them is
needed, ends the forward there. Outside it is plain SDPA, so one model serves both uses. Models that compute attention
by themselves (MPNet) have forward hooks on their three projections instead, which see the same.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, suppress
from contextvars import ContextVar
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AttentionInterface, PreTrainedModel
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import AttentionMaskInterface, sdpa_mask

from autodistil.data.batch import TARGETS, VISIBLE, Batch

TAPPED_SDPA = "autodistil_sdpa"
LAST_LAYER = -1
"""For the layer to tap: the last one that has attention, wherever that is."""


@dataclass(frozen=True)
class AttentionStates:
    """Queries, keys and values of one layer, each (batch, heads, seq, head_size).

    Where queries are grouped, keys and values have a head for each group.
    """

    query: Tensor
    key: Tensor
    value: Tensor

    def __iter__(self) -> Iterator[Tensor]:
        return iter((self.query, self.key, self.value))


Gather = Callable[[Tensor], Tensor]
"""A row for each text of a part of a batch, (texts, dim) -> the rows of all its texts, of which those alone carry
gradients."""


@dataclass(frozen=True)
class ModelStates:
    """What a forward of a teacher or student yields to the objectives."""

    attention: AttentionStates
    """States of the tapped layer."""
    output: Tensor | None = None
    """Last hidden states (batch, seq, hidden), where they were asked for."""
    hidden: tuple[Tensor, ...] = ()
    """Output of each layer, the last hidden states last, where they were asked for."""
    depths: tuple[float, ...] = ()
    """How deep in the teacher each layer lies or, of a student, started from (`layer_maps.depths_of`)."""
    head: Tensor | None = None
    """Weights (vocabulary, hidden) of the language-model head, which makes logits of the output; of decoders."""
    tokens: Tensor | None = None
    """What was read, ids (batch, seq) in the teacher's numbering; of a teacher that is a decoder."""
    pooled: Tensor | None = None
    """The model's own pooled output (batch, hidden), where it has one and the output was asked for."""
    shared: dict[Any, Any] | None = None
    """Where terms of an objective keep what they form of these states, for all students that are compared with them."""
    gather: Gather | None = None
    """Where these texts are a part of a training step's batch."""
    output_head: Tensor | None = None
    """Linear map (dim, hidden) of embeddings into the space of an output teacher; of students."""
    targets: Tensor | None = None
    """Embeddings (batch, dim) of these texts by the output teacher; of what students are compared with."""

    def detach(self) -> ModelStates:
        """The same numbers, as targets."""
        attention = AttentionStates(*(part.detach() for part in self.attention))
        output, pooled, head = (None if x is None else x.detach() for x in (self.output, self.pooled, self.head))
        hidden = tuple(layer.detach() for layer in self.hidden)
        states = ModelStates(attention, output, hidden, self.depths, head, self.tokens, pooled, gather=self.gather)
        return replace(states, targets=self.targets)

    def for_many(self) -> ModelStates:
        """These states as targets of several students of one batch, which then share what is formed of them."""
        return replace(self, shared={})

    def text(self, i: int, size: int) -> ModelStates:
        """Text `i` of the batch, of `size` tokens, as a batch of its own without padding."""
        row = slice(i, i + 1)
        return ModelStates(
            AttentionStates(*(part[row, :, :size] for part in self.attention)),
            None if self.output is None else self.output[row, :size],
            tuple(layer[row, :size] for layer in self.hidden),
            self.depths,
            self.head,
            None if self.tokens is None else self.tokens[row, :size],
            None if self.pooled is None else self.pooled[row],
            output_head=self.output_head,
            targets=None if self.targets is None else self.targets[row],
        )


class _Finished(Exception):
    """Ends a forward whose remaining layers nobody needs. Never leaves `run_tapped`."""


@dataclass
class _Tap:
    layer: int
    stop: bool
    visible: Tensor | None = None
    calls: int = 0
    captured: list[AttentionStates] = field(default_factory=list)
    """One, once the layer was reached."""
    parts: list[Tensor] = field(default_factory=list)

    def see(self, query: Tensor, key: Tensor, value: Tensor) -> None:
        if self.layer in (self.calls, LAST_LAYER):
            self.captured = [AttentionStates(query, key, value)]
            if self.stop:
                raise _Finished
        self.calls += 1

    def see_part(self, part: Tensor) -> None:
        """Take the next of query, key and value, in this order."""
        self.parts.append(part)
        if len(self.parts) == 3:
            query, key, value = self.parts
            self.parts.clear()
            self.see(query, key, value)


_active_tap: ContextVar[_Tap | None] = ContextVar("autodistil_attention_tap", default=None)


def _tapped_sdpa(
    module: nn.Module, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor | None, **kwargs: Any
) -> tuple[Tensor, None]:
    tap = _active_tap.get()
    if tap is not None:
        tap.see(query, key, value)
    window = kwargs.get("sliding_window")
    if window is None or attention_mask is None:
        return sdpa_attention_forward(module, query, key, value, attention_mask, **kwargs)
    return _local_sdpa(module, query, key, value, attention_mask, window - 1, **kwargs)


_LOCAL_BLOCK = 512
"""Queries of local attention that are computed at a time."""


def _local_sdpa(
    module: nn.Module, query: Tensor, key: Tensor, value: Tensor, mask: Tensor, reach: int, **kwargs: Any
) -> tuple[Tensor, None]:
    """Local attention of long texts, some queries at a time with the keys that the mask lets them reach.

    The others are what SDPA computes and hides, and of its mask it makes one in floats for each layer: 268 MB at 8,192
    tokens, which training keeps.

    Args:
        module: its layer.
        query: (batch, heads, seq, head_size), and so are `key` and `value`, or of fewer heads.
        key: see there.
        value: see there.
        mask: (batch or 1, 1, seq, seq), True where a token attends to another: none farther away than `reach`.
        reach: tokens before the own one that it attends to at most, and behind it where attention is not causal.
        kwargs: what transformers says of the layer.
    """
    seq, ahead = query.shape[2], 0 if getattr(module, "is_causal", False) else reach
    step = max(_LOCAL_BLOCK, reach)
    if seq <= 2 * step or key.shape[2] != seq:
        return sdpa_attention_forward(module, query, key, value, mask, **kwargs)
    blocks = []
    for start in range(0, seq, step):
        rows = slice(start, start + step)
        seen = slice(max(0, start - reach), start + step + ahead)
        states = query[:, :, rows], key[:, :, seen], value[:, :, seen]
        blocks.append(sdpa_attention_forward(module, *states, mask[:, :, rows, seen], **kwargs)[0])
    return torch.cat(blocks, dim=1), None


AttentionInterface.register(TAPPED_SDPA, _tapped_sdpa)
AttentionMaskInterface.register(TAPPED_SDPA, sdpa_mask)


def run_tapped(forward: Any, batch: Batch, layer: int, output: bool, hidden: bool = False) -> ModelStates:
    """Run `forward(**batch)` of a model under `TAPPED_SDPA` and return the states of `layer`.

    Args:
        forward: a Hugging Face model, or a function that calls one.
        batch: its inputs, of images also which of their tokens are read.
        layer: index of the attention layer, in the order of execution, from 0; or `LAST_LAYER`, which needs `output`.
        output: also run what follows the layer and return the last hidden states.
        hidden: also return the output of every layer; needs `output`.
    """
    tap = _Tap(layer, stop=not output, visible=batch.get(VISIBLE))
    result: Any = None
    with ExitStack() as stack, suppress(_Finished):
        stack.callback(_active_tap.reset, _active_tap.set(tap))
        inputs = {name: value for name, value in batch.items() if name not in (TARGETS, VISIBLE)}
        result = forward(**inputs, **({"output_hidden_states": True} if hidden else {}))
    assert tap.captured, f"attention layer {layer} was never reached ({tap.calls} were)"
    if not output:
        return ModelStates(tap.captured[0])
    layers = result.hidden_states[1:] if hidden else ()
    return ModelStates(tap.captured[0], result.last_hidden_state, layers, pooled=result.get("pooler_output"))


def use_tapped_attention(model: PreTrainedModel, projections: Sequence[str] | None = None, head_size: int = 1) -> None:
    """Switch a loaded model to the tapped attention.

    Args:
        model: any Hugging Face model.
        projections: suffixes of the modules that make Q, K and V, each (batch, seq, heads * head_size), of a model
            that does not use `AttentionInterface`; None for one that does.
        head_size: of all heads, for `projections`.
    """
    if getattr(model.config, "use_cache", False):
        model.config.use_cache = False  # texts are read once and whole
    if model.main_input_name == "pixel_values":
        model.get_submodule("embeddings").register_forward_hook(_leave_visible)
    if projections is None:
        model.set_attn_implementation(TAPPED_SDPA)
        return
    for name, module in model.named_modules():
        if name.endswith(tuple(projections)):
            module.register_forward_hook(partial(_see_projection, head_size))


def _leave_visible(_module: nn.Module, _inputs: Any, output: Tensor) -> Tensor:
    """Embeddings of the tokens that are read: (batch, seq, hidden) -> (batch, kept, hidden)."""
    tap = _active_tap.get()
    if tap is None or tap.visible is None:
        return output
    return output.gather(1, tap.visible[..., None].expand(-1, -1, output.shape[-1]))


def _see_projection(head_size: int, _module: nn.Module, _inputs: Any, output: Tensor) -> None:
    tap = _active_tap.get()
    if tap is not None:
        tap.see_part(output.unflatten(-1, (-1, head_size)).transpose(1, 2))
