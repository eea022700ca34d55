"""Text corpora as batches of token ids: sources, tokenised cache, packed sequences, and the order of training."""

from autodistil.data.batches import PackedSequences, batch_indices
from autodistil.data.cache import CACHE_VARIABLE, default_cache_dir
from autodistil.data.encoding import special_affixes
from autodistil.data.sources import DEFAULT_CORPUS, iter_documents
from autodistil.data.tokens import MIN_HELDOUT_TOKENS, TokenizedCorpus, TokenStream, tokenize_corpus

__all__ = [
    "CACHE_VARIABLE",
    "DEFAULT_CORPUS",
    "MIN_HELDOUT_TOKENS",
    "PackedSequences",
    "TokenStream",
    "TokenizedCorpus",
    "batch_indices",
    "default_cache_dir",
    "iter_documents",
    "special_affixes",
    "tokenize_corpus",
]
