"""A corpus as two streams of token ids, training and held-out text, cached on disk and memory-mapped.

Which side a document falls on is decided by a hash of its text alone: the split does not depend on the order of the
documents, and a document that occurs twice is never on both sides. A stream holds documents one after the other, each
closed by the tokenizer's separator, and beside it lies where sentences end: ends are found in the text, as tokens do
not tell a full stop from the point of a number. What the data needs to know of a Hugging Face tokenizer comes first.
"""

from __future__ import annotations

import hashlib
import json
import logging
import re
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import cached_property, partial
from itertools import chain, pairwise
from pathlib import Path
from typing import Any

import numpy as np
from transformers import BatchEncoding, PreTrainedTokenizerBase

from autodistil.data.batch import PADDING
from autodistil.data.cache import built_once, default_cache_dir, key_of
from autodistil.data.readers import MAX_DOCUMENT_CHARACTERS
from autodistil.data.sources import CorpusSource, resolve, shown_names, source_documents
from autodistil.errors import CorpusError
from autodistil.utils import grouped

logger = logging.getLogger(__name__)

FORMAT = 2
"""Number of the cache's format; another makes old entries unused."""

MIN_TOKENS = 1024
"""Smallest corpus: below it there is nothing to learn from and to hold out."""

HELDOUT_SHARE = 0.02
"""Share of the documents that is held out."""
MIN_HELDOUT_TOKENS = 8192
LARGEST_HELDOUT_SHARE = 0.25
"""No more of a small corpus is held out to reach the minimum."""

BATCH_CHARACTERS = 1 << 20
"""Text per call of the tokenizer."""

TRAIN, HELDOUT = "train", "heldout"
STREAM, ENDS = ".bin", ".ends"
"""Of the file of a stream, and of that with the ends of its sentences."""

_SENTENCE_END = re.compile(r"(?<!\.[A-Za-z])[.!?…]+[\"'”’)\]»]*(?=\s)|[。！？]+[」』”’）]*")
"""A stop before white space, not that of `e.g.`; in scripts without spaces a stop alone."""

TokenProgress = Callable[[int, int], None]
"""Called with the documents and tokens so far."""

_PROBE = "the"


def token_ids(tokenizer: PreTrainedTokenizerBase, texts: Sequence[str]) -> list[list[int]]:
    """Ids of each text without special tokens, whole however long it is."""
    return list(_encode(tokenizer, texts)["input_ids"])


def _encode(tokenizer: PreTrainedTokenizerBase, texts: Sequence[str]) -> BatchEncoding:
    return tokenizer(
        list(texts),
        add_special_tokens=False,
        padding=False,
        truncation=False,
        return_attention_mask=False,
        return_token_type_ids=False,
        verbose=False,  # no warning of texts beyond the model's length: they are packed, not fed as they are
    )


def ids_and_ends(tokenizer: PreTrainedTokenizerBase, texts: Sequence[str]) -> list[tuple[list[int], list[int]]]:
    """Ids of each text as by `token_ids`, and one past the last token of each sentence that ends within it."""
    stops = [[match.end() for match in _SENTENCE_END.finditer(text)] for text in texts]
    if not tokenizer.is_fast:  # such a one does not say where its tokens lie: sentences are tokenised one by one
        return [_by_sentence(tokenizer, text, ends) for text, ends in zip(texts, stops, strict=True)]
    encoded = _encode(tokenizer, texts)
    found = []
    for number, (ids, ends) in enumerate(zip(encoded["input_ids"], stops, strict=True)):
        # of a character that several tokens spell only the first is found, so the one behind it counts too
        places = [(encoded.char_to_token(number, end - 1), encoded.char_to_token(number, end)) for end in ends]
        found.append((ids, [max(last + 1, following or 0) for last, following in places if last is not None]))
    return found


def _by_sentence(tokenizer: PreTrainedTokenizerBase, text: str, stops: Sequence[int]) -> tuple[list[int], list[int]]:
    pieces = token_ids(tokenizer, [text[start:stop] for start, stop in pairwise([0, *stops, len(text)])])
    return list(chain.from_iterable(pieces)), np.cumsum([len(piece) for piece in pieces[:-1]]).astype(int).tolist()


def decoded(tokenizer: PreTrainedTokenizerBase, samples: np.ndarray) -> list[str]:
    """Samples (texts, tokens) as people read them, without special tokens and padding."""
    return list(tokenizer.batch_decode([row[row != PADDING].tolist() for row in samples], skip_special_tokens=True))


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


@dataclass(frozen=True)
class TokenStream:
    """Token ids on disk; pickles as a path, and is mapped where it is used."""

    path: Path
    dtype: str
    """`uint16` or `uint32`."""
    length: int
    """Tokens."""

    def __len__(self) -> int:
        return self.length

    @cached_property
    def tokens(self) -> np.ndarray:
        """The ids (length,), memory-mapped and read-only."""
        return np.memmap(self.path, dtype=self.dtype, mode="r", shape=(self.length,))

    @property
    def sentence_ends(self) -> np.ndarray:
        """One past the last token of each sentence, ascending; a separator is a stretch of its own."""
        return np.fromfile(self.path.with_suffix(ENDS), np.int64)

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name != "tokens"}


@dataclass(frozen=True)
class TokenizedCorpus:
    """Training and held-out text of one corpus under one tokenizer."""

    train: TokenStream
    heldout: TokenStream
    description: str
    """The corpus in words, such as `python-docs: 4,812 documents, 1.9 M tokens`."""
    fingerprint: str
    """Hash of the sources (path, size and time of change), the tokenizer and the split: the key of the cache."""
    content_hash: str
    """Hash of the token ids themselves: equal wherever the same text is read."""


def tokenize_corpus(
    sources: Sequence[str],
    tokenizer: PreTrainedTokenizerBase,
    *,
    cache_dir: Path | None = None,
    min_heldout_tokens: int = MIN_HELDOUT_TOKENS,
    progress: TokenProgress = lambda documents, tokens: None,
) -> TokenizedCorpus:
    """Tokenise a corpus, or open it where that was done before.

    Args:
        sources: files, folders, globs, `hf:` data sets or `python-docs`.
        tokenizer: the teacher's.
        cache_dir: root of the cache; `$AUTODISTIL_CACHE` or `~/.cache/autodistil` unless given.
        min_heldout_tokens: more is held out of a small corpus to reach this, up to a quarter of it.
        progress: called with (documents, tokens) while tokenising, from 0 again where a small corpus is split anew.

    Raises:
        CorpusError: a source cannot be read, the corpus is too small, or the cache cannot be written.
    """
    resolved = resolve(sources)
    split = (HELDOUT_SHARE, min_heldout_tokens)
    fingerprint = _fingerprint([source.identity for source in resolved], tokenizer_fingerprint(tokenizer), split)
    folder = (cache_dir or default_cache_dir()) / "tokens" / fingerprint
    meta = built_once(folder, partial(_build, resolved, tokenizer, min_heldout_tokens, progress))
    dtype = np.dtype(meta["dtype"])
    train, heldout = (
        TokenStream(folder / name, dtype.name, meta["files"][name]["bytes"] // dtype.itemsize)
        for name in (TRAIN + STREAM, HELDOUT + STREAM)
    )
    tokens = len(train) + len(heldout)
    amount = f"{tokens / 1e6:,.1f} M" if tokens >= 1e5 else f"{tokens:,}"
    description = f"{shown_names(resolved)}: {meta['documents']:,} documents, {amount} tokens"
    return TokenizedCorpus(train, heldout, description, fingerprint, _fingerprint(meta["dtype"], meta["files"]))


def _fingerprint(*parts: object) -> str:
    return key_of([FORMAT, MAX_DOCUMENT_CHARACTERS, *parts])


def _build(
    sources: Sequence[CorpusSource],
    tokenizer: PreTrainedTokenizerBase,
    min_heldout_tokens: int,
    progress: TokenProgress,
    folder: Path,
) -> dict[str, Any]:
    """Write the two streams into a folder; returns what to remember of them."""
    writer = _Writer(folder, tokenizer, progress)
    share = HELDOUT_SHARE
    while True:
        writer.write(chain.from_iterable(map(source_documents, sources)), share)
        tokens, heldout = sum(writer.tokens.values()), writer.tokens[HELDOUT]
        if tokens < MIN_TOKENS:
            names = ", ".join(source.name for source in sources)
            raise CorpusError(f"corpus {names!r} has {tokens:,} tokens; needed: {MIN_TOKENS:,} or more; add text")
        wanted = min(min_heldout_tokens, int(LARGEST_HELDOUT_SHARE * tokens))
        if heldout >= wanted or share >= 2 * LARGEST_HELDOUT_SHARE:
            break
        share = max(2 * share, 1.2 * wanted / tokens)
    if heldout < wanted or writer.tokens[TRAIN] < tokens / 2:
        writer.hold_out_the_end(wanted)
    logger.info("%d documents, %d tokens, %d duplicates left out", writer.documents, tokens, writer.seen.duplicates)
    return {"dtype": writer.dtype.name, "documents": writer.documents}


class _Writer:
    """Writes a corpus as two streams with the ends of their sentences, and counts what it has written."""

    def __init__(self, folder: Path, tokenizer: PreTrainedTokenizerBase, progress: TokenProgress) -> None:
        self.paths = {side: folder / (side + STREAM) for side in (TRAIN, HELDOUT)}
        self.tokenizer = tokenizer
        self.separator = separator_ids(tokenizer)
        self.dtype = np.dtype(np.uint16 if vocabulary_size(tokenizer) <= 1 << 16 else np.uint32)
        self.progress = progress

    def write(self, documents: Iterable[str], heldout_share: float) -> None:
        """Write both streams anew, with each document once."""
        self.seen, self.documents, self.tokens = _SeenDocuments(), 0, {TRAIN: 0, HELDOUT: 0}
        with ExitStack() as stack:
            streams, ends = (
                {side: stack.enter_context(open(path.with_suffix(suffix), "wb")) for side, path in self.paths.items()}
                for suffix in (STREAM, ENDS)
            )
            for batch in grouped(documents, BATCH_CHARACTERS):
                for side, encoded in self._encoded(batch, heldout_share).items():
                    found: list[int] = []
                    begin = self.tokens[side]
                    for ids, stops in encoded:
                        found += [begin + stop for stop in stops]
                        begin += len(ids)
                    np.fromiter(chain.from_iterable(ids for ids, _ in encoded), self.dtype).tofile(streams[side])
                    np.array(found, np.int64).tofile(ends[side])
                    self.tokens[side] = begin
                    self.documents += len(encoded)
                self.progress(self.documents, sum(self.tokens.values()))

    def _encoded(self, batch: Sequence[str], heldout_share: float) -> dict[str, list[tuple[list[int], list[int]]]]:
        """Side -> ids and ends of sentences of the documents of a batch that belong to it."""
        hashed = [(text, hashlib.blake2b(text.encode(), digest_size=16).digest()) for text in batch]
        fresh = [(text, digest) for text, digest in hashed if self.seen.add(digest)]
        encoded = ids_and_ends(self.tokenizer, [text for text, _ in fresh]) if fresh else []
        threshold = int(heldout_share * 2**64)
        sides: dict[str, list[tuple[list[int], list[int]]]] = {TRAIN: [], HELDOUT: []}
        for (_, digest), (ids, ends) in zip(fresh, encoded, strict=True):
            side = HELDOUT if int.from_bytes(digest[:8], "little") < threshold else TRAIN
            if ids:  # the last sentence ends with the document, before the separator
                whole = ids + self.separator
                sides[side].append((whole, [*ends, len(ids), len(whole)]))
        return sides

    def hold_out_the_end(self, heldout_tokens: int) -> None:
        """Cut a corpus of a few long documents, which no hash can divide, where `heldout_tokens` are left."""
        ids = np.concatenate([np.fromfile(self.paths[side], self.dtype) for side in (TRAIN, HELDOUT)])
        train, heldout = (np.fromfile(self.paths[side].with_suffix(ENDS), np.int64) for side in (TRAIN, HELDOUT))
        ends = np.concatenate([train, heldout + self.tokens[TRAIN]])
        cut = len(ids) - heldout_tokens
        for side, kept, stops in ((TRAIN, ids[:cut], ends[ends <= cut]), (HELDOUT, ids[cut:], ends[ends > cut] - cut)):
            kept.tofile(self.paths[side])
            stops.tofile(self.paths[side].with_suffix(ENDS))


class _SeenDocuments:
    """Recognises repeated documents in bounded memory: a table in which a newer document may displace an older one."""

    SLOTS = 1 << 22

    def __init__(self) -> None:
        self.table = np.zeros(self.SLOTS, dtype=np.uint64)
        self.duplicates = 0

    def add(self, digest: bytes) -> bool:
        """Remember a document by its hash (16 bytes); False where it is remembered already."""
        slot = int.from_bytes(digest[:8], "little") % self.SLOTS
        key = int.from_bytes(digest[8:], "little")
        if self.table[slot] == key:
            self.duplicates += 1
            return False
        self.table[slot] = key
        return True
