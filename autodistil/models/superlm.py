"""SuperLM: one set of parameters that all students of a sub-space share (AutoDistil, section 3; once-for-all networks).

A student is a value, never a mode: its forward is the Hugging Face model of its own config, run by
`torch.func.functional_call` on leading slices of the shared parameters. What is evaluated is therefore what is
exported, by construction: the same module class with the same numbers.

A decoder is the model without its language-model head, and the head beside it: losses make logits of the last hidden
states by themselves (logits.py). Where the head is the word embeddings, both names stand for one parameter.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.func import functional_call
from transformers import AutoModel, AutoModelForCausalLM, PretrainedConfig, PreTrainedModel

from autodistil.data.batch import Batch
from autodistil.models.attention import ModelStates, run_tapped, use_tapped_attention
from autodistil.models.factorised import electra_config, factorise
from autodistil.models.families.bert import ELECTRA
from autodistil.models.families.family import LM_HEAD, OUTPUT_HEAD, Family, leading, split_dimensions
from autodistil.models.layer_maps import LayerMap, depths_of, spread_layers
from autodistil.models.quantised import Quantiser, quantisers, rounded
from autodistil.models.teacher import Teacher
from autodistil.models.vocabulary import Vocabulary, renumber_config
from autodistil.models.weight_decay import decayed_parameters
from autodistil.space.space import OneStudent, StudentSet
from autodistil.space.student import StudentConfig


@dataclass(frozen=True)
class TokenRows:
    """The rows of the word embedding that a batch touches, so that neither copies nor gradients span the vocabulary."""

    rows: Tensor
    """Vocabulary ids, (rows,), unique."""
    batch: Batch
    """The batch with `input_ids` renumbered into `rows`; the padding id keeps its number, which models test for."""

    @classmethod
    def of(cls, batch: Batch, padding: int | None) -> TokenRows | None:
        """Renumber a batch; None where the padding id cannot keep its number."""
        ids = batch["input_ids"]
        if padding is None:
            rows, renumbered = torch.unique(ids, return_inverse=True)
            return cls(rows, {**batch, "input_ids": renumbered})
        rows = torch.unique(torch.cat([ids.reshape(-1), ids.new_tensor([padding])]))
        if padding >= len(rows):
            return None
        at = int(torch.searchsorted(rows, padding))
        numbers = torch.searchsorted(rows, ids)
        rows[[at, padding]] = rows[[padding, at]]
        swapped = torch.where(numbers == at, padding, torch.where(numbers == padding, at, numbers))
        return cls(rows, {**batch, "input_ids": swapped})


_KEPT = 512
"""Students whose module trees are kept, a third of a MB each."""

Slice = tuple[str, str, tuple[slice, ...], torch.Size]
"""A student's parameter: its name, the SuperLM's name, where it lies there and its own shape."""


@dataclass(eq=False, repr=False)
class SuperLM:
    """The shared parameters of one sub-space, and its students."""

    family: Family
    base_config: PretrainedConfig
    """The teacher's, or that of an ELECTRA like it where embeddings are factorised."""
    sub_space: StudentSet
    """The students."""
    parameters: Mapping[str, Tensor]
    """Name -> tensor with one dimension per atom of its layout (`models.families.family`); copied.

    Layer indices in the names count the SuperLM's own layers: those teacher layers that some student uses.
    """
    layer_map: LayerMap = spread_layers
    pooler: bool = True
    vocabulary: Vocabulary | None = None
    """Which rows of the word embeddings an extracted student with a pruned vocabulary gets.

    Everything else sees the whole table in the teacher's numbering, whatever the student's vocabulary.
    """
    _skeletons: dict[StudentConfig, PreTrainedModel] = field(init=False, default_factory=dict)
    _plans: dict[StudentConfig, list[Slice]] = field(init=False, default_factory=dict)

    def __post_init__(self) -> None:
        self.parameters = {name: nn.Parameter(value.clone()) for name, value in self.parameters.items()}
        self._teacher_depth = self.family.dimensions(self.base_config).num_layers
        self._layers = used_layers(self.sub_space, self._teacher_depth, self.layer_map)

    @classmethod
    def from_teacher(
        cls,
        teacher: Teacher,
        sub_space: StudentSet,
        layer_map: LayerMap = spread_layers,
        vocabulary: Vocabulary | None = None,
        tokens: Tensor | None = None,
        output_head: Tensor | None = None,
    ) -> SuperLM:
        """Initialise from the teacher: leading slices of its parameters, layers by `layer_map`.

        Args:
            teacher: the teacher; one that `check_factorisable` accepts where `sub_space` has embedding sizes.
            sub_space: the students.
            layer_map: which of the teacher's layers a student has.
            vocabulary: see the class.
            tokens: ids (sequences, seq) of the text that factorised embeddings are fitted to.
            output_head: from the teacher's embeddings to those of an output teacher, (dim, hidden).
        """
        family, config = teacher.family, teacher.model.config
        layers = used_layers(sub_space, teacher.dims.num_layers, layer_map)
        parameters = {}
        for name, value in teacher.named_parameters():
            layer = family.layer_of(name)
            if layer is not None and layer not in layers:
                continue
            own_name = name if layer is None else family.rename_layer(name, layers.index(layer))
            layout = family.layout(name, value.dim(), config)
            split = split_dimensions(value.detach().float(), layout, teacher.dims)
            envelope = sub_space.envelope if layer is None else sub_space.envelope_at(layers.index(layer))
            parameters[own_name] = split[leading(layout, envelope)]
        head = {} if output_head is None else {OUTPUT_HEAD: output_head[:, : sub_space.envelope.hidden_size]}
        if not sub_space.has_axis_of("embedding_size"):
            return cls(family, config, sub_space, {**parameters, **head}, layer_map, teacher.has_pooler, vocabulary)
        sizes = sorted({student.embedding_size or 0 for student in sub_space.architectures})
        factorised = {**factorise(parameters, config.layer_norm_eps, sizes, tokens), **head}
        return cls(ELECTRA, electra_config(config, sizes[-1]), sub_space, factorised, layer_map, False, vocabulary)

    def alone(self, student: StudentConfig, name: str | None = None) -> SuperLM:
        """A SuperLM of this one student, with copies of its parameters: what goes on training it alone.

        Args:
            student: a student of the sub-space.
            name: of the new SuperLM, this one's unless given.
        """
        sub_space = OneStudent(name or self.sub_space.name, student)
        parameters = {name: self.parameters[own].detach()[index] for name, own, index, _ in self._slices(student)}
        if self._tied_head:
            del parameters[LM_HEAD]
        return replace(self, sub_space=sub_space, parameters=parameters)

    @property
    def device(self) -> torch.device:
        """The device of the parameters."""
        return next(iter(self.parameters.values())).device

    @property
    def decayed(self) -> frozenset[str]:
        """Names of the parameters that weight decay is for."""
        family = self.family
        first = decayed_parameters(self._skeleton(self.sub_space.largest)) | {LM_HEAD, OUTPUT_HEAD}
        known = {
            name: name if family.layer_of(name) is None else family.rename_layer(name, 0) for name in self.parameters
        }
        return frozenset(name for name, alike in known.items() if alike in first)

    def state_dict(self) -> dict[str, Tensor]:
        """Detached parameters by name."""
        return {name: parameter.detach() for name, parameter in self.parameters.items()}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Copy parameters in. Names and shapes must be this SuperLM's own."""
        assert state.keys() == self.parameters.keys(), "parameters of another SuperLM"
        with torch.no_grad():
            for name, parameter in self.parameters.items():
                parameter.copy_(state[name])

    def student_config(self, student: StudentConfig) -> PretrainedConfig:
        """The Hugging Face config of a student, with token ids in its own numbering."""
        config = self.family.student_config(self.base_config, student, self.layers_of(student))
        if student.vocab_size is not None:
            assert self.vocabulary is not None, "a pruned student of a SuperLM without a vocabulary"
            renumber_config(config, self.vocabulary, student.vocab_size)
        if student.quantised:
            config.weight_bits = student.weight_bits
        return config

    def layers_of(self, student: StudentConfig) -> tuple[int, ...]:
        """The teacher's layers that a student has: what it says itself, else what the layer map does."""
        return layers_of(student, self._teacher_depth, self.layer_map)

    def envelope_at(self, layer: int) -> StudentConfig:
        """Its own shape in a layer of the teacher, one that some student has."""
        return self.sub_space.envelope_at(self._layers.index(layer))

    def kept_tokens(self, student: StudentConfig) -> Tensor | None:
        """The teacher's ids of a student's tokens, (vocabulary,): its own ids are the indices. None: all, unchanged."""
        if student.vocab_size is None:
            return None
        assert self.vocabulary is not None, "a pruned student of a SuperLM without a vocabulary"
        return torch.from_numpy(self.vocabulary.kept(student.vocab_size))

    def shared(self, layer: int, name: str) -> Tensor | None:
        """A parameter that students share in a layer of the teacher, without gradient; None where there is none.

        Args:
            layer: one that some student has.
            name: without that of the layer.

        Returns:
            (outputs, inputs) of a linear map, (outputs,) of others; in the SuperLM's own memory.
        """
        own = f"{self.family.layers}.{self._layers.index(layer)}.{name}"
        if own not in self.parameters:
            return None
        value = self.parameters[own].detach()
        atoms = self.family.linear_atoms(own.rpartition(".")[0])
        inputs = len(atoms[1]) if atoms is not None and name.endswith(".weight") else 0
        return value.flatten(value.dim() - inputs).flatten(0, -2) if inputs else value.flatten()

    def weights(self, student: StudentConfig) -> dict[str, Tensor]:
        """The student's parameters as differentiable views, named and shaped as in its Hugging Face model.

        The word embeddings are those of the whole vocabulary. Weights of few bits are rounded.
        """
        found = {name: self.parameters[own][index].reshape(shape) for name, own, index, shape in self._slices(student)}
        return {**found, **{name: rounded(found[name], few) for name, few in self._quantisers(student).items()}}

    def forward(
        self,
        student: StudentConfig,
        batch: Batch,
        weights: Mapping[str, Tensor] | None = None,
        output: bool = False,
        hidden: bool = False,
    ) -> ModelStates:
        """Attention states of the student's last layer and, if asked, its hidden states.

        Args:
            student: a student of the sub-space.
            batch: token ids in the teacher's numbering, and mask.
            weights: the student's parameters, `self.weights(student)` unless given (see `leaf_weights`).
            output: also run what follows the last attention.
            hidden: also return the output of every layer; needs `output`.
        """
        model = self._skeleton(student)
        # What is tied is given by both names; looking for ties takes longer than a small forward.
        given = dict(weights or self.weights(student))
        head, output_head = given.pop(LM_HEAD, None), given.pop(OUTPUT_HEAD, None)
        run = partial(functional_call, model, given, (), tie_weights=False)
        states = run_tapped(lambda **inputs: run(kwargs=inputs), batch, student.totals[0] - 1, output, hidden)
        depths = depths_of(self.layers_of(student), self._teacher_depth)
        return replace(states, depths=depths, head=head, output_head=output_head)

    def extract(self, student: StudentConfig) -> PreTrainedModel:
        """The student as an ordinary Hugging Face model on the CPU, with parameters of its own."""
        model = self._new_model(student, torch.device("cpu"), whole=True)
        state = {name: value.detach().cpu().clone() for name, value in self.weights(student).items()}
        state.pop(OUTPUT_HEAD, None)
        kept = self.kept_tokens(student)
        if kept is not None:
            state[self.family.word_embeddings] = state[self.family.word_embeddings][kept]
        if self.family.causal:
            prefix = f"{model.base_model_prefix}."
            state = {name if name == LM_HEAD else prefix + name: value for name, value in state.items()}
        model.load_state_dict(state, strict=True, assign=True)
        model.tie_weights()
        return model.eval()

    def output_head(self, student: StudentConfig) -> Tensor | None:
        """The student's map from embeddings to those of the output teacher, (dim, hidden); None where there is none."""
        head = self.weights(student).get(OUTPUT_HEAD)
        return None if head is None else head.detach().cpu().clone()

    def meta_model(self, student: StudentConfig) -> PreTrainedModel:
        """The student's Hugging Face model without memory for its parameters, for tracing."""
        return self._new_model(student, torch.device("meta"), whole=True).eval()

    def leaf_weights(
        self, student: StudentConfig, rows: TokenRows | None, dtype: torch.dtype = torch.float32, head: bool = False
    ) -> dict[str, Tensor]:
        """The student's parameters as contiguous leaves that collect gradients of their own.

        Backward into views would fill a gradient of the SuperLM's full size for each student; leaves get just
        theirs, and `accumulate` adds them where they belong. What is contiguous as it lies is shared, not copied:
        leaves are for use before the next update. Of weights of few bits the leaves are rounded, so that the floats get
        the gradients of these (straight through).

        Args:
            student: a student of the sub-space.
            rows: the word-embedding rows to take, all where None; the forward then needs `rows.batch`.
            dtype: what the student computes in; its gradients are added in the SuperLM's own.
            head: also take a decoder's language-model head, over the whole vocabulary.
        """
        leaves, quantisers = {}, self._quantisers(student)
        for name, own, index, shape in self._slices(student):
            if name == LM_HEAD and not head:
                continue
            value = self.parameters[own].detach()
            if rows is not None and name == self.family.word_embeddings:
                value = value[rows.rows]
                shape = torch.Size((len(rows.rows), *shape[1:]))
            value = value[index].reshape(shape)
            value = rounded(value, quantisers[name]) if name in quantisers else value
            leaves[name] = value.to(dtype).contiguous().requires_grad_()
        return leaves

    def accumulate(self, student: StudentConfig, leaves: Mapping[str, Tensor], rows: TokenRows | None) -> None:
        """Add the gradients of `leaf_weights` to the shared parameters' `.grad` (which stays None where none came)."""
        for name, own, index, _ in self._slices(student):
            gradient = leaves[name].grad if name in leaves else None
            if gradient is None:
                continue
            parameter = self.parameters[own]
            touched = rows.rows if rows is not None and name == self.family.word_embeddings else None
            if parameter.grad is None:
                if touched is None and gradient.numel() == parameter.numel():
                    parameter.grad = gradient.reshape(parameter.shape).to(parameter.dtype)
                    continue
                parameter.grad = torch.zeros_like(parameter)
            target = parameter.grad[index]
            if touched is None:
                target += gradient.reshape(target.shape)
            else:
                target.index_add_(0, touched, gradient.to(target.dtype))

    def token_rows(self, batch: Batch) -> TokenRows | None:
        """The word-embedding rows of a batch, for `leaf_weights` and `accumulate`; None for images."""
        return TokenRows.of(batch, self.base_config.pad_token_id) if "input_ids" in batch else None

    def _slices(self, student: StudentConfig) -> list[Slice]:
        """Name, place and shape of each parameter of the student, cached."""
        student = student.network
        if student in self._plans:
            return self._plans[student]
        slots = [self._layers.index(layer) for layer in self.layers_of(student)]
        parameters = {name: (name, value.shape) for name, value in self._skeleton(student).named_parameters()}
        if self.family.causal:
            words = self.family.word_embeddings
            parameters[LM_HEAD] = (words if self._tied_head else LM_HEAD, parameters[words][1])
        if OUTPUT_HEAD in self.parameters:
            shape = torch.Size((len(self.parameters[OUTPUT_HEAD]), student.hidden_size))
            parameters[OUTPUT_HEAD] = (OUTPUT_HEAD, shape)
        plan = self._plans.setdefault(student, [])
        for name, (own, shape) in parameters.items():
            layer = self.family.layer_of(name)
            own = own if layer is None else self.family.rename_layer(name, slots[layer])
            dims = student if layer is None else student.at(layer)
            layout = None if name == OUTPUT_HEAD else self.family.layout(name, len(shape), self.base_config)
            index = (slice(None), slice(shape[1])) if layout is None else leading(layout, dims)
            plan.append((name, own, index, shape))
        return plan

    def _quantisers(self, student: StudentConfig) -> Mapping[str, Quantiser]:
        """Which of the student's weights have few bits."""
        return quantisers(self._skeleton(student), student.weight_bits) if student.quantised else {}

    @property
    def _tied_head(self) -> bool:
        return self.family.causal and bool(self.base_config.tie_word_embeddings)

    def _skeleton(self, student: StudentConfig) -> PreTrainedModel:
        """The module tree of the student without parameters (they stay on the meta device), cached."""
        student = student.network
        if student not in self._skeletons:
            model = self._new_model(student, self.device).eval()
            use_tapped_attention(model, self.family.projections, student.head_size)
            if len(self._skeletons) >= _KEPT:  # students that nobody lists come by hundreds
                self._plans.pop(oldest := next(iter(self._skeletons)), None)
                del self._skeletons[oldest]
            self._skeletons[student] = model
        return self._skeletons[student]

    def _new_model(self, student: StudentConfig, device: torch.device, whole: bool = False) -> PreTrainedModel:
        """A student's model, `whole` with the head of a decoder: buffers on `device`, parameters on the meta device."""
        kind: Any = AutoModelForCausalLM if whole and self.family.causal else AutoModel
        with torch.device("meta"):
            model = kind.from_config(self.student_config(student))
        if not self.pooler and hasattr(model, "pooler"):
            model.pooler = None
        for module in model.modules():  # buffers, such as positions, get their values as by `from_pretrained`
            buffers = {name: buffer for name, buffer in module.named_buffers(recurse=False) if buffer.is_meta}
            module._buffers.update({n: torch.empty_like(buffer, device=device) for n, buffer in buffers.items()})
            if buffers:
                model._init_weights(module)
        return cast(PreTrainedModel, model)


def used_layers(sub_space: StudentSet, teacher_depth: int, layer_map: LayerMap) -> tuple[int, ...]:
    """The teacher layers that some student of the sub-space uses, in order."""
    return tuple(
        sorted({layer for one in sub_space.architectures for layer in layers_of(one, teacher_depth, layer_map)})
    )


def layers_of(student: StudentConfig, teacher_depth: int, layer_map: LayerMap) -> tuple[int, ...]:
    """The teacher's layers that a student has."""
    return layer_map(student.num_layers, teacher_depth) if student.kept_layers is None else student.kept_layers
