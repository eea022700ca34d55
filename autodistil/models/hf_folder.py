"""Hugging Face models: where they lie, reading them with checks, and those that are evaluated, ours or not."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import snapshot_download
from safetensors import SafetensorError
from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    PretrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

import autodistil.models.architectures  # noqa: F401  our own are known without remote code
from autodistil.errors import TeacherError, one_line
from autodistil.models.families import known_families
from autodistil.models.packaged import PACKAGED
from autodistil.utils import quiet

CARD = "README.md"
_FILES = ("*.json", "*.safetensors", "*.txt", "*.model", CARD)
"""Files that are taken of a model on the Hub; no code and no pickle."""


def load_config(source: str, trust_remote_code: bool = False) -> PretrainedConfig:
    """The Hugging Face config of a teacher, without its weights.

    Raises:
        TeacherError: not found or unreadable.
    """
    folder = resolve_folder(source)
    advice = "; give a folder with config.json and model.safetensors, a Hugging Face id that is reachable or cached"
    with loading_errors(f"teacher {source!r} cannot be loaded", advice):
        return AutoConfig.from_pretrained(str(folder) if folder else source, trust_remote_code=trust_remote_code)


def resolve_folder(source: str, what: str = "teacher") -> Path | None:
    """The local folder of a model, None where it is an id on the Hub.

    Args:
        source: packaged name, folder or Hugging Face id.
        what: how to call it in messages.

    Raises:
        TeacherError: a packaged one is not installed, or the folder is missing or holds no model.
    """
    if source in PACKAGED:
        return PACKAGED[source].folder(source)
    path = Path(source).expanduser()
    if path.is_dir():
        if not (path / "config.json").is_file():
            raise TeacherError(
                f"{what} folder {source!r} holds no config.json; give the folder of a Hugging Face model"
            )
        return path
    if path.is_absolute() or source.startswith((".", "~")) or source.count("/") > 1:
        raise TeacherError(f"{what} folder {source!r} does not exist; give a folder or a Hugging Face id")
    return None


def load_weights(
    kind: Any, location: str | Path, what: str, trust_remote_code: bool = False, new_head: bool = False, **options: Any
) -> tuple[PreTrainedModel, set[str]]:
    """A model in float32 from safetensors, and the names of parameters of its pooler or new head that are not there.

    Args:
        kind: an `Auto` class of transformers.
        location: folder or Hugging Face id.
        what: how to call it in messages.
        trust_remote_code: whether code of the folder may run.
        new_head: what stands on the encoder may be missing.
        options: of `from_pretrained`.

    Raises:
        TeacherError: other parameters are missing: the weights are damaged.
    """
    options |= {"trust_remote_code": trust_remote_code, "use_safetensors": True, "dtype": torch.float32}
    model, info = kind.from_pretrained(location, output_loading_info=True, **options)
    missing = set(info["missing_keys"])
    encoder = f"{model.base_model_prefix}." if new_head else ""
    names = sorted(name for name in missing if name.startswith(encoder) and "pooler." not in name)
    if names:
        raise TeacherError(
            f"weights of {what} lack {len(names)} parameters, first {names[0]!r}; give a complete checkpoint"
        )
    return model, missing


@contextmanager
def loading_errors(what: str, advice: str = "") -> Iterator[None]:
    """Turn what the libraries raise about a model into one line: what failed, why, and what to do."""
    try:
        yield
    except (OSError, ValueError, KeyError, RuntimeError, SafetensorError) as error:
        raise TeacherError(f"{what}: {one_line(error, 200)}{advice}") from error


def model_errors(source: str) -> AbstractContextManager[None]:
    """The same of a model that is evaluated."""
    needed = "a folder with config.json, model.safetensors and a tokenizer"
    advice = f"; give {needed}, or a Hugging Face id that is reachable or cached"
    return loading_errors(f"model {source!r} cannot be loaded", advice)


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
        with model_errors(source):
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
        """The tokenizer of the model.

        Raises:
            TeacherError: there is none that can be used, or the model reads images.
        """
        config = load_config(str(self.folder))
        if any(config.model_type in family.model_types for family in known_families() if family.modality == "image"):
            raise TeacherError(
                f"model {self.source!r} is a {config.model_type}, which reads images; tasks are for models that read "
                "text; for images see examples/vision/probe.py"
            )
        with model_errors(self.source):
            return AutoTokenizer.from_pretrained(self.folder, trust_remote_code=False)

    def encoder(self, device: torch.device) -> PreTrainedModel:
        """The bare encoder, in eval mode.

        Raises:
            TeacherError: its weights are missing, damaged or not safetensors.
        """
        return self._load(AutoModel).eval().to(device)

    def skeleton(self) -> PreTrainedModel:
        """The bare encoder without weights, on the meta device: what an ONNX file computes in its place.

        Raises:
            TeacherError: its configuration cannot be used.
        """
        with model_errors(self.source), torch.device("meta"):
            model: PreTrainedModel = AutoModel.from_config(load_config(str(self.folder)))
            return model

    def classifier(self, outputs: int, device: torch.device) -> PreTrainedModel:
        """The encoder under a new head of `outputs` numbers a row, drawn from torch's global generator.

        Raises:
            TeacherError: as `encoder`, or the family has no classification head.
        """
        return self._load(AutoModelForSequenceClassification, new_head=True, num_labels=outputs).to(device)

    def _load(self, kind: Any, **options: Any) -> Any:
        with model_errors(self.source), quiet("transformers"):  # it tells of new heads and poolers, which are meant
            return load_weights(kind, self.folder, f"model {self.source!r}", **options)[0]


def usable_length(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, wanted: int) -> int:
    """Tokens a text may have: `wanted`, or what tokenizer and positions allow where that is less."""
    positions = getattr(model.config, "max_position_embeddings", None) or wanted
    for name, module in model.named_modules():
        if name.endswith("position_embeddings") and getattr(module, "padding_idx", None) is not None:
            positions -= module.padding_idx + 1  # RoBERTa counts positions from there
    return min(wanted, positions, tokenizer.model_max_length)
