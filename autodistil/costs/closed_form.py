"""Costs of students in closed form, for thousands of students at once.

With S tokens, L layers, hidden size H, attention width W = heads x head size, intermediate size F, embedding size E:

    FLOPs = L (S (2 H W + 2 H W / G + M H F) + 2 S^2 W + 10 S H) + 5 S E  [+ S E H if factorised]  [+ H^2 with a pooler]

with M = 2 matrices in the FFN, or 3 where it is gated, and G query heads that share one head of keys and values;
counted as fvcore does: multiply-adds of matrix products, batch 1, plus 5 per element of a LayerNorm (an RMSNorm is free
in Hugging Face models, which write it out); biases, softmax, GELU and rotary positions are free; the pooler sees one
token. Masked scores count like others: a layer of local or causal attention costs what a global one does.

A decoder's FLOPs are those of the prefill, which fills the cache of keys and values with S tokens and predicts the
next: + H V for the language-model head at the last one, with V rows. The cache takes 2 L W / G numbers a token, of two
bytes each.

Vision encoders have P C p^2 H more for P patches of p x p pixels with C channels, which a convolution embeds; their
last norm comes in the place of that of the embeddings.

What families differ in beside is data (`LayerTerms`). Checked against fvcore and real parameter counts of every family
in tests/costs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from autodistil.costs.budget import Budget
from autodistil.errors import BudgetError
from autodistil.formats.setting import MAX_SEQ_LEN
from autodistil.space.shape import EncoderShape, LayerTerms
from autodistil.space.student import DIMENSIONS, Candidate, StudentConfig

COST_COLUMNS = ("flops", "params", "params_no_embeddings", "size_mb")
"""Columns of the cost table that are costs."""

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]

BYTES_PER_PARAMETER = 4
"""Weights are exported in float32."""
KV_BYTES = "kv_bytes"
"""Column of the cost table of decoders: bytes of the cache of keys and values, a token."""
BYTES_PER_CACHED = 2
"""Caches are in float16 or bfloat16, as decoders are served."""

# Upper bounds of the safetensors header: an entry has a name, a type, a shape and two offsets.
_HEADER_BYTES = 512
_ENTRY_BYTES = 160
_OTHER_TENSORS = 10


class Axes(NamedTuple):
    """Columns of int64, one entry a student, in the letters of the module docstring."""

    layers: Ints
    hidden: Ints
    heads: Ints
    head_size: Ints
    width: Ints
    intermediate: Ints
    vocabulary: Ints
    embedding: Ints
    factorised: NDArray[np.bool_]
    pooler: NDArray[np.bool_]

    def layer_weights(self, terms: LayerTerms) -> Ints:
        """Matrix entries of one layer: Q, K, V, output, and those of the FFN."""
        attention = 2 * (self.width + self.kv_width(terms))
        return self.hidden * (attention + terms.ffn_matrices * self.intermediate)

    def kv_width(self, terms: LayerTerms) -> Ints:
        """Width of keys, and of values."""
        return self.width // terms.queries_per_kv


def encoder_axes(students: Sequence[StudentConfig], shape: EncoderShape) -> Axes:
    """The sizes of students as columns."""
    rows = [(*(getattr(s, dim) for dim in DIMENSIONS), s.attention_width, *_table_sizes(s, shape)) for s in students]
    columns = np.array(rows, dtype=np.int64).reshape(-1, 8).T
    layers, hidden, heads, head_size, intermediate, width, vocabulary, embedding = columns
    # Hugging Face's ELECTRA leaves the projection out where both sizes agree, and has no pooler.
    pooler = np.array([shape.pooler and s.embedding_size is None for s in students], dtype=bool)
    sizes = (layers, hidden, heads, head_size, width, intermediate, vocabulary, embedding)
    return Axes(*sizes, embedding != hidden, pooler)


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
    norms = shape.layer.norm_flops * (shape.layer.norms * axes.layers * axes.hidden + axes.embedding)
    projections = axes.layers * axes.layer_weights(shape.layer) + axes.factorised * axes.embedding * axes.hidden
    attention = 2 * seq_len**2 * axes.layers * axes.width  # Q K^T and P V
    last_token = axes.pooler * axes.hidden**2 + (0 if shape.head is None else axes.hidden * axes.vocabulary)
    total: Ints = seq_len * (projections + norms) + attention + last_token
    return total + shape.patch_flops * axes.hidden


def parameters(students: Sequence[StudentConfig], shape: EncoderShape, embeddings: bool = True) -> Ints:
    """Parameters of the exported model, one number a student.

    Args:
        students: The architectures.
        shape: The constants of their family and vocabulary.
        embeddings: Also count the embedding tables with their LayerNorm and, where factorised, projection, and the
            language-model head of its own.
    """
    axes, terms = encoder_axes(students, shape), shape.layer
    widths = terms.width_biases * (axes.width + 2 * axes.kv_width(terms)) // 3
    biases = widths + terms.ffn_biases * axes.intermediate + terms.hidden_biases * axes.hidden
    norms = terms.norms * terms.norm_vectors * axes.hidden + terms.head_vectors * axes.head_size
    layers = axes.layers * (axes.layer_weights(terms) + biases + norms)
    pooler = axes.pooler * (axes.hidden + 1) * axes.hidden
    last_norm = (not shape.embedding_norm) * terms.norm_vectors * axes.hidden
    encoder: Ints = layers + pooler + last_norm + terms.position_buckets * axes.heads
    return encoder + _embedding_parameters(axes, shape) if embeddings else encoder


def _embedding_parameters(axes: Axes, shape: EncoderShape) -> Ints:
    norm = shape.embedding_norm * shape.layer.norm_vectors
    tables = (axes.vocabulary + shape.other_embedding_rows + norm) * axes.embedding
    projection = axes.factorised * (axes.embedding + 1) * axes.hidden
    own_head = shape.head is not None and not shape.head.tied
    return tables + projection + own_head * axes.vocabulary * axes.hidden


def kv_bytes(students: Sequence[StudentConfig], shape: EncoderShape) -> Ints:
    """Bytes of the cache of keys and values, a token, one number a student."""
    axes = encoder_axes(students, shape)
    return 2 * axes.layers * axes.kv_width(shape.layer) * BYTES_PER_CACHED


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

    Raises:
        BudgetError: It limits the cache of keys and values, which encoders have none of.
    """
    costs = _costs(students, shape, budget.seq_len or seq_len)
    if budget.column not in costs:
        raise BudgetError(f"budget: got {budget.text} for an encoder; allowed: decoders, which keep a cache; remove it")
    return np.asarray(costs[budget.column], dtype=np.float64)


def _costs(students: Sequence[StudentConfig], shape: EncoderShape, seq_len: int) -> Mapping[str, Ints | Floats]:
    return MappingProxyType(
        {
            "params": parameters(students, shape),
            "params_no_embeddings": parameters(students, shape, embeddings=False),
            "flops": flops(students, shape, seq_len),
            "size_mb": size_mb(students, shape),
            **({KV_BYTES: kv_bytes(students, shape)} if shape.head else {}),
        }
    )


def cost_table(candidates: Sequence[Candidate], shape: EncoderShape, seq_len: int) -> pd.DataFrame:
    """One row a candidate, in the given order: id, sub_space, the five axes, optional axes where used, and the costs.

    The costs are `params`, `params_no_embeddings`, `flops` (multiply-adds at `seq_len`), `size_mb` (1,000,000 bytes),
    and `kv_bytes` (a token) of decoders.
    """
    students = [candidate.config for candidate in candidates]
    names = {"id": [c.id for c in candidates], "sub_space": [c.sub_space for c in candidates]}
    axes = {axis: [getattr(s, axis) for s in students] for axis in DIMENSIONS}
    vocabularies, embeddings = zip(*(_table_sizes(s, shape) for s in students), strict=True) if students else ((), ())
    for axis, sizes in (("embedding_size", embeddings), ("vocab_size", vocabularies)):
        if any(getattr(s, axis) for s in students):
            axes[axis] = list(sizes)
    return pd.DataFrame({**names, **axes, **_costs(students, shape, seq_len)})
