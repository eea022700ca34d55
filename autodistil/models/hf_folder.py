"""The models that are evaluated: folders of ordinary Hugging Face encoders, exported by autodistil or not."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import snapshot_download
from safetensors import SafetensorError
from transformers import (
    AutoModel,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)
from transformers.utils import logging as transformers_logging

import autodistil.models.architectures  # noqa: F401  our own are known without remote code
from autodistil.errors import TeacherError, one_line
from autodistil.models.families import known_families
from autodistil.models.packaged import PACKAGED
from autodistil.models.teacher import load_config, resolve_folder

CARD = "README.md"
_FILES = ("*.json", "*.safetensors", "*.txt", "*.model", CARD)
"""Of a model on the Hub; no code and no pickle."""
_OPTIONS: dict[str, Any] = {"trust_remote_code": False, "use_safetensors": True, "dtype": torch.float32}


@dataclass(frozen=True)
class EvaluatedModel:
    """A local folder with a Hugging Face encoder."""

    source: str
    """What the user asked for: a folder, a packaged name or an id on the Hub."""
    folder: Path
    users_own: bool
    """A folder that the user named; otherwise it belongs to a package or to the Hub's cache."""
    file: str | None = None
    """An ONNX file within it that computes in the place of the weights."""

    @classmethod
    def open(cls, source: str, file: str | None = None) -> EvaluatedModel:
        """Find a model; one on the Hub is downloaded (configuration, safetensors weights and tokenizer only).

        Args:
            source: a folder, a packaged name or an id on the Hub.
            file: an ONNX file within the folder to evaluate in the place of the weights.

        Raises:
            TeacherError: it is not there.
        """
        folder = resolve_folder(source, "model")
        if file is not None and (folder is None or not file.endswith(".onnx") or not (folder / file).is_file()):
            raise TeacherError(
                f"model {source!r} has no ONNX file {file!r}; write one with: autodistil export --format onnx-int8"
            )
        if folder is not None:
            return cls(source, folder, users_own=source not in PACKAGED, file=file)
        with loading_errors(source):
            return cls(source, Path(snapshot_download(source, allow_patterns=list(_FILES))), users_own=False)

    @property
    def exported(self) -> bool:
        """Whether autodistil exported it: its model card has our tag."""
        card = self.folder / CARD
        return card.is_file() and "- autodistil\n" in card.read_text(encoding="utf-8", errors="replace")

    @cached_property
    def fingerprint(self) -> str:
        """Hash of configuration and weights, (16 hexadecimal digits)."""
        digest = hashlib.sha256()
        for path in sorted((self.folder / "config.json", *self.folder.glob("*.safetensors"))):
            with open(path, "rb") as file:
                digest.update(hashlib.file_digest(file, "sha256").digest())
        return digest.hexdigest()[:16]

    def tokenizer(self) -> PreTrainedTokenizerBase:
        """Its tokenizer.

        Raises:
            TeacherError: there is none that can be used, or the model reads images.
        """
        config = load_config(str(self.folder))
        if any(config.model_type in family.model_types for family in known_families() if family.modality == "image"):
            raise TeacherError(
                f"model {self.source!r} is a {config.model_type}, which reads images; tasks are for models that read "
                "text; for images see examples/vision/probe.py"
            )
        with loading_errors(self.source):
            return AutoTokenizer.from_pretrained(self.folder, trust_remote_code=False)

    def encoder(self, device: torch.device) -> PreTrainedModel:
        """The bare encoder, in eval mode.

        Raises:
            TeacherError: its weights are missing, damaged or not safetensors.
        """
        with loading_errors(self.source), _quiet():
            model, info = AutoModel.from_pretrained(self.folder, output_loading_info=True, **_OPTIONS)
        self._check_complete(info["missing_keys"], "")
        return model.eval().to(device)

    def skeleton(self) -> PreTrainedModel:
        """The bare encoder without weights, on the meta device: what an ONNX file computes in its place.

        Raises:
            TeacherError: its configuration cannot be used.
        """
        with loading_errors(self.source), torch.device("meta"):
            model: PreTrainedModel = AutoModel.from_config(load_config(str(self.folder)))
            return model

    def classifier(self, outputs: int, device: torch.device) -> PreTrainedModel:
        """The encoder under a new head of `outputs` numbers a row, drawn from torch's global generator.

        Raises:
            TeacherError: as `encoder`, or the family has no classification head.
        """
        with loading_errors(self.source), _quiet():
            model, info = AutoModelForSequenceClassification.from_pretrained(
                self.folder, num_labels=outputs, output_loading_info=True, **_OPTIONS
            )
        self._check_complete(info["missing_keys"], f"{model.base_model_prefix}.")
        return model.to(device)

    def _check_complete(self, missing: set[str], prefix: str) -> None:
        """A head or a pooler may be new; anything else that is missing means damaged weights."""
        names = sorted(name for name in missing if name.startswith(prefix) and "pooler." not in name)
        if names:
            raise TeacherError(
                f"weights of model {self.source!r} lack {len(names)} parameters, first {names[0]!r}; "
                "give a complete checkpoint"
            )


def usable_length(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, wanted: int) -> int:
    """Tokens a text may have: `wanted`, or what tokenizer and positions allow where that is less."""
    positions = getattr(model.config, "max_position_embeddings", None) or wanted
    for name, module in model.named_modules():
        if name.endswith("position_embeddings") and getattr(module, "padding_idx", None) is not None:
            positions -= module.padding_idx + 1  # RoBERTa counts positions from there
    return min(wanted, positions, tokenizer.model_max_length)


@contextmanager
def loading_errors(source: str) -> Iterator[None]:
    """Turn what the libraries raise about a model into one line."""
    try:
        yield
    except (OSError, ValueError, KeyError, RuntimeError, SafetensorError) as error:
        reason = one_line(error, 200)
        raise TeacherError(
            f"model {source!r} cannot be loaded: {reason}; give a folder with config.json, model.safetensors and a "
            "tokenizer, or a Hugging Face id that is reachable or cached"
        ) from error


@contextmanager
def _quiet() -> Iterator[None]:
    """No report of new heads and poolers: they are meant."""
    before = transformers_logging.get_verbosity()
    transformers_logging.set_verbosity_error()
    try:
        yield
    finally:
        transformers_logging.set_verbosity(before)
