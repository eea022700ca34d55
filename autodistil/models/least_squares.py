"""Least squares: the linear maps that students share, one after another, are fitted to the teacher's on the same text.

A student is a slice of its teacher, so each of its linear maps has one of the teacher's to follow. It is fitted on what
the student itself feeds it, once those before it are: to the outputs of the teacher's map or, where it adds to the
residual stream, to the teacher's stream behind that. So it also makes good what narrower maps and left-out layers
before it have changed. Students of one SuperLM share their maps, which are fitted to all of them at once: each row of a
matrix to the students that have it, on their own inputs. No gradient and no step is taken.

Reconstruction of pruned layers by least squares is of He et al. 2017 (arXiv 1707.06168, eq. 5); Kwon et al. 2022 (arXiv
2204.09656) and ZipLM (arXiv 2302.04089) do it for Transformers, one student at a time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from autodistil.data.batch import Batch, real_tokens
from autodistil.models.families.family import HIDDEN, Atoms, leading, split_dimensions
from autodistil.models.superlm import SuperLM
from autodistil.models.teacher import Teacher
from autodistil.space.student import StudentConfig

RIDGE = 0.01
"""Weight of staying with the weights that are there, as a share of the inputs' mean square."""


@torch.no_grad()
def fit_linear_maps(
    superlm: SuperLM,
    teacher: Teacher,
    batches: Sequence[Batch],
    students: Iterable[StudentConfig],
    precision: str = "fp32",
) -> None:
    """Solve for the linear maps and norms of a SuperLM's layers, first to last, in place.

    Args:
        superlm: its students read the teacher's tokens.
        teacher: in the importance order of the students' dimensions.
        batches: what all read, some ten thousand tokens.
        students: those of the SuperLM that are fitted, which count alike.
        precision: `bf16`: layers compute in bfloat16; what is solved stays in float32 and float64.
    """
    dtype = torch.bfloat16 if precision == "bf16" else None
    pupils = [_Pupil(superlm, teacher, student, batches, dtype) for student in students]
    stack: Any = teacher.model.get_submodule(teacher.family.layers)
    by_batch = [_calls(teacher.model, stack, batch, dtype) for batch in batches]
    states: Sequence[Tensor] = [calls[0].hidden for calls in by_batch]
    for layer in range(max(layer for pupil in pupils for layer in pupil.layers) + 1):
        traces = (
            _trace(teacher, stack[layer], replace(calls[layer], hidden=hidden))
            for calls, hidden in zip(by_batch, states, strict=True)
        )
        # What maps read goes, batch by batch.
        states, targets, groups = zip(*((trace.output, trace.seen, trace.groups) for trace in traces), strict=True)
        taught = [pupil for pupil in pupils if layer in pupil.layers]
        for group in groups[0]:
            linear = isinstance(stack[layer].get_submodule(group[0]), nn.Linear)
            if having := [pupil for pupil in taught if pupil.has(layer, group[0])]:
                (_fit_maps if linear else _fit_norm)(superlm, layer, group, having, targets)
        for pupil in taught:
            pupil.leave(layer)


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
    dtype: torch.dtype | None
    """What the layer computes in, if not in that of its weights."""

    def run(self, layer: nn.Module) -> Tensor:
        """Its output (batch, seq, hidden)."""
        with torch.autocast(self.hidden.device.type, self.dtype, enabled=self.dtype is not None):
            output = layer(self.hidden, *self.others, **self.named)
        return output[0] if isinstance(output, tuple) else output

    def rows(self, states: Tensor) -> Tensor:
        """The real tokens of (batch, seq, dim) states, (tokens, dim)."""
        return (states.flatten(0, 1) if self.real is None else states[self.real]).float()


def _calls(model: PreTrainedModel, layers: Iterable[nn.Module], batch: Batch, dtype: torch.dtype | None) -> list[_Call]:
    """How a model calls its layers on a batch, in their order, all on the first one's input.

    Only the first one runs: the others hand on what they are given.
    """
    found: list[_Call] = []
    beside: list[tuple[Any, ...] | None] = []  # what the first one returns beside hidden states; None: no tuple

    def keep(_: nn.Module, arguments: tuple[Any, ...], named: dict[str, Any]) -> None:
        others = dict(named)
        hidden, *rest = arguments or (others.pop("hidden_states"),)
        found.append(_Call(hidden if not found else found[0].hidden, tuple(rest), others, real_tokens(batch), dtype))

    def look(_: nn.Module, __: tuple[Any, ...], output: Any) -> None:
        beside.append(output[1:] if isinstance(output, tuple) else None)

    def hand_on(hidden_states: Tensor, *_: Any, **__: Any) -> Any:
        (more,) = beside
        return hidden_states if more is None else (hidden_states, *more)

    first, *others = layers
    with ExitStack() as hooks:
        for layer in (first, *others):
            hooks.enter_context(layer.register_forward_pre_hook(keep, with_kwargs=True))
        hooks.enter_context(first.register_forward_hook(look))
        for layer in others:
            hooks.enter_context(_forward_of(layer, hand_on))
        model(**batch)
    return found


@contextmanager
def _forward_of(layer: nn.Module, forward: Callable[..., Any]) -> Iterator[None]:
    """Another forward in the place of a layer's own for a while."""
    own = vars(layer).get("forward")
    layer.forward = forward
    try:
        yield
    finally:
        del layer.forward
        if own is not None:
            layer.forward = own


class _Reached(Exception):
    """Ends a layer's forward behind which nobody looks. Never leaves `_trace`."""


@dataclass
class _Trace:
    """What one call of a layer does, of the real tokens: what its linear maps and norms read, and what comes of it."""

    teacher: Teacher
    call: _Call
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
    output: Tensor = field(init=False)
    """Of the layer (batch, seq, hidden), where it ran to its end."""
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
        atoms = _atoms(self.teacher, name)
        if atoms is not None and atoms[0] == HIDDEN:
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


def _trace(teacher: Teacher, layer: nn.Module, call: _Call, wanted: Sequence[str] | None = None) -> _Trace:
    """Run a layer as in a call and look at its linear maps and norms, or at those wanted and no further."""
    trace = _Trace(teacher, call, None if wanted is None else frozenset(wanted))
    with ExitStack() as hooks, suppress(_Reached):
        for name, module in layer.named_modules():
            if isinstance(module, nn.Linear) and _atoms(teacher, name) is not None:
                hooks.enter_context(module.register_forward_hook(partial(trace.on_linear, name)))
            elif getattr(module, "weight", None) is not None and module.weight.shape == call.hidden.shape[-1:]:
                hooks.enter_context(module.register_forward_pre_hook(trace.on_stream))
                hooks.enter_context(module.register_forward_hook(partial(trace.on_norm, name)))
        trace.output = call.run(layer)
        trace.end(trace.output)
    return trace


def _atoms(teacher: Teacher, name: str) -> tuple[Atoms, Atoms] | None:
    """Atoms of the linear map `name` of a layer as the family's table has it, None where that has none."""
    return teacher.family.linear_atoms(f"{teacher.family.layers}.0.{name}")


# ---- students


class _Pupil:
    """A student that is fitted: a model of its own that follows the shared weights, and what it makes of the text.

    Args:
        superlm: holds it.
        teacher: what it is fitted to.
        student: its dimensions.
        batches: what it reads.
        dtype: what its layers compute in, if not in that of its weights.
    """

    def __init__(
        self,
        superlm: SuperLM,
        teacher: Teacher,
        student: StudentConfig,
        batches: Sequence[Batch],
        dtype: torch.dtype | None,
    ) -> None:
        self._teacher, self._student, self._superlm = teacher, student, superlm
        self.layers = superlm.layers_of(student)
        """The teacher's layers that it has."""
        model: Any = superlm.extract(student).base_model
        model.to(superlm.device)
        model.config.use_cache = False  # texts are read once and whole, layer by layer
        self._modules = model.get_submodule(superlm.family.layers)
        self._calls = [_calls(model, self._modules, batch, dtype) for batch in batches]
        self._states = [calls[0].hidden for calls in self._calls]

    def has(self, layer: int, name: str) -> bool:
        """Whether it has a map or norm of a layer of the teacher, not without the block that it is of."""
        return getattr(dict(self.module(layer).named_modules()).get(name), "weight", None) is not None

    def module(self, layer: int, name: str = "") -> Any:
        """What it has of a layer of the teacher, or a module of that."""
        return self._modules[self.layers.index(layer)].get_submodule(name)

    def trace(self, layer: int, batch: int, wanted: Sequence[str] | None = None) -> _Trace:
        """What happens in a layer on what the student itself feeds it now."""
        return _trace(self._teacher, self.module(layer), self._call(layer, batch), wanted)

    def leave(self, layer: int) -> None:
        """Go on to the student's next layer."""
        self._states = [self._call(layer, batch).run(self.module(layer)) for batch in range(len(self._states))]

    def _call(self, layer: int, batch: int) -> _Call:
        return replace(self._calls[batch][self.layers.index(layer)], hidden=self._states[batch])

    def lacking(self, layer: int, name: str, own: _Trace, target: Mapping[str, Tensor]) -> Tensor:
        """What is to be added to what is seen of a map or norm, (tokens, out)."""
        atoms = self._layout(name)[0]
        return target[name][:, self._places(layer, atoms, target[name].shape[1], self._teacher.dims)] - own.seen[name]

    def outputs(self, layer: int, name: str, width: int) -> Tensor:
        """Which of `width` outputs of a shared map or norm the student has."""
        return self._places(layer, self._layout(name)[0], width, self._superlm.envelope_at(layer))

    def inputs(self, layer: int, name: str, width: int) -> Tensor:
        """Which of `width` inputs of a shared map the student has."""
        return self._places(layer, self._layout(name)[1], width, self._superlm.envelope_at(layer))

    def _layout(self, name: str) -> tuple[Atoms, Atoms]:
        """Atoms of the outputs and of the inputs of a map; of a norm, whose inputs are none."""
        family, config = self._teacher.family, self._teacher.model.config
        path = f"{family.layers}.0.{name}"
        outputs = family.layout(f"{path}.bias", 1, config)
        return outputs, family.layout(f"{path}.weight", 2, config)[len(outputs) :]

    def _places(self, layer: int, atoms: Atoms, width: int, dims: StudentConfig) -> Tensor:
        own = self._student.at(self.layers.index(layer))
        return split_dimensions(torch.arange(width), atoms, dims)[leading(atoms, own)].flatten()


# ---- solving

_Targets = Sequence[Mapping[str, Tensor]]
"""Of each batch: what is seen of the teacher's maps and norms in a layer, (tokens, out)."""


def _fit_norm(superlm: SuperLM, layer: int, group: Sequence[str], pupils: Sequence[_Pupil], targets: _Targets) -> None:
    """Scale and shift the outputs of a norm, each dimension, towards the teacher's, which is over more of them."""
    (name,) = group
    weight, bias = (superlm.shared(layer, f"{name}.{kind}") for kind in ("weight", "bias"))
    assert weight is not None
    sums = torch.zeros(5, len(weight), dtype=torch.float64)
    for pupil in pupils:
        places = pupil.outputs(layer, name, len(weight))
        for batch, target in enumerate(targets):
            own = pupil.trace(layer, batch, group)
            y, lacks = own.seen[name], pupil.lacking(layer, name, own, target)
            parts = (torch.ones_like(y), y, lacks, y * y, y * lacks)
            sums[:, places] += torch.stack([part.sum(0) for part in parts]).cpu()
    count, y, lacks, squares, products = sums / sums[0].clamp(min=1)
    mean, shift = (y, lacks) if bias is not None else (torch.zeros_like(y), torch.zeros_like(y))
    variance = squares - mean * y
    scale = (products - mean * lacks) / (variance + RIDGE * variance[count > 0].mean())
    if bias is not None:
        bias += scale.to(bias) * (bias - mean.to(bias)) + shift.to(bias)
    weight += scale.to(weight) * weight
    _follow(superlm, layer, name, pupils)


def _fit_maps(superlm: SuperLM, layer: int, group: Sequence[str], pupils: Sequence[_Pupil], targets: _Targets) -> None:
    """Add to the maps of a group, which read the same states, the ridge regression on these of what they lack."""
    squares, products = zip(*(_normal_equations(layer, group, pupil, targets) for pupil in pupils), strict=True)
    for name in group:
        weight, bias = (superlm.shared(layer, f"{name}.{kind}") for kind in ("weight", "bias"))
        assert weight is not None
        width = weight.shape[1] + 1  # the constant comes last
        rows = [pupil.outputs(layer, name, len(weight)) for pupil in pupils]
        columns = [torch.cat([pupil.inputs(layer, name, width - 1), torch.tensor([width - 1])]) for pupil in pupils]
        has = torch.zeros(len(weight), len(pupils), dtype=torch.bool)
        for number, own_rows in enumerate(rows):
            has[own_rows, number] = True
        for owners in has[has.any(dim=1)].unique(dim=0):
            chosen = (has == owners).all(1).nonzero().flatten()
            matrix, right = torch.zeros(width, width).double(), torch.zeros(width, len(chosen)).double()
            for number in owners.nonzero().flatten().tolist():
                matrix.diagonal().add_(RIDGE * squares[number].diagonal().mean())
                own, place = columns[number], torch.searchsorted(rows[number], chosen)
                matrix[own[:, None], own] += squares[number]
                right[own] += products[number][name][:, place]
            used = width - (bias is None)
            change = torch.linalg.solve(matrix[:used, :used], right[:used]).to(weight)
            weight[chosen] += change[: width - 1].T
            if bias is not None:
                bias[chosen] += change[width - 1]
        _follow(superlm, layer, name, pupils)


def _normal_equations(
    layer: int, group: Sequence[str], pupil: _Pupil, targets: _Targets
) -> tuple[Tensor, dict[str, Tensor]]:
    """Of a student's inputs x, with 1 for the constant: the sum of x x', and by map of x times what it lacks."""
    square, product = torch.zeros(()).double(), {name: torch.zeros(()).double() for name in group}
    for batch, target in enumerate(targets):
        own = pupil.trace(layer, batch, group)
        x = own.inputs[group[0]]
        x = torch.cat([x, x.new_ones(len(x), 1)], dim=1)
        square = square + (x.T @ x).cpu()
        product = {name: of + (x.T @ pupil.lacking(layer, name, own, target)).cpu() for name, of in product.items()}
    return square, product


def _follow(superlm: SuperLM, layer: int, name: str, pupils: Iterable[_Pupil]) -> None:
    """Copy the shared weights of a map or norm to the students' models."""
    for kind in ("weight", "bias"):
        shared = superlm.shared(layer, f"{name}.{kind}")
        if shared is None:
            continue
        for pupil in pupils:
            own = shared[pupil.outputs(layer, name, len(shared))]
            if own.dim() == 2:
                own = own[:, pupil.inputs(layer, name, shared.shape[1])]
            getattr(pupil.module(layer, name), kind).copy_(own)
