"""Hugging Face models: reading them with checks, and those that are evaluated, ours or not."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from types import MappingProxyType
from typing import Any

import torch
from safetensors import SafetensorError
from torch import Tensor
from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForCausalLM,
    AutoModelForImageClassification,
    AutoModelForQuestionAnswering,
    AutoModelForSequenceClassification,
    AutoModelForTokenClassification,
    AutoTokenizer,
    PretrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from autodistil.data.batch import Batch
from autodistil.errors import AutodistilError, ConfigError, TeacherError, one_line, one_line_named
from autodistil.models.architectures import plain_type  # our own are known without remote code
from autodistil.models.families import family_named, known_families
from autodistil.models.model_folder import find_model, weight_files
from autodistil.models.packaged import PACKAGED
from autodistil.models.weights_header import check_json, read_header, skeleton
from autodistil.utils import file_sum, quiet

logger = logging.getLogger(__name__)

CARD = "README.md"
CODE_ADVICE = (
    "it needs code that comes with it, which is run only if you ask for it: --trust-remote-code of commands that read "
    "a teacher (in Python trust_remote_code=True)"
)
"""What to do about a model that transformers would not load without its code."""
_WEIGHTS_ADVICE = "; give a complete model.safetensors (download it again, or convert a pickle with save_pretrained)"
RUNTIME_FILES = {".onnx": "onnx", ".xml": "openvino"}
"""By suffix, the format whose runtime computes a file in the place of the weights."""
PROBE = 8
"""Tokens of the texts on which a model is tried; those that take no more are of no use."""
_MANNER: Mapping[str, Any] = MappingProxyType(
    {
        "output_attentions": False,
        "output_hidden_states": False,
        "return_dict": True,
        "chunk_size_feed_forward": 0,
        "_attn_implementation": None,
    }
)
"""What a config may say of how a forward runs and what it returns, not of what it computes: said by who calls it."""


def load_config(
    source: str, trust_remote_code: bool = False, what: str = "teacher", commit: str | None = None
) -> PretrainedConfig:
    """The Hugging Face config of a teacher, without its weights.

    Args:
        source: packaged name, folder or Hugging Face id.
        trust_remote_code: allow code that comes with it.
        what: how to call it in messages.
        commit: of its repository on the Hub (`model_folder.find_model`).

    Raises:
        TeacherError: not found or unreadable.
    """
    folder = find_model(source, what, commit, weights=False, code=trust_remote_code).path
    advice = "; give a folder with config.json and model.safetensors, a Hugging Face id that is reachable or cached"
    with loading_errors(f"config.json of {what} {source!r} cannot be loaded", advice):
        check_json(folder)
        config = AutoConfig.from_pretrained(folder, trust_remote_code=trust_remote_code)
        config.update(_MANNER)
        if (getattr(config, "pad_token_id", None) or 0) < 0:  # how some decoders say that they have none
            config.pad_token_id = None
        return config


def load_weights(
    kind: Any,
    folder: Path,
    config: PretrainedConfig,
    what: str,
    trust_remote_code: bool = False,
    new_head: bool = False,
) -> tuple[PreTrainedModel, set[str]]:
    """A model in float32 from safetensors, and the names of parameters of its pooler or new head that are not there.

    Args:
        kind: an `Auto` class of transformers.
        folder: a Hugging Face folder.
        config: what `load_config` gave.
        what: how to call it in messages.
        trust_remote_code: whether code of the folder may run.
        new_head: what stands on the encoder may be missing, or be of other sizes.

    Raises:
        TeacherError: the config describes no model or does not fit the weights, or these are damaged, lack others, or
            are no safetensors of the folder.
    """
    weight_files(folder)
    if not trust_remote_code:
        check_skeleton(kind, config, folder, what, new_head)
    with loading_errors(f"weights of {what} cannot be read", _WEIGHTS_ADVICE):
        model, info = kind.from_pretrained(
            folder,
            config=config,
            output_loading_info=True,
            trust_remote_code=trust_remote_code,
            use_safetensors=True,
            ignore_mismatched_sizes=new_head,  # of the head: what the encoder's are was checked
            dtype=torch.float32,
        )
        for name, parameter in model.named_parameters():
            if not parameter.isfinite().all():
                raise ValueError(f"{name} holds numbers that are not finite")
    missing = set(info["missing_keys"])
    encoder = f"{model.base_model_prefix}." if new_head else ""
    names = sorted(name for name in missing if name.startswith(encoder) and "pooler." not in name)
    if names:
        raise TeacherError(
            f"weights of {what} lack {len(names)} parameters, first {names[0]!r}; give a complete checkpoint"
        )
    return model, missing


def load_tokenizer(
    folder: Path, config: PretrainedConfig, what: str, trust_remote_code: bool = False
) -> PreTrainedTokenizerBase:
    """The tokenizer of a model.

    Raises:
        TeacherError: there is none, it is damaged, or it is not that of the model.
    """
    advice = "; give the tokenizer.json and tokenizer_config.json that belong to the weights"
    with loading_errors(f"{what} has no usable tokenizer", advice):
        tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(folder, trust_remote_code=trust_remote_code)
        _check_tokenizer(tokenizer, getattr(config, "vocab_size", None))
        return tokenizer


def _check_tokenizer(tokenizer: PreTrainedTokenizerBase, rows: int | None) -> None:
    """Check that a tokenizer reads text, into ids that the word embeddings have rows for."""
    length = tokenizer.model_max_length
    if not isinstance(length, int | float) or not length >= PROBE:
        raise ValueError(f"model_max_length = {length!r}; allowed: a number, {PROBE} or more")
    ids = tokenizer("the", truncation=True, max_length=PROBE)["input_ids"]
    vocabulary = tokenizer.get_vocab()
    if rows is None:
        return
    for token, number in (*vocabulary.items(), *((tokenizer.decode(i), i) for i in ids)):
        if number >= rows:
            raise ValueError(
                f"its token {token!r} is number {number}; allowed: below {rows}, the vocab_size of the model"
            )
    if 2 * len(vocabulary) < rows:
        raise ValueError(f"it knows {len(vocabulary):,} tokens; the model has {rows:,}")


@torch.no_grad()
def check_answers(model: PreTrainedModel, what: str, batch: Batch | None = None) -> Tensor:
    """Run a model once and check that it gives numbers, which depend on what it reads.

    Args:
        model: without a head.
        what: how to call it in messages.
        batch: two inputs that differ; two padded texts that differ in their last token unless given.

    Returns:
        The last hidden states of both, (2, seq, hidden), without padding.

    Raises:
        TeacherError: it cannot be run, or gives something else.
    """
    advice = "; give a config.json and weights that belong together"
    with loading_errors(f"{what} cannot be run", advice):
        if batch is None:
            ids = torch.arange(PROBE).repeat(2, 1) * 7 % model.config.vocab_size
            ids[1, -2] = (ids[0, -2] + 1) % model.config.vocab_size
            mask = torch.ones_like(ids).index_fill(1, ids.new_tensor([PROBE - 1]), 0)
            batch = {"input_ids": ids, "attention_mask": mask}
        states: Tensor = model(**{name: value.to(model.device) for name, value in batch.items()}).last_hidden_state
        states = states[:, : PROBE - 1] if "attention_mask" in batch else states
        if not states.isfinite().all():
            raise ValueError("its hidden states are not finite; a weight or a number of config.json is damaged")
        if torch.equal(states[0], states[1]):
            raise ValueError("it answers the same whatever it reads; a number of config.json is damaged")
        return states


def check_skeleton(
    kind: Any, config: PretrainedConfig, folder: Path, what: str, new_head: bool = False
) -> PreTrainedModel:
    """The model of a config without weights, on the meta device, which fits the weights of its folder.

    Raises:
        TeacherError: the config describes no model, or another one than the weights are of.
    """
    with loading_errors(f"weights of {what} cannot be read", _WEIGHTS_ADVICE):
        header = read_header(folder)
    with loading_errors(f"config.json of {what} does not fit", "; give a config.json and weights that belong together"):
        return skeleton(kind, config, header, new_head)


def is_classifier(config: PretrainedConfig) -> bool:
    """Whether a model was fine-tuned to classify, or score, texts, to classify words or images, or to find answers."""
    return any(_is_for(config, f"{what}Classification") for what in ("Sequence", "Token", "Image")) or finds_spans(
        config
    )


def tags_words(config: PretrainedConfig) -> bool:
    """Whether a model was fine-tuned to classify words (token classification)."""
    return _is_for(config, "TokenClassification")


def finds_spans(config: PretrainedConfig) -> bool:
    """Whether a model was fine-tuned to find answers in texts (extractive question answering)."""
    return _is_for(config, "QuestionAnswering")


def _is_for(config: PretrainedConfig, task: str) -> bool:
    names = getattr(config, "architectures", None) or ()
    return any(str(name).endswith(f"For{task}") for name in names)


def head_class(words: bool, images: bool = False) -> Any:
    """The `Auto` class of a model that classifies, or scores, texts, or that classifies words, or images."""
    if images:
        return AutoModelForImageClassification
    return AutoModelForTokenClassification if words else AutoModelForSequenceClassification


@contextmanager
def loading_errors(what: str, advice: str = "") -> Iterator[None]:
    """Guard whatever reads or first runs a model that may be damaged: one line of what failed, why, and what to do.

    Libraries raise anything at all about files that they did not expect; what we raise ourselves says enough.
    """
    try:
        yield
    except AutodistilError:
        raise
    except Exception as error:
        if "trust_remote_code" in str(error):
            raise TeacherError(f"{what}: {CODE_ADVICE}") from error
        say = one_line if isinstance(error, (OSError, ValueError, SafetensorError)) else one_line_named
        raise TeacherError(f"{what}: {say(error, 200)}{advice}") from error


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
            file: of `RUNTIME_FILES`, within the folder, to evaluate in the place of the weights.

        Raises:
            TeacherError: it is not there, or its configuration is damaged or does not fit its weights.
        """
        found = find_model(source, "model")
        if file is not None and not (Path(file).suffix in RUNTIME_FILES and (found.path / file).is_file()):
            raise TeacherError(
                f"model {source!r} has no ONNX or OpenVINO file {file!r}; "
                "write one with: autodistil export --format onnx-int8"
            )
        if found.doubt:
            logger.warning("%s", found.doubt)
        own = source not in PACKAGED and found.hub_id is None
        model = cls(source, found.path, users_own=own, file=file)
        model.skeleton()
        return model

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
            digest.update(bytes.fromhex(file_sum(path)))
        return digest.hexdigest()[:16]

    def tokenizer(self) -> PreTrainedTokenizerBase:
        """The tokenizer of the model.

        Raises:
            TeacherError: there is none that can be used, or the model reads images.
        """
        config = self.config
        if self.reads_images:
            raise TeacherError(f"{self._name} is a {config.model_type}, which reads images; give one that reads text")
        return load_tokenizer(self.folder, config, self._name)

    @property
    def reads_images(self) -> bool:
        """Whether its family is one of vision encoders."""
        family = family_named(plain_type(self.config))
        return family is not None and family.modality == "image"

    def encoder(self, device: torch.device, layers: int | None = None) -> PreTrainedModel:
        """The bare encoder of a model that reads text, in eval mode; its first `layers`, all unless given.

        Raises:
            ConfigError: it has fewer layers.
            TeacherError: its weights are missing, damaged or not safetensors.
        """
        model: PreTrainedModel = self.untried_encoder(layers).to(device)  # type: ignore[arg-type]
        check_answers(model, self._name)
        return model

    def untried_encoder(self, layers: int | None = None) -> PreTrainedModel:
        """The same of any model, which was not run yet (`check_answers`).

        Raises:
            ConfigError, TeacherError: as `encoder`.
        """
        config = self.config
        if layers is not None:
            if not 1 <= layers <= config.num_hidden_layers:
                raise ConfigError(
                    f"exit_layer = {layers} of {self._name} is not there; allowed: 1 to {config.num_hidden_layers}"
                )
            config.num_hidden_layers = layers
        model: PreTrainedModel = self._load(AutoModel, config).eval()
        return model

    def decoder(self, device: torch.device) -> PreTrainedModel:
        """The model with its language-model head, in eval mode.

        Raises:
            TeacherError: it is no decoder, or its weights are missing, damaged or not safetensors.
        """
        config = self.config
        if not self._decodes:
            raise TeacherError(f"{self._name} is a {config.model_type}; allowed: decoders, {', '.join(_decoders())}")
        model: PreTrainedModel = self._load(AutoModelForCausalLM, config).eval().to(device)
        return model

    def skeleton(self) -> PreTrainedModel:
        """The bare encoder without weights, on the meta device: what an ONNX file computes in its place.

        Raises:
            TeacherError: its configuration cannot be used.
        """
        return check_skeleton(AutoModel, self.config, self.folder, self._name)

    def classifier(self, outputs: int, device: torch.device, words: bool = False) -> PreTrainedModel:
        """The encoder under a new head of `outputs` numbers a row, or a token, drawn from torch's global generator.

        Raises:
            TeacherError: as `encoder`, or the family has no classification head.
        """
        model = self.untried_classifier(outputs, words).to(device)  # type: ignore[arg-type]
        check_answers(model.base_model, self._name)
        return model

    def untried_classifier(self, outputs: int, words: bool = False) -> PreTrainedModel:
        """The same of any model, which was not run yet (`check_answers`).

        Raises:
            TeacherError: as `classifier`.
        """
        config = self.config
        config.num_labels = outputs
        model: PreTrainedModel = self._load(head_class(words, self.reads_images), config, new_head=True)
        return model

    def span_finder(self, device: torch.device) -> PreTrainedModel:
        """The encoder under a new head of two numbers a token, for start and end of an answer (`classifier`).

        Raises:
            TeacherError: as `encoder`, or the family has no such head in transformers.
        """
        self.check_finds_spans()
        config = self.config
        config.num_labels = 2
        model = self._load(AutoModelForQuestionAnswering, config, new_head=True).to(device)
        check_answers(model.base_model, self._name)
        return model

    def check_finds_spans(self) -> None:
        """Make sure that its family has a head that finds answers.

        Raises:
            TeacherError: it has none in transformers, or its tokens see those before them alone.
        """
        config = self.config
        if self._decodes:
            raise TeacherError(
                f"{self._name} is a {config.model_type}, a decoder, whose tokens do not see the text behind them; "
                "answers in texts are for encoders, give one"
            )
        if type(config) not in AutoModelForQuestionAnswering._model_mapping:
            raise TeacherError(
                f"{self._name} is a {config.model_type}, which has no head for answers in transformers "
                "(AutoModelForQuestionAnswering); give one of another family, such as bert, roberta or modernbert"
            )

    @property
    def has_head(self) -> bool:
        """Whether it was fine-tuned to classify, or score, texts, to classify words or images, or to find answers."""
        return is_classifier(self.config)

    @property
    def has_pooler(self) -> bool:
        """Whether its weights hold a pooler; AutoModel makes up a random one where they do not."""
        return any("pooler." in name for name in read_header(self.folder))

    @property
    def tags_words(self) -> bool:
        """Whether it was fine-tuned to classify words."""
        return tags_words(self.config)

    @property
    def finds_spans(self) -> bool:
        """Whether it was fine-tuned to find answers in texts."""
        return finds_spans(self.config)

    def fine_tuned(self, device: torch.device) -> PreTrainedModel:
        """The model with the head that it was fine-tuned with, in eval mode.

        Raises:
            TeacherError: it has none, or its weights are missing, damaged or not safetensors.
        """
        if not self.has_head:
            raise TeacherError(f"{self._name} has no classification head; give one that was fine-tuned")
        kind = AutoModelForQuestionAnswering if self.finds_spans else head_class(self.tags_words, self.reads_images)
        model: PreTrainedModel = self._load(kind, self.config).eval().to(device)
        return model

    @property
    def config(self) -> PretrainedConfig:
        """Its configuration, read anew.

        Raises:
            TeacherError: it cannot be used.
        """
        return load_config(str(self.folder), what="model")

    @property
    def _decodes(self) -> bool:
        """Whether it is a decoder."""
        return plain_type(self.config) in _decoders()

    @property
    def _name(self) -> str:
        return f"model {self.source!r}"

    def _load(self, kind: Any, config: PretrainedConfig, new_head: bool = False) -> Any:
        with quiet("transformers"):  # it tells of new heads and poolers, which are meant
            return load_weights(kind, self.folder, config, self._name, new_head=new_head)[0]


def _decoders() -> list[str]:
    """Values of `model_type` of decoders."""
    return [name for family in known_families() if family.causal for name in family.model_types]


def usable_length(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, wanted: int) -> int:
    """Tokens a text may have: `wanted`, or what tokenizer and positions allow where that is less.

    Raises:
        TeacherError: that is next to nothing.
    """
    positions = getattr(model.config, "max_position_embeddings", None) or wanted
    for name, module in model.named_modules():
        if name.endswith("position_embeddings") and getattr(module, "padding_idx", None) is not None:
            positions -= module.padding_idx + 1  # RoBERTa counts positions from there
    if positions < PROBE:
        raise TeacherError(
            f"the model reads texts of {positions} tokens; allowed: {PROBE} or more; correct max_position_embeddings "
            "in its config.json"
        )
    return min(wanted, positions, tokenizer.model_max_length)
