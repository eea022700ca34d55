"""Corpora as arrays: sources, tokenised cache, packed sequences, images, and the order of training."""

from autodistil.data.batches import PackedSequences, batch_indices
from autodistil.data.cache import CACHE_VARIABLE, default_cache_dir
from autodistil.data.encoding import separator_ids, special_affixes
from autodistil.data.image_store import ImageCorpus, Images, read_images
from autodistil.data.sentences import Sentences, length_grouped_indices, sentence_end_ids
from autodistil.data.sources import DEFAULT_CORPUS, iter_documents
from autodistil.data.tokens import MIN_HELDOUT_TOKENS, TokenizedCorpus, TokenStream, tokenize_corpus

__all__ = [
    "CACHE_VARIABLE",
    "DEFAULT_CORPUS",
    "MIN_HELDOUT_TOKENS",
    "ImageCorpus",
    "Images",
    "PackedSequences",
    "Sentences",
    "TokenStream",
    "TokenizedCorpus",
    "batch_indices",
    "default_cache_dir",
    "iter_documents",
    "length_grouped_indices",
    "read_images",
    "sentence_end_ids",
    "separator_ids",
    "special_affixes",
    "tokenize_corpus",
]
