"""What a config asks for, held against the headers of the weights before anything is built or read.

A safetensors file begins with the names, types and shapes of its tensors. So a config.json that asks for a thousand
million layers, tokens or labels is refused at once and without memory, and one that does not fit its weights with the
tensor that says so.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors import safe_open
from transformers import PretrainedConfig, PreTrainedModel

from autodistil.models.model_folder import weight_files

_COUNTS = {"num_hidden_layers": range(1, 1_001), "num_labels": range(100_001)}
"""What transformers loops over while it reads a config.json and builds its model -> as many as models have."""
_FLOATS = frozenset({"F64", "F32", "F16", "BF16"})
"""Types of weights; whole numbers and eight bits are a quantised model's, which is no teacher without its scales."""


class Header(NamedTuple):
    """What the header of a safetensors file says of a tensor."""

    file: str
    dtype: str
    shape: tuple[int, ...]


def read_header(folder: Path) -> dict[str, Header]:
    """The tensors of a folder's weights by name; none where it holds no safetensors.

    Raises:
        SafetensorError: a file is damaged.
        TeacherError: they are no safetensors of the folder.
    """
    found = {}
    for part in weight_files(folder):
        with safe_open(folder / part, framework="pt") as file:
            for name in file.keys():  # noqa: SIM118  it is no mapping
                tensor = file.get_slice(name)
                found[name] = Header(part, tensor.get_dtype(), tuple(tensor.get_shape()))
    return found


def check_json(folder: Path) -> None:
    """Check what a config.json says before transformers reads it.

    Raises:
        ValueError: it is no JSON object, or a count in it is beyond reason.
    """
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    if not isinstance(config, dict):
        raise ValueError(f"it holds a {type(config).__name__}; allowed: an object of names and values")
    _check_counts(config)


def _check_counts(config: Mapping[str, Any]) -> None:
    for name, allowed in _COUNTS.items():
        if isinstance(count := config.get(name), int) and count not in allowed:
            raise ValueError(f"{name} = {count}; allowed: {allowed.start} to {allowed.stop - 1:,}")


def skeleton(
    kind: Any, config: PretrainedConfig, header: Mapping[str, Header], new_head: bool = False
) -> PreTrainedModel:
    """The model of a config on the meta device, which has no memory; its parameters fit the weights.

    Names that only one side has are not looked at: checkpoints have more, or older ones, than their models.

    Args:
        kind: an `Auto` class of transformers.
        config: as it was read.
        header: of the weights; empty where there are none.
        new_head: what stands on the encoder may have other sizes.

    Raises:
        ValueError: a size is not that of the weights or beyond reason, or weights are whole numbers.
        Exception: whatever transformers and torch raise for a config that describes no model.
    """
    _check_counts({name: getattr(config, name, None) for name in _COUNTS})  # whatever config.json calls them
    layers = getattr(config, "num_hidden_layers", None) or 0
    if header and layers > len(header):
        raise ValueError(f"it asks for {layers} layers, the weights hold {len(header)} tensors")
    with torch.device("meta"):
        model: PreTrainedModel = kind.from_config(copy.deepcopy(config))
    prefix = f"{model.base_model_prefix}."
    for name, parameter in model.named_parameters():
        there = next((header[one] for one in (name, prefix + name, name.removeprefix(prefix)) if one in header), None)
        if there is None or (new_head and not name.startswith(prefix)):
            continue
        if there.shape != tuple(parameter.shape):
            ours, theirs = (" x ".join(map(str, shape)) or "one number" for shape in (parameter.shape, there.shape))
            raise ValueError(f"it makes {name} {ours}, {there.file} holds {theirs}")
        if there.dtype not in _FLOATS:
            raise ValueError(f"{there.file} holds {name} as {there.dtype}; allowed: {', '.join(sorted(_FLOATS))}")
    return model
