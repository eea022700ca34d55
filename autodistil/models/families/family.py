"""What the engine must know of a model family: which config field is which axis, which tensor dimension is which axis.

A SuperLM keeps every parameter of a Hugging Face encoder as a tensor whose dimensions are *atoms*: fields of
`StudentConfig` (sliced to the student's value, whole where that is None), `None` (kept whole) or a number (that many
equal parts, all kept). The query weight of BERT, for example, has the layout `("num_heads", "head_size",
"hidden_size")`: a student takes the leading heads, of each head the leading dimensions, and the leading residual
dimensions. A fused projection of queries, keys and values starts with a 3. A family is one `Family` value; adding one
is adding a table (docs/families.md).

Grouped queries (GQA, arXiv 2305.13245): some query heads share one head of keys and values. Students keep the teacher's
number of them, so a group of heads is what can be left out. Tables say `KV_HEADS` and `QUERIES`; a layout, which knows
the config, has a `HeadGroups` and a number in their place.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from transformers import PretrainedConfig

from autodistil.errors import TeacherError
from autodistil.models.families.windows import Windows
from autodistil.space.axes.bits import BITS
from autodistil.space.axes.window import WINDOWS
from autodistil.space.shape import EncoderShape, LayerTerms
from autodistil.space.space import SearchSpace
from autodistil.space.student import StudentConfig
from autodistil.utils import listed

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class HeadGroups:
    """The axis of heads that share one head of keys and values: as many as there are of these."""

    queries: int
    """Query heads of a group."""

    def of(self, dims: StudentConfig) -> int:
        """Groups of a student."""
        return dims.num_heads // self.queries


Atoms = tuple[str | int | HeadGroups | None, ...]
KV_HEADS, QUERIES = "kv_heads", "queries"
"""Names in tables: heads of keys and values, and query heads of each."""
HIDDEN: Atoms = ("hidden_size",)
EMBEDDING: Atoms = ("embedding_size",)

_NOT_OF_DECODERS = {
    "vocab_size": "decoders predict every token of the teacher",
    **dict.fromkeys(BITS, "decoders have no file of few bits yet"),
}
"""Sizes that encoders alone have, and why."""
HEADS: Atoms = ("num_heads", "head_size")
ROTARY_HEADS: Atoms = ("num_heads", 2, "rotary_pairs")
"""Heads under rotary positions, which turn dimension i together with i + half the head size: slices keep both."""
GROUPED_QUERIES: Atoms = (KV_HEADS, QUERIES, 2, "rotary_pairs")
GROUPED_KEYS: Atoms = (KV_HEADS, 2, "rotary_pairs")
GROUPED_VALUES: Atoms = (KV_HEADS, "head_size")
GROUPED_CONTEXT: Atoms = (KV_HEADS, QUERIES, "head_size")
"""Outputs of the projections of queries, keys and values, and the input of the one behind attention."""
FFN: Atoms = ("intermediate_size",)
LM_HEAD = "lm_head.weight"
OUTPUT_HEAD = "output_head.weight"
"""Of the map (dim, hidden) from embeddings to those of an output teacher, beside the parameters of the model."""
"""Name of a decoder's head, (vocabulary, hidden), beside the parameters of the model without it."""
WHOLE: Atoms = (None,)

BERT_FIELDS = {
    "num_layers": "num_hidden_layers",
    "hidden_size": "hidden_size",
    "num_heads": "num_attention_heads",
    "intermediate_size": "intermediate_size",
}
"""Axis -> config field, as most families call it."""


@dataclass(frozen=True)
class Family:
    """One table per family of Hugging Face encoders."""

    model_types: tuple[str, ...]
    """`config.model_type` values that this table describes."""
    layers: str
    """Dotted path of the `ModuleList` of Transformer layers."""
    linears: Mapping[str, tuple[Atoms, Atoms]]
    """Suffix of a `Linear` module -> (atoms of its outputs, atoms of its inputs); the first match counts."""
    others: Mapping[str, Atoms] = field(default_factory=dict)
    """Suffix of a parameter of something else than a `Linear` -> its atoms; (..., residual stream) if not listed."""
    value: str = "attention.self.value"
    """Suffix of the `Linear` that makes the values."""
    projections: tuple[str, str, str] | None = None
    """Suffixes of the `Linear` modules of Q, K, V where the model does not use transformers' `AttentionInterface`."""
    layer_fields: tuple[str, ...] = ()
    """Fields of the config that list one entry a layer; a student has those of the teacher layers it keeps."""
    layer_terms: Callable[[PretrainedConfig], LayerTerms] = lambda _: LayerTerms()
    """What one layer has beside matrices that BERT's has too, for the closed-form costs."""
    position_table: bool = True
    """Positions are rows of a table; not with rotary positions."""
    tried_on: tuple[str, ...] = ()
    """Packaged teachers, or examples that train one, on whose weights the family was tried; tests use random ones."""
    word_embeddings: str = "embeddings.word_embeddings.weight"
    """Name of the word embedding parameter, (vocabulary, hidden)."""
    fields: Mapping[str, str] = field(default_factory=lambda: BERT_FIELDS)
    """Axis -> field of the Hugging Face config; `head_size` too where it has one, else it follows from the others."""
    positions_after_padding: bool = False
    """Positions are counted from behind the padding id, not from 0."""
    modality: str = "text"
    """What the models read: `text` or `image` (`families.vit.VisionFamily`)."""
    own_config: Callable[[PretrainedConfig, int, Sequence[tuple[int, int]]], PretrainedConfig] | None = None
    """Config, head size, and heads and FFN units of each layer -> config of students that no plain model can be: layers
    of several sizes, or attention whose width is not the hidden size (architectures/)."""
    causal: bool = False
    """Decoders: a token sees none behind it, and a language-model head, which may be the word embeddings, predicts the
    next one."""
    norms_first: bool = False
    """Layers begin with a norm and the last states have one of their own, so a layer's states are no output."""
    windows: Windows | None = None
    """How a student's config says that layers are local; None: they cannot be."""
    kv_heads: str | None = None
    """Field of the config with the number of heads of keys and values; None: as many as of queries."""

    def max_length(self, config: PretrainedConfig) -> int:
        """Tokens of the longest sequence that a model takes."""
        first = config.pad_token_id + 1 if self.positions_after_padding else 0
        return int(config.max_position_embeddings - first)

    def dimensions(self, config: PretrainedConfig) -> StudentConfig:
        """The axes of a model, read off its config.

        Raises:
            TeacherError: a size is below one, or the number of heads does not divide the hidden size.
        """
        known = {axis: getattr(config, name) for axis, name in self.fields.items()}
        axes: dict[str, Any] = {a: int(size) for a, size in known.items() if not (a == "head_size" and size is None)}
        for axis, size in axes.items():
            if size < 1:
                raise TeacherError(
                    f"{self.fields[axis]} = {size} of a {config.model_type} teacher; allowed: 1 or more; "
                    "give a config.json that fits the weights"
                )
        self.queries_per_kv(config)
        if "head_size" in axes:
            return StudentConfig(**axes)
        if axes["hidden_size"] % axes["num_heads"]:
            raise TeacherError(
                f"{self.fields['num_heads']} = {axes['num_heads']} of a {config.model_type} teacher does not divide "
                f"{self.fields['hidden_size']} = {axes['hidden_size']}; allowed: a divisor; give a config.json that "
                "fits the weights"
            )
        return StudentConfig(**axes, head_size=axes["hidden_size"] // axes["num_heads"])

    def queries_per_kv(self, config: PretrainedConfig) -> int:
        """Query heads that share one head of keys and values.

        Raises:
            TeacherError: the number of the latter does not divide that of the former.
        """
        if self.kv_heads is None:
            return 1
        queries, shared = (int(getattr(config, name)) for name in (self.fields["num_heads"], self.kv_heads))
        if shared < 1 or queries % shared:
            raise TeacherError(
                f"{self.kv_heads} = {shared} of a {config.model_type} teacher does not divide "
                f"{self.fields['num_heads']} = {queries}; allowed: a divisor; give a config.json that fits the weights"
            )
        return queries // shared

    def student_config(
        self, config: PretrainedConfig, student: StudentConfig, layers: Sequence[int]
    ) -> PretrainedConfig:
        """The Hugging Face config of a student: the teacher's with the axes replaced.

        Args:
            config: the teacher's.
            student: the axes.
            layers: the teacher's layers that the student keeps.
        """
        result = copy.deepcopy(config)
        for axis, name in self.fields.items():
            setattr(result, name, getattr(student, axis))
        for name in self.layer_fields:
            setattr(result, name, [getattr(config, name)[layer] for layer in layers])
        if self.kv_heads is not None:
            setattr(result, self.kv_heads, student.num_heads // self.queries_per_kv(config))
        if self.causal:
            result.use_cache = True  # which the teacher does without, as it only reads (attention.py)
        if hasattr(config, "embedding_size") and _factorised_size(config) is None:
            result.embedding_size = student.hidden_size
        if student.embedding_size is not None:
            result.embedding_size = student.embedding_size
        if student.window is not None:
            assert self.windows is not None, "what `check_space` refuses"
            return self.windows.given(result, student.window, student.global_every)
        if self.needs_own_class(student):
            assert self.own_config is not None, "what `check_space` refuses"
            return self.own_config(result, student.head_size, student.own_layers)
        return result

    def needs_own_class(self, student: StudentConfig) -> bool:
        """Whether a student is of no class of Hugging Face: layers differ, or heads are of a size that none can say."""
        return student.uneven or (student.free_attention and "head_size" not in self.fields)

    def encoder_shape(self, config: PretrainedConfig, pooler: bool) -> EncoderShape:
        """The constants that the closed-form costs need beside the axes."""
        positions = config.max_position_embeddings if self.position_table else 0
        return EncoderShape(
            vocab_size=config.vocab_size,
            other_embedding_rows=positions + (getattr(config, "type_vocab_size", 0) or 0),
            embedding_size=_factorised_size(config),
            pooler=pooler,
            layer=replace(self.layer_terms(config), queries_per_kv=self.queries_per_kv(config)),
            window=(self.windows and self.windows.of(config)) or self.max_length(config),
            tied_head=bool(config.tie_word_embeddings) if self.causal else None,
        )

    def layout(self, name: str, ndim: int, config: PretrainedConfig) -> Atoms:
        """Atoms of the parameter `name`: by the tables, else (..., residual stream)."""
        module, kind = name.rsplit(".", 1)
        atoms = self.linear_atoms(module)
        if atoms is not None:
            queries = self.queries_per_kv(config)
            known: Mapping[object, HeadGroups | int] = {KV_HEADS: HeadGroups(queries), QUERIES: queries}
            return tuple(known.get(atom, atom) for atom in (atoms[0] + atoms[1] if kind == "weight" else atoms[0]))
        for suffix, others in self.others.items():
            if name.endswith(suffix):
                return others
        factorised = _factorised_size(config) is not None and name.startswith("embeddings.")
        return WHOLE * (ndim - 1) + (EMBEDDING if factorised else HIDDEN)

    def linear_atoms(self, module: str) -> tuple[Atoms, Atoms] | None:
        """Atoms of the outputs and the inputs of the `Linear` called `module`, None where it is none of the table's."""
        return next((atoms for suffix, atoms in self.linears.items() if module.endswith(suffix)), None)

    @property
    def shares_heads(self) -> bool:
        """Whether all layers share something by head, so that heads have one order."""
        return any("num_heads" in atoms for atoms in self.others.values())

    @property
    def rotary(self) -> bool:
        """Whether queries and keys are rotated in pairs of dimensions, so that head sizes are even."""
        return any("rotary_pairs" in (*outputs, *inputs) for outputs, inputs in self.linears.values())

    def check_space(self, space: SearchSpace, config: PretrainedConfig | None = None) -> None:
        """Check what a family asks of its students beside being no larger than the teacher.

        Args:
            space: the students.
            config: the teacher's, which says how queries are grouped; None: one by one.

        Raises:
            SpaceError: an odd head size under rotary positions, free attention or layers of their own that have no
                architecture, heads that split a group, a pruned vocabulary of a decoder, or windows that no model of
                the family has.
        """
        self._check_attention(space)
        self._check_layers(space)
        self._check_windows(space, config)
        queries = 1 if config is None else self.queries_per_kv(config)
        if split := {c.config.num_heads for c in space.candidates if c.config.num_heads % queries}:
            allowed = f"multiples of {queries}, the query heads that share keys and values in this teacher"
            raise space.refusal("num_heads", listed(sorted(split)), allowed)
        for size, reason in _NOT_OF_DECODERS.items():
            if self.causal and space.has_axis_of(size):
                raise space.refusal(size, f"it for {self.model_types[0]}", f"encoders, as {reason}", "leave it out")
        if odd := {c.config.head_size for c in space.candidates if self.rotary and c.config.head_size % 2}:
            allowed = f"even numbers, as {self.model_types[0]} turns pairs of dimensions by their position"
            raise space.refusal("head_size", listed(sorted(odd)), allowed)

    def fit_space(self, space: SearchSpace) -> SearchSpace:
        """A space that was not made for this family, without the students that it cannot have."""
        return space

    def _check_attention(self, space: SearchSpace) -> None:
        if not space.frees_attention:
            return
        own = "head_size" in self.fields
        factorised = space.has_axis_of("embedding_size")
        if not own and (self.own_config is None or factorised):
            what = "students with an embedding_size" if factorised else self.model_types[0]
            ours = "bert, roberta, electra, mpnet, vit and deit teachers"
            allowed = f"{ours}, without embedding_size, and those with a head size in their config"
            raise space.refusal("free_attention", f"it for {what}", allowed, "leave it out")
        students = [candidate.config for candidate in space.candidates]
        uneven = sorted({(s.hidden_size, s.num_heads) for s in students if own and s.hidden_size % s.num_heads})
        if uneven:
            hidden, heads = uneven[0]
            allowed = f"a multiple of the heads, which {self.model_types[0]} asks for"
            raise space.refusal("hidden_size", f"{hidden} with {heads} heads", allowed)

    def _check_layers(self, space: SearchSpace) -> None:
        factorised = space.has_axis_of("embedding_size")
        if not space.is_listed and (self.own_config is None or factorised):
            what = "students with an embedding_size" if factorised else self.model_types[0]
            allowed = "bert, roberta, electra, mpnet, vit, deit, llama and qwen3 teachers, without embedding_size"
            raise space.refusal("per_layer", f"it for {what}", allowed, "leave it out")

    def _check_windows(self, space: SearchSpace, config: PretrainedConfig | None) -> None:
        axis = next(filter(space.has_axis_of, WINDOWS), None)
        if axis is None:
            return
        kind, windows = self.model_types[0], self.windows
        if windows is None:
            raise space.refusal(axis, f"it for {kind}", "modernbert teachers and decoders", "leave it out")
        if not space.is_listed:
            raise space.refusal(
                axis, "it where layers have sizes of their own", "layers that are alike", "leave it out"
            )
        if config is not None and (lacks := windows.lacks(config)):
            raise space.refusal(axis, f"it for a {kind} teacher with {lacks}", "teachers without", "leave it out")
        given = [(sub.axes.get("window"), sub.has_axis_of("global_every")) for sub in space.sub_spaces]
        if any(every and not window for window, every in given):
            raise space.refusal("global_every", "no window beside it", "both in a sub-space", "add window")
        if any(every for _, every in given) and not windows.picks_layers:
            allowed = "decoders, as its local layers turn positions faster than its global ones"
            raise space.refusal("global_every", f"it for {kind}", allowed, "leave it out")
        odd = sorted({size for sizes, _ in given for size in sizes or () if size and size % 2})
        if odd and windows.even:
            raise space.refusal("window", listed(odd), "even numbers, half of them on either side of a token")

    def carries_values(self, name: str) -> bool:
        """Whether the head dimensions of the parameter `name` are those of values (not of queries and keys)."""
        module = name.rsplit(".", 1)[0]
        atoms = self.linear_atoms(module)
        return module.endswith(self.value) or (atoms is not None and atoms[1] in (HEADS, GROUPED_CONTEXT))

    def layer_of(self, name: str) -> int | None:
        """Index of the Transformer layer that owns the parameter `name`, None outside the layers."""
        match = re.match(rf"{re.escape(self.layers)}\.(\d+)\.", name)
        return int(match.group(1)) if match else None

    def rename_layer(self, name: str, layer: int) -> str:
        """`name` with its layer index replaced by `layer`."""
        return re.sub(rf"^({re.escape(self.layers)}\.)\d+\.", rf"\g<1>{layer}.", name)


def _factorised_size(config: PretrainedConfig) -> int | None:
    """Embedding size where it is one of its own, as in ELECTRA-small; ELECTRA-base's is its hidden size."""
    size: int | None = getattr(config, "embedding_size", None)
    return None if size == config.hidden_size else size


def split_dimensions(tensor: torch.Tensor, layout: Atoms, dims: StudentConfig) -> torch.Tensor:
    """Reshape a Hugging Face parameter so that each atom is a dimension of its own."""
    if len(layout) == tensor.dim():
        return tensor
    return tensor.reshape([atom if isinstance(atom, int) else _size(atom, dims) or -1 for atom in layout])


def leading(layout: Atoms, dims: StudentConfig) -> tuple[slice, ...]:
    """Index of the leading sub-tensor that a student of `dims` uses."""
    return tuple(slice(_size(atom, dims)) for atom in layout)


def _size(atom: str | int | HeadGroups | None, dims: StudentConfig) -> int | None:
    """What a student keeps along an atom; None: all."""
    if isinstance(atom, HeadGroups):
        return atom.of(dims)
    return getattr(dims, atom) if isinstance(atom, str) else None
