"""MPNet (arXiv 2004.09297): BERT's layer with a bias on the scores that depends on relative position.

The bias is a table (buckets, heads) that all layers share, so their heads have one order.
"""

from autodistil.models.architectures import per_layer_config
from autodistil.models.families.family import FFN, HEADS, HIDDEN, Family
from autodistil.space.shape import LayerTerms

MPNET = Family(
    model_types=("mpnet",),
    layers="encoder.layer",
    linears={
        "attention.attn.q": (HEADS, HIDDEN),
        "attention.attn.k": (HEADS, HIDDEN),
        "attention.attn.v": (HEADS, HIDDEN),
        "attention.attn.o": (HIDDEN, HEADS),
        "intermediate.dense": (FFN, HIDDEN),
        "output.dense": (HIDDEN, FFN),
        "pooler.dense": (HIDDEN, HIDDEN),
    },
    others={"relative_attention_bias.weight": (None, "num_heads")},
    value="attention.attn.v",
    projections=("attention.attn.q", "attention.attn.k", "attention.attn.v"),
    layer_terms=lambda config: LayerTerms(position_buckets=config.relative_attention_num_buckets),
    positions_after_padding=True,
    tried_on=("mpnet-base",),
    own_config=per_layer_config,
)
