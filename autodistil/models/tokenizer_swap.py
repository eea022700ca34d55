"""An encoder that reads with another tokenizer, as a start: its word embeddings are the means of the teacher's pieces.

Each token of the new tokenizer gets the mean of what the old one cuts its text into (as FVT does; Gee et al. 2022,
EMNLP industry, arXiv 2402.09977); special tokens get those of the same role. All else of the model stays. What comes
out answers worse until it is trained: students of it, whose outputs learn the old model's.
"""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import PretrainedConfig, PreTrainedTokenizerBase

from autodistil.errors import TeacherError
from autodistil.models.families import family_of
from autodistil.models.hf_folder import CARD, EvaluatedModel, check_answers, load_tokenizer
from autodistil.models.pooling import MODULES, PIPELINE_FILES, read_modules
from autodistil.models.vocabulary import config_token_ids
from autodistil.utils import folder_beside

_ROLES = (("cls_token", "bos_token"), ("sep_token", "eos_token"), ("pad_token",), ("unk_token",), ("mask_token",))
"""Special tokens by what they are for; families call some of them by one name or another."""
_CONTINUATION = "##"
"""What WordPiece puts before a piece that does not begin a word."""


@dataclass(frozen=True)
class SwappedTokenizer:
    """What the swap did."""

    path: Path
    tokens: int
    """Of the new tokenizer."""
    pieces: float
    """Of the old tokenizer in a new token, on average."""
    table_mb: float
    """Size of the new word embeddings in float32."""


def swap_tokenizer(source: str, tokenizer: Path, to: Path) -> SwappedTokenizer:
    """Write an encoder with another tokenizer to a new folder, whole or not at all.

    Args:
        source: the encoder: a folder, an id or a packaged name.
        tokenizer: folder of a fast tokenizer.
        to: a folder that does not exist yet.

    Raises:
        TeacherError: a model or tokenizer is not there or damaged, or their positions cannot agree.
        RunError: the disk refuses.
    """
    if to.exists():
        raise TeacherError(f"target {str(to)!r} exists; give --to a new folder")
    if not (tokenizer / "tokenizer_config.json").is_file():
        raise TeacherError(f"{str(tokenizer)!r} is no folder of a tokenizer (no tokenizer_config.json); give one")
    model = EvaluatedModel.open(source)
    old, network = model.tokenizer(), model.encoder(torch.device("cpu"))
    config: Any = network.config
    new = load_tokenizer(tokenizer, PretrainedConfig(), f"the folder {str(tokenizer)!r}")
    if family_of(config).positions_after_padding and new.pad_token_id != config.pad_token_id:
        raise TeacherError(
            f"padding is token {new.pad_token_id} of the new tokenizer; {config.model_type} models count positions "
            f"from theirs, {config.pad_token_id}; give a tokenizer with the same"
        )
    spelled = spelling(old, new)
    words: Any = network.get_input_embeddings()
    roles = list(config_token_ids(config))  # before they are beyond a smaller vocabulary
    with torch.no_grad():
        rows = torch.stack([words.weight[ids].mean(0) for ids in spelled])
        network.resize_token_embeddings(len(rows))
        words = network.get_input_embeddings()
        words.weight.copy_(rows)
    for name in roles:
        setattr(config, name, getattr(new, name, None))
    if getattr(network, "pooler", None) is not None and not model.has_pooler:
        network.register_module("pooler", None)  # a random one, as the weights have none
    new.model_max_length = min(old.model_max_length, new.model_max_length)
    check_answers(network, f"model {source!r} with the new tokenizer")
    with folder_beside(to) as building:
        network.save_pretrained(building)
        new.save_pretrained(building)
        _copy_pipeline(model.folder, building)
        (building / CARD).write_text(f"{source} with the tokenizer of {tokenizer.name}, untrained.\n", encoding="utf-8")
        EvaluatedModel.open(str(building)).encoder(torch.device("cpu"))  # it must load
        os.replace(building, to)
    sizes = [len(ids) for ids in spelled]
    return SwappedTokenizer(to, len(rows), sum(sizes) / len(sizes), rows.numel() * 4 / 1e6)


def spelling(old: PreTrainedTokenizerBase, new: PreTrainedTokenizerBase) -> list[list[int]]:
    """What the old tokenizer cuts each token of the new one into, one or more ids, by number of the new token."""
    roles, known, unknown = _same_roles(old, new), old.get_vocab(), old.unk_token_id
    found = []
    for number, name in enumerate(new.convert_ids_to_tokens(list(range(len(new))))):
        if number in roles:
            ids = [roles[number]]
        elif name in known:
            ids = [known[name]]
        else:
            inside = name.startswith(_CONTINUATION) and len(name) > len(_CONTINUATION)
            text = name.removeprefix(_CONTINUATION) if inside else new.convert_tokens_to_string([name])
            ids = [piece for piece in old(text, add_special_tokens=False)["input_ids"] if piece != unknown]
        found.append(ids or [unknown or 0])
    return found


def _same_roles(old: PreTrainedTokenizerBase, new: PreTrainedTokenizerBase) -> dict[int, int]:
    """Special token of the new tokenizer -> that of the old one which is for the same."""
    found = {}
    for role in _ROLES:
        theirs = next((getattr(old, f"{name}_id") for name in role if getattr(old, name, None) is not None), None)
        for name in role:
            if theirs is not None and getattr(new, name, None) is not None:
                found[getattr(new, f"{name}_id")] = theirs
    return found


def _copy_pipeline(source: Path, to: Path) -> None:
    """The modules of a sentence-transformers folder, but for the model itself."""
    for name in (MODULES, *PIPELINE_FILES):
        if (source / name).is_file():
            shutil.copyfile(source / name, to / name)
    for module in read_modules(source):
        if module.path and (source / module.path).is_dir():
            shutil.copytree(source / module.path, to / module.path, dirs_exist_ok=True)
