"""What the engine must know of a model family: which config field is which axis, which tensor dimension is which axis.

A SuperLM keeps every parameter of a Hugging Face encoder as a tensor whose dimensions are *atoms*: fields of
`StudentConfig` (sliced to the student's value, whole where that is None) or `None` (kept whole). The query weight of
BERT, for example, has the layout `("num_heads", "head_size", "hidden_size")`: a student takes the leading heads, of
each head the leading dimensions, and the leading residual dimensions. A family is one `Family` value; adding one is
adding a table.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING

from transformers import PretrainedConfig

from autodistil.architectures import wide_bert_config
from autodistil.costs import EncoderShape
from autodistil.errors import TeacherError, suggest
from autodistil.spaces import StudentConfig

if TYPE_CHECKING:
    import torch

Atoms = tuple[str | None, ...]
HIDDEN: Atoms = ("hidden_size",)
EMBEDDING: Atoms = ("embedding_size",)
HEADS: Atoms = ("num_heads", "head_size")
FFN: Atoms = ("intermediate_size",)
WHOLE: Atoms = (None,)

_AXES = ("num_layers", "hidden_size", "num_heads", "intermediate_size")


@dataclass(frozen=True)
class Family:
    """One table per family of Hugging Face encoders."""

    model_types: tuple[str, ...]
    """`config.model_type` values that this table describes."""
    layers: str
    """Dotted path of the `ModuleList` of Transformer layers."""
    linears: Mapping[str, tuple[Atoms, Atoms]]
    """Suffix of a `Linear` module -> (atoms of its outputs, atoms of its inputs); the first match counts."""
    value: str = "attention.self.value"
    """Suffix of the `Linear` that makes the values."""
    word_embeddings: str = "embeddings.word_embeddings.weight"
    """Name of the word embedding parameter, (vocabulary, hidden)."""
    fields: Mapping[str, str] = field(
        default_factory=lambda: MappingProxyType(
            {
                "num_layers": "num_hidden_layers",
                "hidden_size": "hidden_size",
                "num_heads": "num_attention_heads",
                "intermediate_size": "intermediate_size",
            }
        )
    )
    """Axis -> field of the Hugging Face config."""
    positions_after_padding: bool = False
    """Positions are counted from behind the padding id, not from 0."""

    def max_length(self, config: PretrainedConfig) -> int:
        """Tokens of the longest sequence that a model takes."""
        first = config.pad_token_id + 1 if self.positions_after_padding else 0
        return int(config.max_position_embeddings - first)

    def dimensions(self, config: PretrainedConfig) -> StudentConfig:
        """The axes of a model, read off its config."""
        axes = {axis: int(getattr(config, self.fields[axis])) for axis in _AXES}
        return StudentConfig(**axes, head_size=axes["hidden_size"] // axes["num_heads"])

    def student_config(self, config: PretrainedConfig, student: StudentConfig) -> PretrainedConfig:
        """The Hugging Face config of a student: the teacher's with the axes replaced."""
        result = copy.deepcopy(config)
        for axis in _AXES:
            setattr(result, self.fields[axis], getattr(student, axis))
        if _embedding_follows_hidden(config):
            result.embedding_size = student.hidden_size
        if student.embedding_size is not None:
            result.embedding_size = student.embedding_size
        if student.free_attention:
            return wide_bert_config(result, student.head_size)
        return result

    def encoder_shape(self, config: PretrainedConfig, pooler: bool) -> EncoderShape:
        """The constants that the closed-form costs need beside the axes."""
        factorised = hasattr(config, "embedding_size") and not _embedding_follows_hidden(config)
        return EncoderShape(
            vocab_size=config.vocab_size,
            other_embedding_rows=config.max_position_embeddings + (getattr(config, "type_vocab_size", 0) or 0),
            embedding_size=config.embedding_size if factorised else None,
            pooler=pooler,
        )

    def layout(self, name: str, ndim: int, config: PretrainedConfig) -> Atoms:
        """Atoms of the parameter `name`: of a linear map by the table, else (..., residual stream)."""
        module, kind = name.rsplit(".", 1)
        atoms = self.linear_atoms(module)
        if atoms is not None:
            return atoms[0] + atoms[1] if kind == "weight" else atoms[0]
        factorised = hasattr(config, "embedding_size") and not _embedding_follows_hidden(config)
        last = EMBEDDING if factorised and name.startswith("embeddings.") else HIDDEN
        return WHOLE * (ndim - 1) + last

    def linear_atoms(self, module: str) -> tuple[Atoms, Atoms] | None:
        """Atoms of the outputs and the inputs of the `Linear` called `module`, None where it is none of the table's."""
        return next((atoms for suffix, atoms in self.linears.items() if module.endswith(suffix)), None)

    def carries_values(self, name: str) -> bool:
        """Whether the head dimensions of the parameter `name` are those of values (not of queries and keys)."""
        module = name.rsplit(".", 1)[0]
        atoms = self.linear_atoms(module)
        return module.endswith(self.value) or (atoms is not None and atoms[1] == HEADS)

    def layer_of(self, name: str) -> int | None:
        """Index of the Transformer layer that owns the parameter `name`, None outside the layers."""
        match = re.match(rf"{re.escape(self.layers)}\.(\d+)\.", name)
        return int(match.group(1)) if match else None

    def rename_layer(self, name: str, layer: int) -> str:
        """`name` with its layer index replaced by `layer`."""
        return re.sub(rf"^({re.escape(self.layers)}\.)\d+\.", rf"\g<1>{layer}.", name)


def _embedding_follows_hidden(config: PretrainedConfig) -> bool:
    """ELECTRA-base ties its embedding size to the hidden size; ELECTRA-small projects a fixed one."""
    return getattr(config, "embedding_size", None) == config.hidden_size


_BERT_LINEARS = MappingProxyType(
    {
        "attention.self.query": (HEADS, HIDDEN),
        "attention.self.key": (HEADS, HIDDEN),
        "attention.self.value": (HEADS, HIDDEN),
        "attention.output.dense": (HIDDEN, HEADS),
        "intermediate.dense": (FFN, HIDDEN),
        "output.dense": (HIDDEN, FFN),
        "pooler.dense": (HIDDEN, HIDDEN),
    }
)

BERT = Family(model_types=("bert",), layers="encoder.layer", linears=_BERT_LINEARS)
ROBERTA = Family(
    model_types=("roberta", "xlm-roberta", "camembert"),
    layers="encoder.layer",
    linears=_BERT_LINEARS,
    positions_after_padding=True,
)
ELECTRA = Family(
    model_types=("electra",),
    layers="encoder.layer",
    linears=MappingProxyType({**_BERT_LINEARS, "embeddings_project": (HIDDEN, EMBEDDING)}),
)
DISTILBERT = Family(
    model_types=("distilbert",),
    layers="transformer.layer",
    value="attention.v_lin",
    linears=MappingProxyType(
        {
            "attention.q_lin": (HEADS, HIDDEN),
            "attention.k_lin": (HEADS, HIDDEN),
            "attention.v_lin": (HEADS, HIDDEN),
            "attention.out_lin": (HIDDEN, HEADS),
            "ffn.lin1": (FFN, HIDDEN),
            "ffn.lin2": (HIDDEN, FFN),
        }
    ),
    fields=MappingProxyType(
        {"num_layers": "n_layers", "hidden_size": "dim", "num_heads": "n_heads", "intermediate_size": "hidden_dim"}
    ),
)

FAMILIES: tuple[Family, ...] = (BERT, ROBERTA, ELECTRA, DISTILBERT)


def supported_model_types() -> tuple[str, ...]:
    """All `model_type` values that some family describes."""
    return tuple(model_type for family in FAMILIES for model_type in family.model_types)


def family_of(config: PretrainedConfig) -> Family:
    """The family of a Hugging Face config.

    Raises:
        TeacherError: no table describes `config.model_type`.
    """
    for family in FAMILIES:
        if config.model_type in family.model_types:
            return family
    supported = supported_model_types()
    raise TeacherError(
        f"model type {config.model_type!r}{suggest(config.model_type, supported)} has no family table; "
        f"supported: {', '.join(supported)}; to add one, write its table in autodistil/families.py"
    )


def check_widenable(family: Family, factorised: bool) -> None:
    """Check that students of a teacher may have attention that is wider or narrower than their hidden size.

    Args:
        family: the teacher's.
        factorised: whether they have factorised embeddings.

    Raises:
        TeacherError: there is no such architecture.
    """
    if family is not BERT or factorised:
        what = "students with an embedding_size" if factorised else f"{family.model_types[0]} teachers"
        raise TeacherError(
            f"free_attention is not for {what}; allowed: bert teachers, without embedding_size; leave it out of the "
            "search space"
        )


def split_dimensions(tensor: torch.Tensor, layout: Atoms, dims: StudentConfig) -> torch.Tensor:
    """Reshape a Hugging Face parameter so that each atom is a dimension of its own."""
    sizes = iter(tensor.shape)
    expanded = []
    for atom in layout:
        if atom == "head_size":  # Hugging Face merges it with num_heads into one dimension, read just before
            expanded.append(dims.head_size)
            continue
        size = next(sizes)
        expanded.append(size if atom is None else getattr(dims, atom) or size)
    return tensor.reshape(expanded)


def leading(layout: Atoms, dims: StudentConfig) -> tuple[slice, ...]:
    """Index of the leading sub-tensor that a student of `dims` uses."""
    return tuple(slice(None) if atom is None else slice(getattr(dims, atom)) for atom in layout)
