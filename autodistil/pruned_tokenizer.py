"""The tokenizer of a student with a pruned vocabulary: the teacher's, less the dropped pieces.

It edits the tokenizer's own JSON: normaliser, pre-tokenizer and decoder stay. WordPiece takes the longest piece that is
left; byte-pair encoding loses the merges that touch a dropped piece; a unigram model keeps its scores. Hence:

- What it decodes to is what the teacher's tokenizer decodes to, and there is an unknown token only where that one has
  one (provided each character that occurs in a piece is one itself, as in all vocabularies that were trained on text).
- A text none of whose tokens is dropped gets the same tokens: the longest piece, the next merge and the best
  segmentation stay what they were when only others are taken away.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from types import MappingProxyType
from typing import Any

import numpy as np
from transformers import PreTrainedTokenizerBase

from autodistil.errors import IntegrityError
from autodistil.vocabulary import Vocabulary, model_merges, model_pieces

Model = dict[str, Any]
"""`model` of a tokenizer.json."""


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
        "model": {**model, **_PRUNED[model["type"]](model, new_ids)},
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


def _pruned_pieces(model: Model, new_ids: Mapping[int, int]) -> Model:
    kept = {piece: new_ids[number] for piece, number in model_pieces(model).items() if number in new_ids}
    return {"vocab": dict(sorted(kept.items(), key=lambda item: item[1]))}


def _pruned_merges(model: Model, new_ids: Mapping[int, int]) -> Model:
    pieces = _pruned_pieces(model, new_ids)
    known = pieces["vocab"]
    merges = [pair for pair in model_merges(model) if {*pair, "".join(pair)} <= known.keys()]
    return {**pieces, "merges": [list(pair) for pair in merges]}


def _pruned_unigram(model: Model, new_ids: Mapping[int, int]) -> Model:
    kept = [entry for number, entry in enumerate(model["vocab"]) if number in new_ids]
    unknown = model.get("unk_id")
    return {"vocab": kept, "unk_id": None if unknown is None else new_ids[unknown]}


_PRUNED: Mapping[str, Callable[[Model, Mapping[int, int]], Model]] = MappingProxyType(
    {"WordPiece": _pruned_pieces, "BPE": _pruned_merges, "Unigram": _pruned_unigram}
)
"""Kind of tokenizer model -> what changes in it."""


def spellings(
    tokenizer: PreTrainedTokenizerBase, vocabulary: Vocabulary, size: int, ids: Iterable[int]
) -> dict[int, list[int]]:
    """For each dropped token among `ids`: the kept tokens that stand for it, in the teacher's numbering.

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
