"""Text to token ids with a Hugging Face tokenizer, and what else the data needs to know of it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from typing import Any

from transformers import PreTrainedTokenizerBase

from autodistil.errors import CorpusError

_PROBE = "the"


def token_ids(tokenizer: PreTrainedTokenizerBase, texts: Sequence[str]) -> list[list[int]]:
    """Ids of each text without special tokens, whole however long it is."""
    return list(
        tokenizer(
            list(texts),
            add_special_tokens=False,
            padding=False,
            truncation=False,
            return_attention_mask=False,
            return_token_type_ids=False,
            verbose=False,  # no warning of texts beyond the model's length: they are packed, not fed as they are
        )["input_ids"]
    )


def special_affixes(tokenizer: PreTrainedTokenizerBase) -> tuple[list[int], list[int]]:
    """The ids that the tokenizer puts before and after a text: `[CLS]` and `[SEP]`, `<s>` and `</s>`, or none.

    Raises:
        CorpusError: the tokenizer cannot encode an English word.
    """
    plain = token_ids(tokenizer, [_PROBE])[0]
    whole = list(tokenizer(_PROBE, add_special_tokens=True, padding=False, truncation=False)["input_ids"])
    for start in range(len(whole) - len(plain) + 1) if plain else ():
        if whole[start : start + len(plain)] == plain:
            return whole[:start], whole[start + len(plain) :]
    raise CorpusError(
        f"the tokenizer {type(tokenizer).__name__} turns {_PROBE!r} into the ids {plain}, with special tokens {whole}; "
        "expected: the same ids between special ones; use the tokenizer that belongs to the teacher"
    )


def separator_ids(tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """What closes a document in a stream: the suffix of a text, else the end-of-text token, else nothing."""
    suffix = special_affixes(tokenizer)[1]
    end = tokenizer.eos_token_id
    return suffix or ([end] if isinstance(end, int) else [])


def vocabulary_size(tokenizer: PreTrainedTokenizerBase) -> int:
    """One more than the largest id."""
    return max(len(tokenizer), 1 + max(tokenizer.get_vocab().values()))


def tokenizer_fingerprint(tokenizer: PreTrainedTokenizerBase) -> str:
    """Hash of all that decides the ids of a text, wherever the tokenizer was loaded from."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:
        content: dict[str, Any] = {"class": type(tokenizer).__name__, "vocabulary": tokenizer.get_vocab()}
    else:
        content = json.loads(backend.to_str())
        content.update(truncation=None, padding=None)  # the state of the last call
    content["special"] = [*special_affixes(tokenizer), separator_ids(tokenizer)]
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
