"""Llama (arXiv 2302.13971) and the decoders that keep its layer.

Mistral has a window, Ministral in some layers, Qwen2 biases of Q, K and V, Qwen3 norms of Q and K.

Causal attention of grouped queries with rotary positions, gated FFN, RMSNorm before blocks, one more behind the last
layer, a language-model head that small models tie to the word embeddings. As in ModernBERT a head size below the
teacher's keeps rotary pairs together, but changes their frequencies: such students start farther from the teacher.
"""

from dataclasses import replace

from transformers import PretrainedConfig

from autodistil.models.architectures import per_layer_config
from autodistil.models.families.family import (
    BERT_FIELDS,
    FFN,
    GROUPED_CONTEXT,
    GROUPED_KEYS,
    GROUPED_QUERIES,
    GROUPED_VALUES,
    HIDDEN,
    Family,
)
from autodistil.models.families.windows import LAYER_TYPES, MISTRAL_LIKE
from autodistil.space.shape import LayerTerms

_PLAIN = LayerTerms(ffn_matrices=3, width_biases=0, hidden_biases=(0, 0), ffn_biases=0, norm_vectors=1, norm_flops=0)
"""The last norm stands for the one of the embeddings, which there is none of."""


def _terms(config: PretrainedConfig) -> LayerTerms:
    attention, mlp = config.attention_bias, getattr(config, "mlp_bias", False)
    return replace(_PLAIN, width_biases=3 * attention, hidden_biases=(attention, mlp), ffn_biases=2 * mlp)


LLAMA = Family(
    model_types=("llama",),
    norms_first=True,
    layers="layers",
    linears={
        "self_attn.q_proj": (GROUPED_QUERIES, HIDDEN),
        "self_attn.k_proj": (GROUPED_KEYS, HIDDEN),
        "self_attn.v_proj": (GROUPED_VALUES, HIDDEN),
        "self_attn.o_proj": (HIDDEN, GROUPED_CONTEXT),
        "mlp.gate_proj": (FFN, HIDDEN),
        "mlp.up_proj": (FFN, HIDDEN),
        "mlp.down_proj": (HIDDEN, FFN),
    },
    value="self_attn.v_proj",
    word_embeddings="embed_tokens.weight",
    fields={**BERT_FIELDS, "head_size": "head_dim"},
    kv_heads="num_key_value_heads",
    layer_terms=_terms,
    position_table=False,
    causal=True,
    tried_on=("smollm2-135m",),
    own_config=per_layer_config,
    windows=MISTRAL_LIKE,
)
MISTRAL = replace(LLAMA, model_types=("mistral",), layer_terms=lambda _: _PLAIN, tried_on=(), own_config=None)
MINISTRAL = replace(MISTRAL, model_types=("ministral",), layer_fields=("layer_types",))
QWEN2 = replace(
    LLAMA,
    model_types=("qwen2",),
    fields=BERT_FIELDS,
    layer_fields=("layer_types",),
    layer_terms=lambda _: replace(_PLAIN, width_biases=3),
    windows=LAYER_TYPES,
    tried_on=(),
    own_config=None,
)
QWEN3 = replace(
    LLAMA,
    model_types=("qwen3",),
    others={name: (2, "rotary_pairs") for name in ("self_attn.q_norm.weight", "self_attn.k_norm.weight")},
    layer_fields=("layer_types",),
    layer_terms=lambda config: replace(_terms(config), head_vectors=2),
    windows=LAYER_TYPES,
    tried_on=(),
)
