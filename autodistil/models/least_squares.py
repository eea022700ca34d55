"""Least squares: a student's linear maps, one after another, are fitted to what its teacher's give on the same text.

A student is a slice of its teacher, so each of its linear maps has one of the teacher's to follow. It is fitted on what
the student itself feeds it, once those before it are: to the outputs of the teacher's map or, where it adds to the
residual stream, to the teacher's stream behind that. So it also makes good what narrower maps and left-out layers
before it have changed. No gradient and no step is taken.

Reconstruction of pruned layers by least squares is of He et al. 2017 (arXiv 1707.06168, eq. 5); Kwon et al. 2022 (arXiv
2204.09656) and ZipLM (arXiv 2302.04089) do it for Transformers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from autodistil.data.batch import Batch, real_tokens
from autodistil.models.families.family import HIDDEN, Family, leading, split_dimensions
from autodistil.models.superlm import SuperLM
from autodistil.models.teacher import Teacher
from autodistil.space.student import StudentConfig

RIDGE = 0.01
"""Weight of staying with the weights that are there, as a share of the inputs' mean square."""


@torch.no_grad()
def fit_linear_maps(superlm: SuperLM, teacher: Teacher, batches: Sequence[Batch]) -> None:
    """Solve for the linear maps of a student's layers, first to last, in place.

    Args:
        superlm: that of one student, which reads the teacher's tokens.
        teacher: in the importance order of the student's dimensions.
        batches: what both read, some ten thousand tokens.
    """
    student, family = superlm.sub_space.largest, teacher.family
    model: Any = superlm.extract(student).base_model
    model.to(superlm.device)
    model.config.use_cache = False  # texts are read once and whole, layer by layer
    layers, theirs = model.get_submodule(family.layers), teacher.model.get_submodule(family.layers)
    assert isinstance(layers, nn.ModuleList)
    assert isinstance(theirs, nn.ModuleList)
    used = superlm.layer_map(student.num_layers, teacher.dims.num_layers)
    calls = [_calls(model, layers, batch) for batch in batches]
    their_calls = [_calls(teacher.model, [theirs[layer] for layer in used], batch) for batch in batches]
    states = [of_batch[0].hidden for of_batch in calls]
    for number, layer in enumerate(layers):
        own = [replace(of_batch[number], hidden=hidden) for of_batch, hidden in zip(calls, states, strict=True)]
        cut = _Cut(family, f"{family.layers}.{number}", teacher, student)
        targets = [_targets(theirs[used[number]], of_batch[number], cut) for of_batch in their_calls]
        for group in _trace(layer, own[0], cut).groups:
            fit = _fit_maps if isinstance(layer.get_submodule(group[0]), nn.Linear) else _fit_norm
            fit(layer, group, own, targets, cut)
        states = [call.run(layer) for call in own]
    superlm.load_student(student, dict(model.named_parameters()))


# ---- calls of a layer, and what its linear maps take and give


@dataclass(frozen=True)
class _Call:
    """One call of a layer."""

    hidden: Tensor
    """(batch, seq, hidden)."""
    others: tuple[Any, ...]
    named: Mapping[str, Any]
    real: Tensor | None
    """Real tokens (batch, seq); None where all are."""

    def run(self, layer: nn.Module) -> Tensor:
        """Its output (batch, seq, hidden)."""
        output = layer(self.hidden, *self.others, **self.named)
        return output[0] if isinstance(output, tuple) else output

    def rows(self, states: Tensor) -> Tensor:
        """The real tokens of (batch, seq, dim) states, (tokens, dim)."""
        return states.flatten(0, 1) if self.real is None else states[self.real]


def _calls(model: PreTrainedModel, layers: Sequence[nn.Module] | nn.ModuleList, batch: Batch) -> list[_Call]:
    """How a model calls some of its layers on a batch."""
    found: list[_Call] = []

    def keep(_: nn.Module, arguments: tuple[Any, ...], named: dict[str, Any]) -> None:
        others = dict(named)
        hidden, *rest = arguments or (others.pop("hidden_states"),)
        found.append(_Call(hidden, tuple(rest), others, real_tokens(batch)))

    with ExitStack() as hooks:
        for layer in layers:
            hooks.enter_context(layer.register_forward_pre_hook(keep, with_kwargs=True))
        model(**batch)
    return found


@dataclass(frozen=True)
class _Cut:
    """What a student keeps of its teacher's states in a layer."""

    family: Family
    layer: str
    teacher: Teacher
    student: StudentConfig

    def adds(self, name: str) -> bool:
        """Whether the linear map `name` of the layer adds to the residual stream."""
        atoms = self.family.linear_atoms(f"{self.layer}.{name}")
        return atoms is not None and atoms[0] == HIDDEN

    def knows(self, name: str) -> bool:
        """Whether it is a linear map of the family's table."""
        return self.family.linear_atoms(f"{self.layer}.{name}") is not None

    def of(self, name: str, value: Tensor) -> Tensor:
        """Of what the teacher has at the outputs of a linear map, (tokens, out), the dimensions of the student."""
        layout = self.family.layout(f"{self.layer}.{name}.bias", 1, self.teacher.model.config)
        split = split_dimensions(value, (None, *layout), self.teacher.dims)
        return split[(slice(None), *leading(layout, self.student))].flatten(1)


class _Reached(Exception):
    """Ends a layer's forward behind which nobody looks. Never leaves `_trace`."""


@dataclass
class _Trace:
    """What one call of a layer does, of the real tokens: what its linear maps and norms read, and what comes of it."""

    call: _Call
    cut: _Cut
    wanted: frozenset[str] | None = None
    """What to look at; all where None."""
    groups: list[list[str]] = field(default_factory=list)
    """Maps and norms in the order of running, maps together where they read the same states."""
    inputs: dict[str, Tensor] = field(default_factory=dict)
    """First map of a group -> what it reads, (tokens, in)."""
    seen: dict[str, Tensor] = field(default_factory=dict)
    """Map or norm -> its outputs (tokens, out) or, of a map that adds to the residual stream, the stream behind it.

    That is what the next norm reads, or the layer's output: so it is with norms before attention and FFN and with norms
    behind them.
    """
    _read: Tensor | None = None
    _adding: str | None = None

    def on_linear(self, name: str, _: nn.Module, arguments: tuple[Tensor, ...], output: Tensor) -> None:
        """Hook behind a linear map."""
        if self.wanted is not None and name not in self.wanted:
            return
        (states,) = arguments
        if states is not self._read:
            self._read = states
            self.groups.append([])
            self.inputs[name] = self.call.rows(states)
        self.groups[-1].append(name)
        if self.cut.adds(name):
            self._adding = name
        else:
            self._see(name, output)

    def on_stream(self, _: nn.Module, arguments: tuple[Tensor, ...]) -> None:
        """Hook before a norm."""
        self.end(arguments[0])

    def on_norm(self, name: str, _: nn.Module, __: tuple[Tensor, ...], output: Tensor) -> None:
        """Hook behind a norm."""
        if self.wanted is None or name in self.wanted:
            self.groups.append([name])
            self._see(name, output)

    def end(self, stream: Tensor) -> None:
        """The residual stream behind the last map that adds to it, if that was not seen yet."""
        if self._adding is not None:
            name, self._adding = self._adding, None
            self._see(name, stream)

    def _see(self, name: str, value: Tensor) -> None:
        self.seen[name] = self.call.rows(value)
        if self.wanted == self.seen.keys():
            raise _Reached


def _trace(layer: nn.Module, call: _Call, cut: _Cut, wanted: Sequence[str] | None = None) -> _Trace:
    """Run a layer as in a call and look at its linear maps and norms, or at those wanted and no further."""
    trace = _Trace(call, cut, None if wanted is None else frozenset(wanted))
    with ExitStack() as hooks, suppress(_Reached):
        for name, module in layer.named_modules():
            if isinstance(module, nn.Linear) and cut.knows(name):
                hooks.enter_context(module.register_forward_hook(partial(trace.on_linear, name)))
            elif getattr(module, "weight", None) is not None and module.weight.shape == call.hidden.shape[-1:]:
                hooks.enter_context(module.register_forward_pre_hook(trace.on_stream))
                hooks.enter_context(module.register_forward_hook(partial(trace.on_norm, name)))
        trace.end(call.run(layer))
    return trace


def _targets(layer: nn.Module, call: _Call, cut: _Cut) -> dict[str, Tensor]:
    """What a student's linear maps are fitted to: what is seen of the teacher's, cut."""
    return {name: cut.of(name, seen) for name, seen in _trace(layer, call, cut).seen.items()}


# ---- solving

_Targets = Sequence[Mapping[str, Tensor]]
"""Of each call: what is seen of the teacher's maps and norms, cut to the student's dimensions."""


def _fit_norm(layer: nn.Module, group: Sequence[str], calls: Sequence[_Call], targets: _Targets, cut: _Cut) -> None:
    """Scale and shift the outputs of a norm, each dimension, towards the teacher's, which is over more of them."""
    norm: Any = layer.get_submodule(group[0])
    y = torch.cat([_trace(layer, call, cut, group).seen[group[0]] for call in calls])
    lacking = torch.cat([wanted[group[0]] for wanted in targets]) - y
    mean, shift = (y.mean(0), lacking.mean(0)) if getattr(norm, "bias", None) is not None else (0.0, 0.0)
    squares = (y - mean).square().mean(0)
    scale = ((y - mean) * (lacking - shift)).mean(0) / (squares + RIDGE * squares.mean())
    norm.weight += scale * norm.weight
    if getattr(norm, "bias", None) is not None:
        norm.bias += scale * (norm.bias - mean) + shift


def _fit_maps(layer: nn.Module, group: Sequence[str], calls: Sequence[_Call], targets: _Targets, cut: _Cut) -> None:
    """Add to the maps of a group, which read the same states, the ridge regression on these of what they lack."""
    maps: dict[str, Any] = {name: layer.get_submodule(name) for name in group}
    size = maps[group[0]].in_features + 1
    squares = torch.zeros(size, size, dtype=torch.float64)  # here: not every accelerator has float64
    products = {name: squares.new_zeros(size, targets[0][name].shape[1]) for name in group}
    for call, wanted in zip(calls, targets, strict=True):
        own = _trace(layer, call, cut, group)
        x = own.inputs[group[0]]
        x = torch.cat([x, x.new_ones(len(x), 1)], dim=1)
        squares += (x.T @ x).cpu()
        for name in group:
            products[name] += (x.T @ (wanted[name] - own.seen[name])).cpu()
    squares.diagonal().add_(RIDGE * squares.diagonal().mean())
    for name, module in maps.items():
        used = size - (module.bias is None)
        change = torch.linalg.solve(squares[:used, :used], products[name][:used]).to(module.weight)
        module.weight += change[: size - 1].T
        if module.bias is not None:
            module.bias += change[size - 1]
