"""Costs of students in closed form, for thousands of students at once.

With S tokens, L layers, hidden size H, attention width W = heads x head size, intermediate size F, embedding size E:

    FLOPs = L (S (4 H W + M H F) + 2 S^2 W + 10 S H) + 5 S E  [+ S E H if factorised]  [+ H^2 with a pooler]

with M = 2 matrices in the FFN, or 3 where it is gated; counted as fvcore does: multiply-adds of matrix products, batch
1, plus 5 per element of a LayerNorm; biases, softmax, GELU and rotary positions are free; the pooler sees one token.
Masked scores count like others: a layer of local attention costs what a global one does, as SDPA computes it. What
families differ in beside M is data (`LayerTerms`). Vision encoders have P C p^2 H more for P patches of p x p pixels
with C channels, which a convolution embeds; their last norm comes in the place of that of the embeddings. Checked
against fvcore and real parameter counts of every family in tests/costs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from autodistil.costs.budget import MAX_SEQ_LEN, Budget
from autodistil.errors import BudgetError
from autodistil.spaces import DIMENSIONS, Candidate, StudentConfig

COST_COLUMNS = ("flops", "params", "params_no_embeddings", "size_mb")
"""Columns of the cost table that are costs."""

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]

LAYER_NORM_FLOPS = 5
"""Per element, fvcore's estimate for a LayerNorm with weights."""

BYTES_PER_PARAMETER = 4
"""Weights are exported in float32."""

# Upper bounds of the safetensors header: an entry has a name, a type, a shape and two offsets.
_HEADER_BYTES = 512
_ENTRY_BYTES = 160
_OTHER_TENSORS = 10


@dataclass(frozen=True)
class LayerTerms:
    """What one layer of a family has; BERT's unless given. All counts."""

    ffn_matrices: int = 2
    """Matrices between hidden and intermediate size: 3 where the FFN is gated."""
    width_biases: int = 3
    """Biases as long as the attention width: of queries, keys and values."""
    hidden_biases: int = 2
    """Biases as long as the hidden size: of the attention's and the FFN's output."""
    ffn_biases: int = 1
    """Biases as long as the intermediate size."""
    norms: int = 2
    """Normalisations of the hidden size; one behind all layers may stand for one that the first layer lacks."""
    norm_vectors: int = 2
    """Parameters per normalised dimension, here and in the embeddings: gain and shift, or the gain alone."""
    position_buckets: int = 0
    """Rows of a table of relative positions that all layers share, with one column a head."""

    @property
    def tensors(self) -> int:
        """Tensors of one layer at most, where none are fused."""
        biases = self.width_biases + self.hidden_biases + self.ffn_biases
        return 4 + self.ffn_matrices + biases + self.norms * self.norm_vectors


@dataclass(frozen=True)
class EncoderShape:
    """What the closed forms need beside a student's axes; the same for all students of a teacher."""

    vocab_size: int
    """Rows of the word embeddings of students that keep the whole vocabulary."""
    other_embedding_rows: int
    """Rows of the position and token type embeddings together."""
    embedding_size: int | None
    """None: the student's hidden size. An int: factorised, with a projection to other hidden sizes, as in ELECTRA.

    Students with an embedding size of their own have that instead.
    """
    pooler: bool
    """Whether the exported model ends in a dense pooler of the first token.

    That of a student with an embedding size of its own never does.
    """
    layer: LayerTerms = LayerTerms()
    """What a layer has."""
    patch_flops: int = 0
    """Multiply-adds per hidden dimension of the convolution that embeds an image's patches."""
    embedding_norm: bool = True
    """A norm ends the embeddings; where not, one follows the last layer."""
    fixed_length: int | None = None
    """Tokens of every image of a vision encoder; None where texts may have any length."""


class Axes(NamedTuple):
    """Columns of int64, one entry a student, in the letters of the module docstring."""

    layers: Ints
    hidden: Ints
    heads: Ints
    width: Ints
    intermediate: Ints
    vocabulary: Ints
    embedding: Ints
    factorised: NDArray[np.bool_]
    pooler: NDArray[np.bool_]

    def layer_weights(self, terms: LayerTerms) -> Ints:
        """Matrix entries of one layer: Q, K, V, output, and those of the FFN."""
        return self.hidden * (4 * self.width + terms.ffn_matrices * self.intermediate)


def encoder_axes(students: Sequence[StudentConfig], shape: EncoderShape) -> Axes:
    """The sizes of students as columns."""
    rows = [
        (s.num_layers, s.hidden_size, s.num_heads, s.attention_width, s.intermediate_size, *_table_sizes(s, shape))
        for s in students
    ]
    columns = np.array(rows, dtype=np.int64).reshape(-1, 7).T
    layers, hidden, heads, width, intermediate, vocabulary, embedding = columns
    # Hugging Face's ELECTRA leaves the projection out where both sizes agree, and has no pooler.
    pooler = np.array([shape.pooler and s.embedding_size is None for s in students], dtype=bool)
    return Axes(layers, hidden, heads, width, intermediate, vocabulary, embedding, embedding != hidden, pooler)


def _table_sizes(student: StudentConfig, shape: EncoderShape) -> tuple[int, int]:
    """Rows and columns of a student's word embeddings."""
    embedding_size = student.embedding_size or shape.embedding_size or student.hidden_size
    return student.vocab_size or shape.vocab_size, embedding_size


def flops(students: Sequence[StudentConfig], shape: EncoderShape, seq_len: int) -> Ints:
    """Multiply-adds of one sequence of `seq_len` tokens, one number a student.

    Raises:
        BudgetError: `seq_len` is outside of 1 to 100,000, or no length that a vision encoder has.
    """
    if shape.fixed_length not in (None, seq_len):
        raise BudgetError(
            f"sequence length: got {seq_len}; allowed: {shape.fixed_length}, the tokens of an image; leave it out"
        )
    if not 1 <= seq_len <= MAX_SEQ_LEN:
        raise BudgetError(f"sequence length: got {seq_len}; allowed: 1 to {MAX_SEQ_LEN:,} tokens; correct it")
    axes = encoder_axes(students, shape)
    norms = LAYER_NORM_FLOPS * (shape.layer.norms * axes.layers * axes.hidden + axes.embedding)
    projections = axes.layers * axes.layer_weights(shape.layer) + axes.factorised * axes.embedding * axes.hidden
    attention = 2 * seq_len**2 * axes.layers * axes.width  # Q K^T and P V
    total: Ints = seq_len * (projections + norms) + attention + axes.pooler * axes.hidden**2
    return total + shape.patch_flops * axes.hidden


def parameters(students: Sequence[StudentConfig], shape: EncoderShape, embeddings: bool = True) -> Ints:
    """Parameters of the exported model, one number a student.

    Args:
        students: The architectures.
        shape: The constants of their family and vocabulary.
        embeddings: Also count the embedding tables with their LayerNorm and, where factorised, projection.
    """
    axes, terms = encoder_axes(students, shape), shape.layer
    biases = terms.width_biases * axes.width + terms.ffn_biases * axes.intermediate + terms.hidden_biases * axes.hidden
    norms = terms.norms * terms.norm_vectors * axes.hidden
    layers = axes.layers * (axes.layer_weights(terms) + biases + norms)
    pooler = axes.pooler * (axes.hidden + 1) * axes.hidden
    last_norm = (not shape.embedding_norm) * terms.norm_vectors * axes.hidden
    encoder: Ints = layers + pooler + last_norm + terms.position_buckets * axes.heads
    return encoder + _embedding_parameters(axes, shape) if embeddings else encoder


def _embedding_parameters(axes: Axes, shape: EncoderShape) -> Ints:
    norm = shape.embedding_norm * shape.layer.norm_vectors
    tables = (axes.vocabulary + shape.other_embedding_rows + norm) * axes.embedding
    projection = axes.factorised * (axes.embedding + 1) * axes.hidden
    return tables + projection


def size_mb(students: Sequence[StudentConfig], shape: EncoderShape) -> Floats:
    """MB (1,000,000 bytes) of the exported `model.safetensors` in float32, one number a student.

    The header's length depends on names and offsets; an upper bound of it is counted, a few kB.
    """
    entries = shape.layer.tensors * encoder_axes(students, shape).layers + _OTHER_TENSORS
    header = _HEADER_BYTES + _ENTRY_BYTES * entries
    size: Floats = (BYTES_PER_PARAMETER * parameters(students, shape) + header) / 1e6
    return size


def budget_cost(budget: Budget, students: Sequence[StudentConfig], shape: EncoderShape, seq_len: int) -> Floats:
    """The cost that `budget` limits, in its units, one number a student; at the budget's own length if it has one.

    Args:
        budget: Which cost, and perhaps at which length.
        students: The architectures.
        shape: The constants of their family and vocabulary.
        seq_len: The run's sequence length, for budgets without one.
    """
    costs = _costs(students, shape, budget.seq_len or seq_len)
    return np.asarray(costs[budget.column], dtype=np.float64)


def _costs(students: Sequence[StudentConfig], shape: EncoderShape, seq_len: int) -> Mapping[str, Ints | Floats]:
    return MappingProxyType(
        {
            "params": parameters(students, shape),
            "params_no_embeddings": parameters(students, shape, embeddings=False),
            "flops": flops(students, shape, seq_len),
            "size_mb": size_mb(students, shape),
        }
    )


def cost_table(candidates: Sequence[Candidate], shape: EncoderShape, seq_len: int) -> pd.DataFrame:
    """One row a candidate, in the given order: id, sub_space, the five axes, optional axes where used, and the costs.

    The costs are `params`, `params_no_embeddings`, `flops` (multiply-adds at `seq_len`), `size_mb` (1,000,000 bytes).
    """
    students = [candidate.config for candidate in candidates]
    names = {"id": [c.id for c in candidates], "sub_space": [c.sub_space for c in candidates]}
    axes = {axis: [getattr(s, axis) for s in students] for axis in DIMENSIONS}
    vocabularies, embeddings = zip(*(_table_sizes(s, shape) for s in students), strict=True) if students else ((), ())
    for axis, sizes in (("embedding_size", embeddings), ("vocab_size", vocabularies)):
        if any(getattr(s, axis) for s in students):
            axes[axis] = list(sizes)
    return pd.DataFrame({**names, **axes, **_costs(students, shape, seq_len)})
