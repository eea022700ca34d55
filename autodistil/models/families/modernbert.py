"""ModernBERT (arXiv 2412.13663): rotary positions, local and global attention in turn, gated FFN, norms before blocks.

A student's layers attend as far as the teacher's that they come from, or local ones to a window of its own. Under SDPA
a local layer computes all scores and masks the far ones, which is what its FLOPs count. A head size below the teacher's
keeps rotary pairs together, but Hugging Face spreads the frequencies over what pairs there are: such students start
farther from the teacher.
"""

from transformers import PretrainedConfig

from autodistil.models.families.family import FFN, HIDDEN, ROTARY_HEADS, Family
from autodistil.models.families.windows import AROUND
from autodistil.space.shape import LayerTerms


def _terms(config: PretrainedConfig) -> LayerTerms:
    """The last norm stands for the one that the first layer lacks."""
    return LayerTerms(
        ffn_matrices=3,
        width_biases=3 * config.attention_bias,
        hidden_biases=(config.attention_bias, config.mlp_bias),
        ffn_biases=2 * config.mlp_bias,
        norm_vectors=1 + config.norm_bias,
    )


MODERNBERT = Family(
    model_types=("modernbert",),
    norms_first=True,
    layers="layers",
    linears={
        "attn.Wqkv": ((3, *ROTARY_HEADS), HIDDEN),
        "attn.Wo": (HIDDEN, ROTARY_HEADS),
        "mlp.Wi": ((2, *FFN), HIDDEN),
        "mlp.Wo": (HIDDEN, FFN),
    },
    value="attn.Wqkv",
    word_embeddings="embeddings.tok_embeddings.weight",
    layer_fields=("layer_types",),
    layer_terms=_terms,
    position_table=False,
    windows=AROUND,
)
