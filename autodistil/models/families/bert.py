"""BERT (arXiv 1810.04805) and the encoders that keep its layer: RoBERTa, ELECTRA, DistilBERT."""

from autodistil.models.architectures import per_layer_config
from autodistil.models.families.family import EMBEDDING, FFN, HEADS, HIDDEN, Family

_LINEARS = {
    "attention.self.query": (HEADS, HIDDEN),
    "attention.self.key": (HEADS, HIDDEN),
    "attention.self.value": (HEADS, HIDDEN),
    "attention.output.dense": (HIDDEN, HEADS),
    "intermediate.dense": (FFN, HIDDEN),
    "output.dense": (HIDDEN, FFN),
    "pooler.dense": (HIDDEN, HIDDEN),
}

BERT = Family(
    model_types=("bert",),
    layers="encoder.layer",
    linears=_LINEARS,
    tried_on=("all-MiniLM-L6-v2", "antiberty"),
    own_config=per_layer_config,
)
ROBERTA = Family(
    model_types=("roberta", "xlm-roberta", "camembert"),
    layers="encoder.layer",
    linears=_LINEARS,
    positions_after_padding=True,
    own_config=per_layer_config,
)
ELECTRA = Family(
    model_types=("electra",),
    layers="encoder.layer",
    linears={**_LINEARS, "embeddings_project": (HIDDEN, EMBEDDING)},
    own_config=per_layer_config,
)
DISTILBERT = Family(
    model_types=("distilbert",),
    layers="transformer.layer",
    value="attention.v_lin",
    linears={
        "attention.q_lin": (HEADS, HIDDEN),
        "attention.k_lin": (HEADS, HIDDEN),
        "attention.v_lin": (HEADS, HIDDEN),
        "attention.out_lin": (HIDDEN, HEADS),
        "ffn.lin1": (FFN, HIDDEN),
        "ffn.lin2": (HIDDEN, FFN),
    },
    fields={"num_layers": "n_layers", "hidden_size": "dim", "num_heads": "n_heads", "intermediate_size": "hidden_dim"},
)
