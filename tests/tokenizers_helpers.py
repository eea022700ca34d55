"""Small tokenizers of each kind, trained on docstrings."""

import builtins
import inspect
import json
from functools import cache

import numpy as np
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import AutoTokenizer, PreTrainedTokenizerFast, RobertaTokenizerFast

from autodistil.data.tokens import token_ids
from autodistil.models.vocabulary import order_vocabulary, required_ids, token_counts

SPECIAL = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
NAMES = dict(zip(("bos_token", "pad_token", "eos_token", "unk_token", "mask_token"), SPECIAL, strict=True))
TEXTS = [inspect.getdoc(value) or "" for _, value in sorted(vars(builtins).items())]
"""A few thousand words of English."""


def _template(tokenizer):
    ids = [(token, tokenizer.token_to_id(token)) for token in ("<s>", "</s>")]
    return processors.TemplateProcessing(single="<s> $A </s>", pair="<s> $A </s> </s> $B </s>", special_tokens=ids)


@cache
def byte_level_bpe():
    """As RoBERTa's: bytes, no unknown token; the class builds its own pipeline from vocabulary and merges."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=900, special_tokens=SPECIAL, initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator(TEXTS, trainer)
    model = json.loads(tokenizer.to_str())["model"]
    return RobertaTokenizerFast(vocab=model["vocab"], merges=[tuple(merge) for merge in model["merges"]])


@cache
def unigram():
    """As SentencePiece makes them, with an added token behind the model's pieces."""
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.normalizer = normalizers.NFKC()
    tokenizer.pre_tokenizer, tokenizer.decoder = pre_tokenizers.Metaspace(), decoders.Metaspace()
    trainer = trainers.UnigramTrainer(vocab_size=600, special_tokens=SPECIAL, unk_token="<unk>", show_progress=False)
    tokenizer.train_from_iterator(TEXTS, trainer)
    tokenizer.post_processor = _template(tokenizer)
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, **NAMES)
    fast.add_tokens(["<extra>"])
    return fast


@cache
def packaged(folder):
    """The default teacher's: WordPiece, 30,522 tokens."""
    return AutoTokenizer.from_pretrained(folder)


def vocabulary_of(tokenizer, texts=TEXTS, rows=None):
    """By the use of the tokens in some texts."""
    rows = rows or len(tokenizer)
    ids = np.array([i for part in token_ids(tokenizer, texts) for i in part])
    return order_vocabulary(tokenizer, rows, required_ids(tokenizer), token_counts(ids, rows))
