"""What a student is made of beside its axes: the terms of a layer, the embeddings, the pooler or head of its teacher.

The closed forms of costs read it (`costs/closed_form.py`, in whose letters the counts are); a family gives it
(`models/families/family.py`).
"""

from __future__ import annotations

from dataclasses import dataclass

LAYER_NORM_FLOPS = 5
"""Per element, fvcore's estimate for a LayerNorm with weights."""


@dataclass(frozen=True)
class LayerTerms:
    """What one layer of a family has; BERT's unless given. All counts."""

    ffn_matrices: int = 2
    """Matrices between hidden and intermediate size: 3 where the FFN is gated."""
    width_biases: int = 3
    """Biases as long as the attention width: of queries, keys and values. 3 or 0 where queries are grouped."""
    hidden_biases: tuple[int, int] = (1, 1)
    """Vectors as long as the hidden size, of the attention's and of the FFN's output: biases, scales."""
    ffn_biases: int = 1
    """Biases as long as the intermediate size."""
    norms: int = 2
    """Normalisations of the hidden size, half of them of each block; one behind all layers may stand for one that the
    first layer lacks."""
    norm_vectors: int = 2
    """Parameters per normalised dimension, here and in the embeddings: gain and shift, or the gain alone."""
    position_buckets: int = 0
    """Rows of a table of relative positions that all layers share, with one column a head."""
    norm_flops: int = LAYER_NORM_FLOPS
    """FLOPs per element of a normalisation; 0 for an RMSNorm."""
    head_vectors: int = 0
    """Vectors as long as a head: gains of the norms of queries and keys."""
    queries_per_kv: int = 1
    """Query heads that share one head of keys and values; `Family.encoder_shape` reads it off the config."""

    @property
    def tensors(self) -> int:
        """Tensors of one layer at most, where none are fused."""
        biases = self.width_biases + sum(self.hidden_biases) + self.ffn_biases
        return 4 + self.ffn_matrices + biases + self.norms * self.norm_vectors + self.head_vectors


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
    window: int = 1_000_000
    """Tokens that the teacher's local layers attend to; its positions where it has none, or is a decoder that has
    others too."""
    tied_head: bool | None = None
    """Whether a decoder's language-model head is the word embeddings, else as large as these; None: an encoder."""
