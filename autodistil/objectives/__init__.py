"""Distillation objectives: what a student's states are compared with the teacher's by, a file a term."""

from collections.abc import Mapping

from autodistil.objectives import (
    channel_kl,
    cooperative_mask,
    embedding_cosine,
    embedding_similarity,
    exits,
    hidden,
    last_hidden,
    logits_js,
    logits_kl,
    logits_reverse_kl,
    matryoshka,
    mi_alpha,
    minilm,
    next_token,
    output_cosine,
    output_similarity,
    relation_kl,
    relation_mse,
    scores_mse,
    token_gram,
    token_ranking,
    upper_hidden,
)
from autodistil.objectives.term import Term

TERMS: Mapping[str, Term] = {
    "relation-kl": relation_kl.TERM,
    "relation-mse": relation_mse.TERM,
    "scores-mse": scores_mse.TERM,
    "minilm": minilm.TERM,
    "embedding-similarity": embedding_similarity.TERM,
    "embedding-cosine": embedding_cosine.TERM,
    "mi-alpha": mi_alpha.TERM,
    "output-cosine": output_cosine.TERM,
    "output-similarity": output_similarity.TERM,
    "matryoshka": matryoshka.TERM,
    "exits": exits.TERM,
    "last-hidden": last_hidden.TERM,
    "hidden": hidden.TERM,
    "upper-hidden": upper_hidden.TERM,
    "token-gram": token_gram.TERM,
    "token-ranking": token_ranking.TERM,
    "channel-kl": channel_kl.TERM,
    "cooperative-mask": cooperative_mask.TERM,
    "logits-kl": logits_kl.TERM,
    "logits-reverse-kl": logits_reverse_kl.TERM,
    "logits-js": logits_js.TERM,
    next_token.NAME: next_token.TERM,
}
"""Name in an objective -> term."""
