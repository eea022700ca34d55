"""Vocabulary pruning: which of the teacher's tokens a student knows (Abdaoui et al. 2020, "Load What You Need").

In a tiny student the word embeddings are most of the parameters, and a text uses few of them. A `Vocabulary` orders the
teacher's tokens: first what no tokenizer can do without (special and added tokens, and the pieces of one character or
byte, out of which every other one is spelled), then by frequency in a corpus. A student of vocabulary size V knows the
first V of this order; its tokens keep the teacher's sequence and are numbered from 0. In byte-pair encoding a token is
reached by merges only, so the pieces that its merges join come before it: what is kept can be made.

`prune_tokenizer` edits the tokenizer's own JSON: normaliser, pre-tokenizer and decoder stay. WordPiece takes the
longest piece that is left; byte-pair encoding loses the merges that touch a dropped piece; a unigram model keeps its
scores. Every V leaves a working tokenizer:

- What it decodes to is what the teacher's tokenizer decodes to, and there is an unknown token only where that one has
  one (provided each character that occurs in a piece is one itself, as in all vocabularies that were trained on text).
- A text none of whose tokens is dropped gets the same tokens: the longest piece, the next merge and the best
  segmentation stay what they were when only others are taken away.

FLOPs are stated for a number of tokens, and a pruned tokenizer makes more of them of the same text: the model card says
how many.
"""

from __future__ import annotations

import json
import logging
import re
import zipfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import chain
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from transformers import PretrainedConfig, PreTrainedTokenizerBase

from autodistil.data.tokens import special_affixes
from autodistil.errors import IntegrityError, RunError, TeacherError
from autodistil.utils import atomic_path, check_sum

logger = logging.getLogger(__name__)

_CHUNK = 1 << 24
"""Tokens counted at a time."""
_KINDS = ("WordPiece", "BPE", "Unigram")
"""Types of a tokenizer model that can be pruned."""
Model = Mapping[str, Any]
"""`model` of a tokenizer.json."""


@dataclass(frozen=True, eq=False)
class Vocabulary:
    """An order of the teacher's tokens, those that a student needs first."""

    order: np.ndarray
    """Ids of the teacher (rows of its word embeddings,), each once."""
    smallest: int
    """How many leading ones no student can do without."""

    def kept(self, size: int) -> np.ndarray:
        """The ids that a student of vocabulary size `size` keeps, ascending: its own id of a token is the index."""
        assert self.smallest <= size <= len(self.order)
        return np.sort(self.order[:size])

    def new_ids(self, size: int) -> dict[int, int]:
        """The teacher's id of a kept token -> the student's."""
        return {int(old): new for new, old in enumerate(self.kept(size))}

    def coverage(self, ids: np.ndarray, size: int) -> float:
        """Share of the tokens `ids` that are kept."""
        return float((self.ranks[ids] < size).mean())

    @cached_property
    def ranks(self) -> np.ndarray:
        """Place of each id in the order, (rows,)."""
        ranks = np.empty_like(self.order)
        ranks[self.order] = np.arange(len(self.order))
        return ranks

    def save(self, path: Path) -> None:
        """Write to an `.npz` file, whole or not at all."""
        with atomic_path(path, summed=True) as temporary, open(temporary, "wb") as file:
            np.savez(file, order=self.order, smallest=self.smallest)

    @classmethod
    def load(cls, path: Path) -> Vocabulary:
        """Read what `save` wrote.

        Raises:
            RunError: the file is damaged.
        """
        try:
            check_sum(path)
            with open(path, "rb") as file:
                content = np.load(file, allow_pickle=False)
                return cls(content["order"], int(content["smallest"]))
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
            raise RunError(f"{str(path)!r} is damaged ({error}); restore it, or give another --run folder") from error


def order_vocabulary(
    tokenizer: PreTrainedTokenizerBase, num_rows: int, required: Iterable[int], counts: np.ndarray
) -> Vocabulary:
    """Order the tokens of a teacher.

    Args:
        tokenizer: the teacher's.
        num_rows: rows of its word embeddings; those without a token come last.
        required: what `required_ids` says.
        counts: how often the corpus has each id, (num_rows,); equal ones are ordered by id.
    """
    first = sorted(required)
    tokens = set(tokenizer.get_vocab().values())
    by_frequency = [i for i in np.argsort(-counts, kind="stable").tolist() if i in tokens]
    parts = _parts(_specification(tokenizer)["model"])
    ordered = dict.fromkeys(chain(first, _parts_first(by_frequency, parts), range(num_rows)))
    return Vocabulary(np.fromiter(ordered, dtype=np.int64), len(first))


def token_counts(tokens: np.ndarray, num_rows: int) -> np.ndarray:
    """How often each id occurs in a stream of tokens, (num_rows,)."""
    counts = np.zeros(num_rows, dtype=np.int64)
    for start in range(0, len(tokens), _CHUNK):
        counts += np.bincount(tokens[start : start + _CHUNK], minlength=num_rows)
    return counts


def required_ids(tokenizer: PreTrainedTokenizerBase, others: Iterable[int] = ()) -> list[int]:
    """The ids without which a tokenizer is not lossless, ascending.

    These are special and added tokens, pieces of one character or byte, and pieces with a character that has no piece
    of its own.

    Args:
        tokenizer: the teacher's.
        others: further ids to keep, such as those that the model's config names.

    Raises:
        TeacherError: the tokenizer is not a fast one of a known kind.
    """
    specification = _specification(tokenizer)
    added = [token["id"] for token in specification["added_tokens"]]
    affixes = [i for affix in special_affixes(tokenizer) for i in affix]
    return sorted({*added, *affixes, *tokenizer.all_special_ids, *others, *_fallback(specification["model"])})


def config_token_ids(config: PretrainedConfig) -> dict[str, int]:
    """Names and values of the token ids in a model's config, such as `pad_token_id`."""
    fields = {name: value for name, value in config.to_dict().items() if name.endswith("_token_id")}
    return {n: value for n, value in fields.items() if isinstance(value, int) and 0 <= value < config.vocab_size}


def renumber_config(config: PretrainedConfig, vocabulary: Vocabulary, size: int) -> None:
    """Give a model's config the vocabulary size `size`, and its token ids in the numbering of that."""
    new_ids = vocabulary.new_ids(size)
    for name, value in config_token_ids(config).items():
        setattr(config, name, new_ids[value])
    config.vocab_size = size


# ---- kinds of tokenizer models


def model_pieces(model: Model) -> dict[str, int]:
    """The pieces of a tokenizer model with their ids."""
    vocabulary = model["vocab"]
    return vocabulary if isinstance(vocabulary, dict) else {piece: i for i, (piece, _) in enumerate(vocabulary)}


def _specification(tokenizer: PreTrainedTokenizerBase) -> dict[str, Any]:
    """The content of a tokenizer.json whose kind can be pruned."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    specification: dict[str, Any] = json.loads(backend.to_str()) if backend is not None else {"model": {}}
    model = specification["model"]
    kind = model.get("type", type(tokenizer).__name__)
    affixed = kind == "BPE" and (model.get("continuing_subword_prefix") or model.get("end_of_word_suffix"))
    if kind not in _KINDS or affixed:
        what = f"{kind} with affixes" if affixed else kind
        raise TeacherError(
            f"the vocabulary of a {what} tokenizer cannot be pruned; allowed: fast tokenizers of the kinds "
            f"{', '.join(_KINDS)} without affixes; leave the axis vocab_size out"
        )
    return specification


def _spelling(piece: str, model: Model) -> list[str]:
    """The pieces of one character that spell a piece; behind the start of a word WordPiece marks them by a prefix."""
    prefix = model.get("continuing_subword_prefix") or ""
    inner = piece.startswith(prefix) and piece != prefix
    characters = [prefix + character for character in (piece.removeprefix(prefix) if inner else piece)]
    return characters if inner else [piece[0], *characters[1:]]


def _fallback(model: Model) -> Iterator[int]:
    """Ids of the pieces that nothing else can stand for."""
    pieces = model_pieces(model)
    has_bytes = bool(model.get("byte_fallback"))
    stray = 0
    for piece, number in pieces.items():
        spelling = _spelling(piece, model) if piece else [piece]
        spelled = has_bytes or pieces.keys() >= set(spelling)
        if len(spelling) == 1 or not spelled or (has_bytes and re.fullmatch("<0x..>", piece, re.DOTALL)):
            yield number
        stray += not spelled
    if stray:
        logger.info("%d pieces have a character without a piece of its own and are always kept", stray)


def _parts(model: Model) -> dict[int, list[int]]:
    """Id of a piece -> ids of the pieces that its merges join; empty where there are no merges."""
    pieces = model_pieces(model)
    parts: dict[int, list[int]] = {}
    for left, right in model_merges(model):
        parts.setdefault(pieces[left + right], []).extend((pieces[left], pieces[right]))
    return parts


def model_merges(model: Model) -> list[tuple[str, str]]:
    """The merges of a BPE model in their order; none for other kinds."""
    merges = (merge.split(" ") if isinstance(merge, str) else merge for merge in model.get("merges", ()))
    return [(left, right) for left, right in merges]


def _parts_first(tokens: Sequence[int], parts: Mapping[int, Sequence[int]]) -> Iterator[int]:
    """`tokens` in their order, each after its parts and the parts of these; some come more than once."""
    done: set[int] = set()
    for token in tokens:
        stack = [token]
        while stack:
            missing = [part for part in parts.get(stack[-1], ()) if part not in done]
            if missing:
                stack.extend(missing)
            else:
                done.add(stack[-1])
                yield stack.pop()


# ---- the pruned tokenizer


def prune_tokenizer(tokenizer: PreTrainedTokenizerBase, vocabulary: Vocabulary, size: int) -> PreTrainedTokenizerBase:
    """The tokenizer with the first `size` tokens of a vocabulary, numbered as `vocabulary.new_ids` says.

    Raises:
        IntegrityError: the class of the tokenizer makes other ids of its file.
    """
    new_ids = vocabulary.new_ids(size)
    with TemporaryDirectory() as folder:
        tokenizer.save_pretrained(folder)
        path = Path(folder, "tokenizer.json")
        content = json.loads(path.read_text(encoding="utf-8"))
        path.write_text(json.dumps(pruned_content(content, new_ids), ensure_ascii=False), encoding="utf-8")
        _forget_old_ids(Path(folder))
        pruned: PreTrainedTokenizerBase = type(tokenizer).from_pretrained(folder)
    expected = {token: new_ids[old] for token, old in tokenizer.get_vocab().items() if old in new_ids}
    if pruned.get_vocab() != expected:
        raise IntegrityError(
            f"the pruned {type(tokenizer).__name__} has other tokens than planned; please report this, "
            "and leave the axis vocab_size out"
        )
    return pruned


def _forget_old_ids(folder: Path) -> None:
    """Remove what says the teacher's ids a second time."""
    for name in ("vocab.txt", "vocab.json", "merges.txt", "added_tokens.json"):
        (folder / name).unlink(missing_ok=True)
    path = folder / "tokenizer_config.json"
    config = json.loads(path.read_text(encoding="utf-8"))
    config.pop("added_tokens_decoder", None)
    path.write_text(json.dumps(config, ensure_ascii=False, indent=2), encoding="utf-8")


def pruned_content(content: Mapping[str, Any], new_ids: Mapping[int, int]) -> dict[str, Any]:
    """The content of a tokenizer.json with the tokens of `new_ids` (old id -> new id) alone."""
    model, padding = content["model"], content.get("padding")
    return {
        **content,
        "added_tokens": sorted(
            ({**token, "id": new_ids[token["id"]]} for token in content["added_tokens"]), key=lambda token: token["id"]
        ),
        "padding": padding and {**padding, "pad_id": new_ids[padding["pad_id"]]},
        "post_processor": content["post_processor"] and _renumbered(content["post_processor"], new_ids),
        "model": _pruned_model(model, new_ids),
    }


def _renumbered(processor: Mapping[str, Any], new_ids: Mapping[int, int]) -> dict[str, Any]:
    """A post-processor with the ids of its special tokens replaced."""
    result = dict(processor)
    for key in ("sep", "cls"):  # BertProcessing and RobertaProcessing
        if key in processor:
            token, number = processor[key]
            result[key] = [token, new_ids[number]]
    if "special_tokens" in processor:  # TemplateProcessing
        result["special_tokens"] = {
            name: {**token, "ids": [new_ids[number] for number in token["ids"]]}
            for name, token in processor["special_tokens"].items()
        }
    if "processors" in processor:  # Sequence
        result["processors"] = [_renumbered(inner, new_ids) for inner in processor["processors"]]
    return result


def _pruned_model(model: Model, new_ids: Mapping[int, int]) -> Model:
    if model["type"] == "Unigram":
        kept = [entry for number, entry in enumerate(model["vocab"]) if number in new_ids]
        unknown = model.get("unk_id")
        return {**model, "vocab": kept, "unk_id": None if unknown is None else new_ids[unknown]}
    pieces = {piece: new_ids[number] for piece, number in model_pieces(model).items() if number in new_ids}
    pruned = {**model, "vocab": dict(sorted(pieces.items(), key=lambda item: item[1]))}
    if "merges" in model:
        pruned["merges"] = [list(pair) for pair in model_merges(model) if {*pair, "".join(pair)} <= pieces.keys()]
    return pruned


def spellings(
    tokenizer: PreTrainedTokenizerBase, vocabulary: Vocabulary, size: int, ids: Iterable[int]
) -> dict[int, list[int]]:
    """The kept tokens that stand for each dropped one among `ids`, in the teacher's numbering.

    Departure from what the pruned tokenizer makes of a text: each token is spelled by itself, while there a piece may
    reach from a dropped token into the next one of the same word. Of all-MiniLM-L6-v2's tokenizer on documentation that
    is so for 0.14 % of the words at 8,000 tokens and for 0.6 % at 4,000.
    """
    kept = vocabulary.kept(size)
    dropped = np.setdiff1d(np.fromiter(ids, dtype=np.int64), kept)
    model = prune_tokenizer(tokenizer, vocabulary, size).backend_tokenizer.model
    names = tokenizer.convert_ids_to_tokens(dropped.tolist())
    return {
        old: [int(kept[token.id]) for token in model.tokenize(name)]
        for old, name in zip(dropped.tolist(), names, strict=True)
    }
