"""Costs of students in closed form, for thousands of students at once.

With S tokens, L layers, hidden size H, attention width W = heads x head size, intermediate size F, embedding size E:

    FLOPs = L (S (2 H W + 2 H W / G + M H F) + 2 S^2 W + 10 S H) + 5 S E  [+ S E H if factorised]  [+ H^2 with a pooler]

with M = 2 matrices in the FFN, or 3 where it is gated, and G query heads that share one head of keys and values. All of
it is linear in W and F: where layers have sizes of their own, their sums stand for L W and L F, and 5 S H counts once
for each block that is there. It is counted as fvcore does: multiply-adds of matrix products, batch 1, plus 5 per
element of a LayerNorm (an RMSNorm is free in Hugging Face models, which write it out); biases, softmax, GELU and rotary
positions are free; the pooler sees one token. Masked scores count like others: a layer of local or causal attention
costs what a global one does.

A decoder's FLOPs are those of the prefill, which fills the cache of keys and values with S tokens and predicts the
next: + H V for the language-model head at the last one, with V rows. The cache takes 2 L W / G numbers a token, of two
bytes each; of S tokens a layer with a window keeps those of the window alone.

Vision encoders have P C p^2 H more for P patches of p x p pixels with C channels, which a convolution embeds; their
last norm comes in the place of that of the embeddings.

What families differ in beside is data (`space/shape.py`). Checked against fvcore and real parameter counts of every
family in tests/costs.
"""

from __future__ import annotations

from collections.abc import Sequence
from operator import attrgetter
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from autodistil.costs.budget import Budget
from autodistil.errors import BudgetError
from autodistil.formats.quantise import EMBEDDING_BLOCK
from autodistil.formats.setting import MAX_SEQ_LEN
from autodistil.space.axes import axis_of
from autodistil.space.axes.bits import EMBEDDING_BITS, FLOAT_BITS, LAYER_BITS
from autodistil.space.axes.embedding import EMBEDDING_SIZE
from autodistil.space.axes.vocabulary import VOCAB_SIZE
from autodistil.space.axes.window import GLOBAL_EVERY, WINDOW
from autodistil.space.shape import EncoderShape, LayerTerms
from autodistil.space.student import DIMENSIONS, SIZES, Candidate, StudentConfig, layers_text

LAYERS = "layers"
"""Column of the cost table with the sizes of layers, of students whose layers differ."""
COST_COLUMNS = ("flops", "params", "params_no_embeddings", "size_mb")
"""Columns of the cost table that are costs."""
DECODER_COLUMNS = ("kv_bytes", "cache_bytes")
"""And those of decoders besides."""

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]

BYTES_PER_PARAMETER = 4
"""Weights are exported in float32."""
BYTES_PER_CACHED = 2
"""Caches are in float16 or bfloat16, as decoders are served."""

# Upper bounds of the safetensors header: an entry has a name, a type, a shape and two offsets.
_HEADER_BYTES = 512
_ENTRY_BYTES = 160
_OTHER_TENSORS = 10

# Upper bounds of the graph in an ONNX file with weights of few bits, beside the weights.
_GRAPH_BYTES = 30_000
_LAYER_GRAPH_BYTES = 14_000


class SizeColumns(NamedTuple):
    """Sizes of students in the letters of the module docstring: columns of int64, one entry a student."""

    layers: Ints
    hidden: Ints
    heads: Ints
    head_size: Ints
    intermediate: Ints
    width: Ints
    """Like heads and intermediate size, of the widest layer."""
    attentions: Ints
    """Layers with attention."""
    ffns: Ints
    """Layers with an FFN."""
    all_heads: Ints
    all_intermediate: Ints
    """Like all heads, of all layers together."""
    vocabulary: Ints
    embedding: Ints
    embedding_bits: Ints
    layer_bits: Ints
    window: Ints
    """Tokens that local layers attend to."""
    global_every: Ints
    """Layers to a global one; 0: none is global."""
    factorised: NDArray[np.bool_]
    pooler: NDArray[np.bool_]

    @property
    def all_width(self) -> Ints:
        """Attention widths of all layers together."""
        return self.all_heads * self.head_size

    def layer_weights(self, terms: LayerTerms) -> Ints:
        """Matrix entries of all layers: Q, K, V, output, and those of the FFN."""
        attention = 2 * (self.all_width + self.all_kv_width(terms))
        return self.hidden * (attention + terms.ffn_matrices * self.all_intermediate)

    def all_kv_width(self, terms: LayerTerms) -> Ints:
        """Width of keys, and of values, of all layers together."""
        return self.all_width // terms.queries_per_kv


def size_columns(students: Sequence[StudentConfig], shape: EncoderShape) -> SizeColumns:
    """The sizes of students as columns."""
    own = attrgetter(*DIMENSIONS, "attention_width")
    axes = (VOCAB_SIZE, EMBEDDING_SIZE, EMBEDDING_BITS, LAYER_BITS, WINDOW, GLOBAL_EVERY)
    rows = [(*own(s), *s.totals, *(axis.of(s, shape) for axis in axes)) for s in students]
    columns = np.array(rows, dtype=np.int64).reshape(-1, 16).T
    # Hugging Face's ELECTRA leaves the projection out where both sizes agree, and has no pooler.
    factorised = columns[11] != columns[1]
    pooler = np.array([shape.pooler and s.embedding_size is None for s in students], dtype=bool)
    return SizeColumns._make([*columns, factorised, pooler])


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
    sizes = size_columns(students, shape)
    in_blocks = shape.layer.norms * (sizes.attentions + sizes.ffns) * sizes.hidden // 2
    norms = shape.layer.norm_flops * (in_blocks + sizes.embedding)
    projections = sizes.layer_weights(shape.layer) + sizes.factorised * sizes.embedding * sizes.hidden
    attention = 2 * seq_len**2 * sizes.all_width  # Q K^T and P V
    last_token = sizes.pooler * sizes.hidden**2 + (0 if shape.tied_head is None else sizes.hidden * sizes.vocabulary)
    total: Ints = seq_len * (projections + norms) + attention + last_token
    return total + shape.patch_flops * sizes.hidden


def parameters(students: Sequence[StudentConfig], shape: EncoderShape, embeddings: bool = True) -> Ints:
    """Parameters of the exported model, one number a student.

    Args:
        students: The architectures.
        shape: The constants of their family and vocabulary.
        embeddings: Also count the embedding tables with their LayerNorm and, where factorised, projection, and the
            language-model head of its own.
    """
    sizes, terms = size_columns(students, shape), shape.layer
    of_attention, of_ffn = terms.hidden_biases
    widths = terms.width_biases * (sizes.all_width + 2 * sizes.all_kv_width(terms)) // 3
    vectors = sizes.hidden * (of_attention * sizes.attentions + of_ffn * sizes.ffns)
    norms = terms.norms * terms.norm_vectors * sizes.hidden * (sizes.attentions + sizes.ffns) // 2
    inside = terms.ffn_biases * sizes.all_intermediate + terms.head_vectors * sizes.head_size * sizes.attentions
    layers = sizes.layer_weights(terms) + widths + vectors + norms + inside
    pooler = sizes.pooler * (sizes.hidden + 1) * sizes.hidden
    last_norm = (not shape.embedding_norm) * terms.norm_vectors * sizes.hidden
    encoder: Ints = layers + pooler + last_norm + terms.position_buckets * sizes.heads
    return encoder + _embedding_parameters(sizes, shape) if embeddings else encoder


def _embedding_parameters(sizes: SizeColumns, shape: EncoderShape) -> Ints:
    norm = shape.embedding_norm * shape.layer.norm_vectors
    tables = (sizes.vocabulary + shape.other_embedding_rows + norm) * sizes.embedding
    projection = sizes.factorised * (sizes.embedding + 1) * sizes.hidden
    own_head = shape.tied_head is False
    return tables + projection + own_head * sizes.vocabulary * sizes.hidden


def kv_bytes(students: Sequence[StudentConfig], shape: EncoderShape) -> Ints:
    """Bytes of the cache of keys and values, a token, one number a student."""
    sizes = size_columns(students, shape)
    return 2 * sizes.all_kv_width(shape.layer) * BYTES_PER_CACHED


def cache_bytes(students: Sequence[StudentConfig], shape: EncoderShape, seq_len: int) -> Ints:
    """Bytes of the cache of keys and values of one sequence of `seq_len` tokens, one number a student.

    Students with a window have layers that are alike, so that each has its share of what a token takes.
    """
    sizes = size_columns(students, shape)
    seen = np.minimum(sizes.window, seq_len)
    whole = np.where(sizes.global_every > 0, -(-sizes.layers // np.maximum(1, sizes.global_every)), 0)
    kept = (sizes.layers - whole) * seen + whole * seq_len
    return kv_bytes(students, shape) * kept // sizes.layers


def size_mb(students: Sequence[StudentConfig], shape: EncoderShape) -> Floats:
    """MB (1,000,000 bytes) of the file that is served, one number a student.

    That is the exported `model.safetensors` in float32, or the ONNX file where weights have few bits
    (formats/onnx_bits.py). What else they hold depends on names and offsets; upper bounds are counted, a few kB and
    some tens.
    """
    sizes = size_columns(students, shape)
    entries = shape.layer.tensors * sizes.layers + _OTHER_TENSORS
    floats = BYTES_PER_PARAMETER * parameters(students, shape) + _HEADER_BYTES + _ENTRY_BYTES * entries
    quantised = [student.quantised for student in students]
    size: Floats = np.where(quantised, _quantised_bytes(students, sizes, shape), floats) / 1e6
    return size


def _quantised_bytes(students: Sequence[StudentConfig], sizes: SizeColumns, shape: EncoderShape) -> Floats:
    """Bytes of an ONNX file whose matrices have few bits, each output, and each block of an embedding, a scale."""
    terms = shape.layer
    matrices = sizes.layer_weights(terms) + sizes.factorised * sizes.embedding * sizes.hidden
    of_attention = sizes.all_width + 2 * sizes.all_kv_width(terms) + sizes.hidden * sizes.attentions
    of_ffn = (terms.ffn_matrices - 1) * sizes.all_intermediate + sizes.hidden * sizes.ffns
    outputs = of_attention + of_ffn + sizes.factorised * sizes.hidden
    rows = sizes.vocabulary + shape.other_embedding_rows
    pooler = sizes.pooler * (sizes.hidden + 1) * sizes.hidden  # no file but PyTorch's holds it
    others = parameters(students, shape) - matrices - rows * sizes.embedding - pooler
    blocks = -(-sizes.embedding // EMBEDDING_BLOCK)
    scales = np.where(sizes.layer_bits < FLOAT_BITS, outputs, 0) + np.where(
        sizes.embedding_bits < FLOAT_BITS, rows * blocks, 0
    )
    tables = rows * -(-sizes.embedding * sizes.embedding_bits // 8)  # a row has whole bytes
    graph = _GRAPH_BYTES + _LAYER_GRAPH_BYTES * sizes.layers
    size: Floats = matrices * sizes.layer_bits / 8 + tables + BYTES_PER_PARAMETER * (others + scales) + graph
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
    if budget.cost not in costs:
        raise BudgetError(f"budget: got {budget.text} for an encoder; allowed: decoders, which keep a cache; remove it")
    return np.asarray(costs[budget.cost], dtype=np.float64)


def _costs(students: Sequence[StudentConfig], shape: EncoderShape, seq_len: int) -> dict[str, Ints | Floats]:
    return {
        "params": parameters(students, shape),
        "params_no_embeddings": parameters(students, shape, embeddings=False),
        "flops": flops(students, shape, seq_len),
        "size_mb": size_mb(students, shape),
        **(_decoder_costs(students, shape, seq_len) if shape.tied_head is not None else {}),
    }


def _decoder_costs(students: Sequence[StudentConfig], shape: EncoderShape, seq_len: int) -> dict[str, Ints]:
    return {"kv_bytes": kv_bytes(students, shape), "cache_bytes": cache_bytes(students, shape, seq_len)}


def cost_table(candidates: Sequence[Candidate], shape: EncoderShape, seq_len: int) -> pd.DataFrame:
    """One row a candidate, in the given order: id, sub_space, the five axes, optional axes where used, and the costs.

    `layers`, as text, stands beside the axes where some students' layers have sizes of their own.

    The costs are `params`, `params_no_embeddings`, `flops` (multiply-adds at `seq_len`), `size_mb` (1,000,000 bytes),
    and `kv_bytes` (a token) and `cache_bytes` (of `seq_len` tokens) of decoders.
    """
    students = [candidate.config for candidate in candidates]
    names = {"id": [c.id for c in candidates], "sub_space": [c.sub_space for c in candidates]}
    used = [size for size in SIZES if size in DIMENSIONS or any(getattr(s, size) for s in students)]
    axes: dict[str, list[Any]] = {axis.size: [axis.of(s, shape) for s in students] for axis in map(axis_of, used)}
    if any(student.layers for student in students):
        axes[LAYERS] = [layers_text(student.layers) for student in students]
    return pd.DataFrame({**names, **axes, **_costs(students, shape, seq_len)})
