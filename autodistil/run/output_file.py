"""Embeddings of texts that were made elsewhere, such as by an API, in the place of an output teacher's.

`texts.npy` holds them, a row a text, and `texts.jsonl` or `texts.txt` beside it the texts, in the same order. A text of
the run is looked up by its tokens, as many as the run reads of it, so it does not matter where else it stands.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from autodistil.data.batch import PADDING
from autodistil.data.cache import built_once, default_cache_dir, key_of
from autodistil.data.readers import read_texts
from autodistil.data.sequences import Sentences, token_hashes
from autodistil.data.tokens import BATCH_CHARACTERS, ids_and_ends, special_affixes, tokenizer_fingerprint
from autodistil.errors import ConfigError, one_line
from autodistil.utils import file_sum, grouped

SUFFIX = ".npy"
_TEXTS = (".jsonl", ".txt")
"""Of the file of texts beside, the first that is there."""
_FORMAT = 1
_HASHES = "hashes.npy"
_ROWS = 1 << 14
"""Rows that are looked at together."""


@dataclass(frozen=True)
class OutputFile:
    """Embeddings by tokens of their texts."""

    path: Path
    tokenizer: PreTrainedTokenizerBase
    """The run's."""
    seq_len: int
    """Tokens of the longest text, special ones included."""
    weight: float = 1.0
    """Beside other output teachers."""

    @cached_property
    def rows(self) -> np.ndarray:
        """The embeddings as they are kept (texts, dim), memory-mapped.

        Raises:
            ConfigError: the file is not there, or holds something else.
        """
        try:
            rows = np.load(self.path, mmap_mode="r", allow_pickle=False)
        except OSError as error:
            raise self._refusal(f"cannot be read ({error.strerror or error})", "check the path") from error
        except (ValueError, EOFError, SyntaxError) as error:
            raise self._refusal(f"is no plain array ({one_line(error, 100)})", "write it with numpy.save") from error
        if rows.ndim != 2 or rows.dtype not in (np.float16, np.float32) or 0 in rows.shape:
            what = f"holds {rows.dtype} of shape {rows.shape}; allowed: float16 or float32 of shape (texts, dim)"
            raise self._refusal(what, "write it anew")
        return rows

    @property
    def dim(self) -> int:
        """Width of its embeddings."""
        return int(self.rows.shape[1])

    @cached_property
    def fingerprint(self) -> str:
        """Of both files: of their content, wherever they lie."""
        _ = self.rows  # first: it says what is wrong with the file
        return key_of([file_sum(self.path), file_sum(self._texts)])[:16]

    def knows(self, texts: Sentences) -> np.ndarray:
        """Whether it has an embedding of each text, (texts,) of bool."""
        return np.isin(texts.hashes, self._lookup[0])

    def embed(self, samples: np.ndarray) -> np.ndarray:
        """Embeddings of samples (texts, tokens), (texts, dim) of float32 and of length 1."""
        prefix, suffix = map(len, special_affixes(self.tokenizer))
        places, ends = np.arange(samples.shape[1]), (samples != PADDING).sum(1, keepdims=True) - suffix
        content = (places >= prefix) & (places < ends)
        hashes, rows = self._lookup
        wanted = token_hashes(samples[content], content.sum(1))
        found = np.searchsorted(hashes, wanted).clip(max=len(hashes) - 1)
        assert (hashes[found] == wanted).all(), "texts that it does not know are left out of the run"
        taken = np.asarray(self.rows[rows[found]], dtype=np.float32)
        scaled: np.ndarray = taken / np.linalg.norm(taken, axis=1, keepdims=True)
        return scaled

    def targets(
        self, take: Callable[[np.ndarray], np.ndarray], count: int, key: Sequence[str]
    ) -> Callable[[np.ndarray], Tensor]:
        """The same by numbers of samples; there is nothing to keep."""
        return lambda numbers: torch.from_numpy(self.embed(take(numbers)))

    # ---- the two files

    @cached_property
    def _texts(self) -> Path:
        """The file of texts."""
        beside = [self.path.with_suffix(suffix) for suffix in _TEXTS]
        for path in beside:
            if path.is_file():
                return path
        names = " or ".join(repr(path.name) for path in beside)
        raise self._refusal("has no texts beside it", f"write {names} there, a text a row, in the same order")

    @cached_property
    def _lookup(self) -> tuple[np.ndarray, np.ndarray]:
        """Hashes of the different texts, rising, and the row of each, both (texts,)."""
        read = [_FORMAT, self.fingerprint, tokenizer_fingerprint(self.tokenizer), self.seq_len]
        folder = default_cache_dir() / "outputs" / key_of(read)
        built_once(folder, self._write_hashes)
        hashes = np.load(folder / _HASHES, allow_pickle=False)
        different, rows = np.unique(hashes, return_index=True)
        return different, rows

    def _write_hashes(self, folder: Path) -> Mapping[str, Any]:
        """Hash the texts and check the rows, once for a pair of files and a tokenizer.

        Raises:
            ConfigError: there are as many texts as rows not, or a row is no embedding.
        """
        prefix, suffix = map(len, special_affixes(self.tokenizer))
        most, hashes = self.seq_len - prefix - suffix, []
        for texts in grouped(read_texts(self._texts), BATCH_CHARACTERS):
            # of a text without tokens a number that stands for none keeps its place
            ids = [ids[:most] or [np.iinfo(np.uint32).max] for ids, _ in ids_and_ends(self.tokenizer, texts)]
            hashes.append(token_hashes(np.concatenate(ids), np.array([len(one) for one in ids])))
        count = sum(map(len, hashes))
        if count != len(self.rows):
            what = f"has {len(self.rows):,} rows, {self._texts.name!r} {count:,} texts"
            raise self._refusal(what, "give each text its row, in the same order")
        for start in range(0, count, _ROWS):
            sizes = np.linalg.norm(np.asarray(self.rows[start : start + _ROWS], dtype=np.float32), axis=1)
            if len(wrong := np.flatnonzero(~(np.isfinite(sizes) & (sizes > 0)))):
                what = f"has a row that is not finite, or all zeros: {start + wrong[0]:,} (from 0)"
                raise self._refusal(what, "make it again, or leave it and its text out")
        np.save(folder / _HASHES, np.concatenate(hashes))
        return {"texts": count}

    def _refusal(self, what: str, instead: str) -> ConfigError:
        return ConfigError(f"output_teacher = {str(self.path)!r} {what}; {instead}")
