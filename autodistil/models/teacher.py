"""The frozen teacher: a Hugging Face model in eval mode that yields the attention states of any of its layers."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import AutoModel, AutoModelForCausalLM, PretrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

from autodistil.data.batch import Batch, Inputs, TokenInputs
from autodistil.errors import TeacherError
from autodistil.models.attention import ModelStates, run_tapped, use_tapped_attention
from autodistil.models.families import family_of, known_families
from autodistil.models.families.family import LM_HEAD, Family
from autodistil.models.families.vit import VisionFamily
from autodistil.models.hf_folder import (
    PROBE,
    check_answers,
    load_config,
    load_tokenizer,
    load_weights,
    loading_errors,
)
from autodistil.models.image_processor import ImageReader, fit_positions, load_image_reader
from autodistil.models.layer_maps import depths_of
from autodistil.models.model_folder import find_model
from autodistil.models.packaged import DEFAULT_TEACHER
from autodistil.models.pooling import POOLER, read_pooling
from autodistil.space.shape import EncoderShape
from autodistil.space.student import StudentConfig

logger = logging.getLogger(__name__)

_NOT_THE_FUNCTION = frozenset({"transformers_version", "use_cache", "dtype", "torch_dtype", "architectures"})
"""What a config says that changes with the library or the loading, not with what the model computes."""


@dataclass(frozen=True)
class Teacher:
    """A frozen encoder or decoder with its tokenizer or image processor."""

    source: str
    """What the user asked for: a name, a Hugging Face id or a folder."""
    folder: Path | None
    """The folder that it was read from; None of one that was made in memory."""
    model: PreTrainedModel
    """Without a language-model head."""
    family: Family
    tokenizer: PreTrainedTokenizerBase
    """Tokenizer of teachers that read text; None for others, which have `images`."""
    has_pooler: bool
    """The checkpoint holds a pooler (AutoModel makes up a random one where it is missing)."""
    fingerprint: str
    """Hash of config and weights: two teachers with the same one are the same function."""
    own_head: Tensor | None = None
    """Language-model head (vocabulary, hidden) of a decoder that does not tie it to the word embeddings."""
    images: ImageReader | None = None
    """The image processor of those that read images."""
    hub_id: str | None = None
    """Its id on the Hugging Face Hub, where it comes from there."""
    commit: str | None = None
    """The commit of its repository there."""

    @property
    def head(self) -> Tensor | None:
        """The language-model head (vocabulary, hidden) of a decoder."""
        if not self.family.causal:
            return None
        return self.model.get_parameter(self.family.word_embeddings) if self.own_head is None else self.own_head

    def named_parameters(self) -> Iterator[tuple[str, Tensor]]:
        """Parameters of the model, and the head where it is one of its own."""
        yield from self.model.named_parameters()
        if self.own_head is not None:
            yield LM_HEAD, self.own_head

    @property
    def dims(self) -> StudentConfig:
        """The teacher's own axes."""
        return self.family.dimensions(self.model.config)

    @property
    def encoder_shape(self) -> EncoderShape:
        """The constants of the closed-form costs."""
        return self.family.encoder_shape(self.model.config, self.has_pooler)

    @property
    def padding_id(self) -> int:
        """What fills up shorter texts; masked, so any id would do."""
        return getattr(self.model.config, "pad_token_id", None) or 0

    @property
    def inputs(self) -> Inputs:
        """How texts or images become its inputs."""
        return TokenInputs(self.padding_id) if self.images is None else self.images.inputs

    @property
    def max_length(self) -> int:
        """Tokens of the longest sequence that it takes."""
        return self.family.max_length(self.model.config)

    @property
    def pooling(self) -> str | None:
        """How it pools embeddings (a key of `pooling.POOLINGS`), None where it is no encoder of sentences or images.

        Vision encoders: by the pooler that came with the weights, else the class token.
        """
        if self.family.modality == "image":
            return POOLER if self.has_pooler else "cls"
        return read_pooling(self.folder)

    @torch.no_grad()
    def states(self, batch: Batch, layer: int | None = None, output: bool = False, hidden: bool = False) -> ModelStates:
        """Attention states of `layer` (the last unless given) and, if asked, last and all hidden states."""
        depth = self.dims.num_layers
        states = run_tapped(self.model, batch, depth - 1 if layer is None else layer, output, hidden)
        states = replace(states, depths=depths_of(range(depth), depth))
        return replace(states, head=self.head, tokens=batch["input_ids"]) if self.family.causal else states

    def kv_width(self, student: StudentConfig) -> int:
        """Width of keys and values of a student's last attention, or the teacher's: what relation heads must divide."""
        return student.tapped.attention_width // self.family.queries_per_kv(self.model.config)


def load_teacher(
    source: str = DEFAULT_TEACHER, device: str = "cpu", trust_remote_code: bool = False, commit: str | None = None
) -> Teacher:
    """Load a teacher. Weights must be safetensors; no pickle is read.

    Args:
        source: packaged name, Hugging Face id (with `@` and a revision, if wanted) or folder.
        device: where to load it.
        trust_remote_code: allow code that comes with it.
        commit: of its repository on the Hub, in the place of the revision.

    Raises:
        TeacherError: not found, no family table, a config.json that is damaged or not that of the weights, unreadable
            or missing weights, no tokenizer or image processor that fits, a model that cannot be run, a decoder
            without causal mask.
    """
    config = load_config(source, trust_remote_code, commit=commit)
    family = family_of(config)
    with loading_errors(f"config.json of teacher {source!r} cannot be used"):
        family.dimensions(config)  # refuses heads that do not divide before the weights are read
    if getattr(config, "is_decoder", False) and not family.causal:
        decoders = ", ".join(name for known in known_families() if known.causal for name in known.model_types)
        raise TeacherError(f"teacher {source!r} is a decoder (is_decoder = true); allowed: encoders, and {decoders}")
    found = find_model(source, commit=commit, code=trust_remote_code)
    model, has_pooler = _load_model(found.path, config, source, trust_remote_code, family.causal)
    images = None
    tokenizer: Any = None
    if isinstance(family, VisionFamily):
        images = load_image_reader(found.path, source, config, trust_remote_code)
    else:
        tokenizer = load_tokenizer(found.path, config, f"teacher {source!r}", trust_remote_code)
    with loading_errors(f"teacher {source!r} cannot be used", "; give the config.json that belongs to the weights"):
        if isinstance(family, VisionFamily) and images is not None:
            fit_positions(model, images.size, family.special_tokens)
        model.to(device)  # type: ignore[arg-type]  # its wrapper is annotated so
        teacher = as_teacher(source, found.path, model, family, tokenizer, has_pooler, images)
        check_teacher(teacher)
    if found.doubt and images is None and not family.causal:
        logger.warning("%s", found.doubt)
    return replace(teacher, hub_id=found.hub_id, commit=found.commit)


def as_teacher(
    source: str,
    folder: Path | None,
    model: PreTrainedModel,
    family: Family,
    tokenizer: PreTrainedTokenizerBase,
    has_pooler: bool,
    images: ImageReader | None = None,
) -> Teacher:
    """A loaded model, a decoder with its head, as a teacher: frozen, its attention tapped."""
    use_tapped_attention(model, family.projections, family.dimensions(model.config).head_size)
    model.requires_grad_(False).eval()
    fingerprint = _fingerprint(model, images.fingerprint if images else "")
    own_head = model.get_parameter(LM_HEAD) if family.causal and not model.config.tie_word_embeddings else None
    body: Any = model.base_model if family.causal else model
    return Teacher(source, folder, body, family, tokenizer, has_pooler, fingerprint, own_head, images)


def check_teacher(teacher: Teacher) -> None:
    """Try a teacher on two inputs that differ, and a decoder on whether its states depend on later tokens.

    Raises:
        TeacherError: it cannot be run, gives no numbers or the same ones for both, or looks ahead.
    """
    if teacher.images is None and teacher.max_length < PROBE:
        raise TeacherError(f"teacher {teacher.source!r} takes {teacher.max_length} tokens; allowed: {PROBE} or more")
    batch = None if teacher.images is None else teacher.images.inputs.batch(teacher.images.probes())
    one, other = check_answers(teacher.model, f"teacher {teacher.source!r}", batch)
    if teacher.family.causal and not torch.allclose(one[:-1], other[:-1], rtol=1e-3, atol=1e-3):
        raise TeacherError(
            f"teacher {teacher.source!r} is a decoder without causal mask: its states depend on later tokens; allowed: "
            "decoders that see none, such as those that generate text; give another"
        )


def _load_model(
    folder: Path, config: PretrainedConfig, source: str, trust_remote_code: bool, causal: bool
) -> tuple[PreTrainedModel, bool]:
    """The model, with its head where it is a decoder, and whether its pooler came from the checkpoint."""
    model: Any
    kind = AutoModelForCausalLM if causal else AutoModel
    model, missing = load_weights(kind, folder, config, f"teacher {source!r}", trust_remote_code)
    pooler = any(name.startswith("pooler.") for name, _ in model.named_parameters())
    if pooler and missing:
        model.pooler = None
    return model, pooler and not missing


def _fingerprint(model: PreTrainedModel, processor: str = "") -> str:
    config = {key: value for key, value in model.config.to_diff_dict().items() if key not in _NOT_THE_FUNCTION}
    digest = hashlib.sha256(json.dumps(config, sort_keys=True, default=str).encode())
    digest.update(processor.encode())
    for name, value in sorted(model.state_dict().items()):
        digest.update(name.encode())
        digest.update(value.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()[:16]
