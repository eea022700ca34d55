"""Importance order: permute a teacher so that the leading slices its students take hold what matters most.

A student is a leading slice of its SuperLM, so which residual dimensions, heads and FFN units come first decides where
it starts from (HomoDistil, arXiv 2302.09632; EFTNAS; Minitron, arXiv 2407.14679). Reordering them is a permutation of
the teacher's parameters: at full size the function stays what it was. Scores come from a little text:

- energy: variance of an activation times the squared norm of the weights that read it (Wanda's criterion, arXiv
  2306.11695, with the mean taken out, which a bias can replace);
- saliency: squared first-order change of the sentence embedding when the activation is zeroed, by random probes of it
  (Taylor criterion, Molchanov et al. 2017; of a Gauss-Newton form, as a loss has no gradient at the teacher itself),
  times the same norm, which measured a point better (LOG.md).
"""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn.functional import cosine_similarity, normalize

from autodistil.data.batch import Batch, real_tokens
from autodistil.errors import RunError, one_line
from autodistil.models.families.family import HIDDEN, KV_HEADS, HeadGroups, split_dimensions
from autodistil.models.pooling import pool
from autodistil.models.teacher import Teacher
from autodistil.utils import atomic_path, check_sum

_HEADS = "num_heads"
PROBES = 4
"""Random directions of the embedding space per batch."""


@dataclass(frozen=True)
class Importance:
    """How much each part of a teacher matters; larger is more, comparable within a row."""

    hidden_size: Tensor
    """Importance of the residual dimensions, (hidden,)."""
    num_heads: Tensor
    """Importance of the heads of each layer, (layers, heads); with grouped queries, here and below, of the groups."""
    head_size: Tensor
    """Importance of the dimensions of each head's values, (layers, heads, head_size)."""
    intermediate_size: Tensor
    """Importance of the FFN units of each layer, (layers, intermediate)."""
    num_layers: Tensor
    """Block influence of each layer, (layers,)."""

    def order(self) -> ImportanceOrder:
        """Most important first; equal ones keep their order."""
        scores = {name: getattr(self, name) for name in self.__dataclass_fields__}
        return ImportanceOrder(**{k: s.argsort(dim=-1, descending=True, stable=True).cpu() for k, s in scores.items()})


@dataclass(frozen=True)
class ImportanceOrder:
    """The old index of each new position, by axis; shapes as in `Importance`."""

    hidden_size: Tensor
    num_heads: Tensor
    head_size: Tensor
    """Dimensions of each head, in the old numbering of heads."""
    intermediate_size: Tensor
    num_layers: Tensor
    """Layers by their influence; they keep their places in the model."""

    def of_layer(self, layer: int | None) -> dict[str, Tensor]:
        """Atom -> order that holds for the parameters of a layer.

        None: those outside the layers; by head only where all layers share their order of heads.
        """
        shared = {"hidden_size": self.hidden_size}
        if layer is None:
            return {**shared, "num_heads": self.num_heads[0]}
        return {**shared, "num_heads": self.num_heads[layer], "intermediate_size": self.intermediate_size[layer]}

    def influential_layers(self, depth: int, teacher_depth: int) -> tuple[int, ...]:
        """Layer map: the last layer, whose relations are distilled, and the most influential ones before it."""
        last = teacher_depth - 1
        others = [layer for layer in self.num_layers.tolist() if layer < last]
        return tuple(sorted([*others[: depth - 1], last]))

    @property
    def fingerprint(self) -> str:
        """Hash of the order: two teachers in the same one are cut alike."""
        digest = hashlib.sha256()
        for name in self.__dataclass_fields__:
            digest.update(getattr(self, name).numpy().tobytes())
        return digest.hexdigest()[:16]

    def extended(self, depth: int) -> ImportanceOrder:
        """The same for a teacher of `depth` layers: further ones come last and are ordered as the last one ranked."""
        ranked = len(self.num_layers)
        layers = torch.cat([self.num_layers, torch.arange(ranked, depth)])
        parts = (self.num_heads, self.head_size, self.intermediate_size)
        longer = (torch.cat([part, part[-1:].expand(depth - ranked, *part.shape[1:])]) for part in parts)
        num_heads, head_size, intermediate_size = longer
        return ImportanceOrder(self.hidden_size, num_heads, head_size, intermediate_size, layers)

    def save(self, path: Path) -> None:
        """Write it, whole or not at all."""
        with atomic_path(path, summed=True) as temporary:
            save_file({name: getattr(self, name) for name in self.__dataclass_fields__}, temporary)

    @classmethod
    def load(cls, path: Path) -> ImportanceOrder:
        """Read it back.

        Raises:
            RunError: damaged.
        """
        try:
            check_sum(path)
            return cls(**load_file(path))
        except (SafetensorError, OSError, TypeError, ValueError) as error:
            reason = f"is damaged ({one_line(error, 100)}); restore it, or give another --run folder"
            raise RunError(f"importance order {str(path)!r} {reason}") from error


def apply_order(teacher: Teacher, order: ImportanceOrder) -> Teacher:
    """The same function with its dimensions reordered (equal up to rounding); keeps the teacher's fingerprint."""
    result = replace(teacher, model=copy.deepcopy(teacher.model), own_head=copy.deepcopy(teacher.own_head))
    with torch.no_grad():
        for name, value in result.named_parameters():
            layout = teacher.family.layout(name, value.dim(), teacher.model.config)
            axes = [_HEADS if isinstance(atom, HeadGroups) else atom for atom in layout]
            layer = teacher.family.layer_of(name)
            split = split_dimensions(value, layout, teacher.dims)
            if "head_size" in axes and layer is not None and teacher.family.carries_values(name):
                split = _reorder_within_heads(split, axes, order.head_size[layer])
            orders = order.of_layer(layer)
            for axis, atom in enumerate(axes):
                if atom in orders:
                    split = split.index_select(axis, orders[atom].to(split.device))
            value.copy_(split.reshape(value.shape))
    return result


def _reorder_within_heads(value: Tensor, axes: Sequence[object], order: Tensor) -> Tensor:
    """Reorder the dimensions of each head by its own order (heads, head_size); heads come before their dimensions."""
    heads, dimensions = axes.index(_HEADS), axes.index("head_size")
    shape = [1] * value.dim()
    shape[heads], shape[dimensions] = order.shape
    return value.gather(dimensions, order.to(value.device).view(shape).expand(value.shape))


def cut_after(teacher: Teacher, layer: int) -> Teacher:
    """A teacher that ends in `layer`: what students start from, and are ranked by, where that layer is distilled."""
    family, model = teacher.family, copy.deepcopy(teacher.model)
    layers: Any = model.get_submodule(family.layers)
    del layers[layer + 1 :]
    for name in family.layer_fields:
        setattr(model.config, name, getattr(model.config, name)[: layer + 1])
    setattr(model.config, family.fields["num_layers"], layer + 1)
    return replace(teacher, model=model)


# ---- scores

Scores = Mapping[str, Tensor]
"""Name of a linear map -> score of each of its inputs, (inputs,)."""


def energy_scores(teacher: Teacher, batches: Sequence[Batch]) -> Scores:
    """Variance over the real tokens of each input of each linear map, times the squared norm of its weights."""
    sums: dict[str, Tensor] = {}
    count = 0
    for batch in batches:
        with torch.no_grad(), _inputs_of_linears(teacher) as inputs:
            teacher.model(**batch)
        read = 0
        for name, value in inputs.items():
            tokens = _real_rows(value, real_tokens(batch)).double()
            read = len(tokens)
            sums[name] = sums.get(name, 0) + torch.stack([tokens.sum(0), tokens.square().sum(0)])
        count += read
    variance = {name: (square - total.square() / count) / count for name, (total, square) in sums.items()}
    return _times_weights(teacher, variance)


def saliency_scores(teacher: Teacher, batches: Sequence[Batch], seed: int = 0) -> Scores:
    """Sum over sequences and probes v of (sum over tokens of x * d(v . embedding)/dx)^2 for each input x, weighted."""
    generator = torch.Generator().manual_seed(seed)
    scores: dict[str, Tensor] = {}
    for batch in batches:
        embeddings = teacher.model.get_input_embeddings()
        differentiable = embeddings.register_forward_hook(lambda _, __, output: output.requires_grad_())
        with differentiable, _inputs_of_linears(teacher) as inputs:  # gradients reach all of the frozen model
            output = teacher.model(**batch)
        pooled = pool(teacher.pooling, output.last_hidden_state, output.get("pooler_output"), real_tokens(batch))
        embedding = normalize(pooled, dim=-1)
        for _ in range(PROBES):
            probe = torch.randn(embedding.shape, generator=generator).to(embedding)
            gradients = torch.autograd.grad((embedding * probe).sum(), list(inputs.values()), retain_graph=True)
            for (name, value), gradient in zip(inputs.items(), gradients, strict=True):
                change = (value.detach() * gradient).double().sum(1).square().sum(0)
                scores[name] = scores.get(name, 0) + change
    return _times_weights(teacher, scores)


def _times_weights(teacher: Teacher, scores: Scores) -> Scores:
    """Times the squared norm of the weights that read each input."""
    linears = dict(_linears(teacher))
    return {name: score * linears[name].weight.detach().double().square().sum(0) for name, score in scores.items()}


@torch.no_grad()
def block_influence(teacher: Teacher, batches: Sequence[Batch]) -> Tensor:
    """1 - mean cosine of each layer's input and output, (layers,) (ShortGPT, arXiv 2403.03853)."""
    total = torch.zeros(teacher.dims.num_layers, dtype=torch.double)
    for batch in batches:
        states = teacher.model(**batch, output_hidden_states=True).hidden_states
        tokens = [_real_rows(state, real_tokens(batch)) for state in states]
        changes = [1 - cosine_similarity(x, y, dim=-1).mean() for x, y in pairwise(tokens)]
        total += torch.stack(changes).double().cpu()
    return total / len(batches)


def _importance(teacher: Teacher, batches: Sequence[Batch], scores: Scores, hidden_scores: Scores) -> Importance:
    """Gather the scores of linear maps by what they read: FFN units and heads, or the residual stream."""
    dims = teacher.dims
    by_input: dict[object, list[Tensor]] = {"hidden_size": [], "num_heads": [], "intermediate_size": []}
    for name, _ in _linears(teacher):
        atoms = teacher.family.linear_atoms(name)
        assert atoms is not None, f"{name} is in no family table"
        read = _HEADS if atoms[1][0] == KV_HEADS else atoms[1][0]
        by_input[read].append((hidden_scores if atoms[1] == HIDDEN else scores)[name])
    groups = dims.num_heads // teacher.family.queries_per_kv(teacher.model.config)
    contexts = torch.stack(by_input[_HEADS]).reshape(dims.num_layers, groups, -1, dims.head_size)
    values = contexts.sum(2)  # over the query heads that share values
    hidden = torch.stack([score / score.sum() for score in by_input["hidden_size"]]).sum(0)  # each map counts alike
    heads = values.sum(-1)
    if teacher.family.shares_heads:
        heads = (heads / heads.sum(-1, keepdim=True)).sum(0).expand_as(heads).contiguous()
    ffn = torch.stack(by_input["intermediate_size"])
    return Importance(hidden, heads, values, ffn, block_influence(teacher, batches))


def importance_by_activation(teacher: Teacher, batches: Sequence[Batch]) -> Importance:
    """Energy of everything; forwards only."""
    scores = energy_scores(teacher, batches)
    return _importance(teacher, batches, scores, scores)


def importance_by_gradient(teacher: Teacher, batches: Sequence[Batch]) -> Importance:
    """Saliency of everything."""
    scores = saliency_scores(teacher, batches)
    return _importance(teacher, batches, scores, scores)


def importance_by_both(teacher: Teacher, batches: Sequence[Batch]) -> Importance:
    """Energy of the residual dimensions, saliency of heads and FFN units: the best of these three (LOG.md)."""
    return _importance(teacher, batches, saliency_scores(teacher, batches), energy_scores(teacher, batches))


ORDERS: Mapping[str, Callable[[Teacher, Sequence[Batch]], Importance]] = {
    "activation": importance_by_activation,
    "gradient": importance_by_gradient,
    "both": importance_by_both,
}
"""Ways to rank; the run option `order` also knows `none`."""


def _linears(teacher: Teacher) -> Iterator[tuple[str, nn.Linear]]:
    """The linear maps inside the Transformer layers, in their order."""
    for name, module in teacher.model.named_modules():
        if isinstance(module, nn.Linear) and teacher.family.layer_of(f"{name}.weight") is not None:
            yield name, module


@contextmanager
def _inputs_of_linears(teacher: Teacher) -> Iterator[dict[str, Tensor]]:
    """Collect the inputs of the linear maps of forwards inside, (batch, seq, inputs) each."""
    inputs: dict[str, Tensor] = {}
    with ExitStack() as hooks:
        for name, module in _linears(teacher):
            keep = partial(lambda name, _, arguments: inputs.__setitem__(name, arguments[0]), name)
            hooks.enter_context(module.register_forward_pre_hook(keep))
        yield inputs


def _real_rows(states: Tensor, real: Tensor | None) -> Tensor:
    """States (batch, seq, dim) of the real tokens, (tokens, dim); `real` (batch, seq) is None where all are."""
    return states.flatten(0, 1) if real is None else states[real]
