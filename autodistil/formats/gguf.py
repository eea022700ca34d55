"""A decoder as a GGUF file, what llama.cpp and the tools around it load: weights, sizes and tokenizer in one file.

Tensors have llama.cpp's names. Its `llama` turns neighbouring pairs of dimensions, Hugging Face's halves of a head, so
rows of queries and keys are put in pairs there; `qwen2` and `qwen3` turn halves too. Matrices are rounded to the
file's type in blocks of 32 weights, norms and biases stay float32: Q8_0 is a float16 scale and 32 integers of 8 bits,
Q4_0 one and 32 of 4 bits, Q5_1 a scale, a lowest value and 32 of 5 bits. Embeddings and head have 8 bits in files of
fewer, and a matrix whose rows are no whole number of blocks is float16.

Tokenizers are byte-level BPE, whose pre-tokenizer llama.cpp knows by name alone.
"""

from __future__ import annotations

import io
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import redirect_stderr
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from autodistil.errors import ExportError, IntegrityError, ProfileError
from autodistil.formats.inputs import Inputs
from autodistil.formats.parity import Case, Compute, agreement, check_agreement
from autodistil.utils import atomic_path, optional_import, quiet

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

INSTALL = "pip install 'autodistil[gguf]'"
ARCHITECTURES = ("llama", "qwen2", "qwen3")
"""Model types, which llama.cpp calls the same."""


@dataclass(frozen=True)
class Weights:
    """How the matrices of a file are stored."""

    type: str
    """GGML's name of it."""
    file_type: str
    """That of files in which most matrices have it."""
    max_error: float
    """Largest root mean square of what rounding changes in a matrix, as a share of that of its weights: above it, the
    matrix is another."""

    @property
    def file(self) -> str:
        """Within a student's folder."""
        return f"gguf/model-{self.type.lower()}.gguf"


GGUF: Mapping[str, Weights] = MappingProxyType(
    {
        "gguf": Weights("F16", "MOSTLY_F16", 1e-3),
        "gguf-f32": Weights("F32", "ALL_F32", 0.0),
        "gguf-q8": Weights("Q8_0", "MOSTLY_Q8_0", 0.03),
        "gguf-q5": Weights("Q5_1", "MOSTLY_Q5_1", 0.15),
        "gguf-q4": Weights("Q4_0", "MOSTLY_Q4_0", 0.3),
    }
)
"""Formats of decoders for llama.cpp."""

_IN_8_BITS = ("token_embd.weight", "output.weight")
"""What has 8 bits in files of fewer."""
_LEFT_OUT = ("head_dim", "attention_bias", "mlp_bias")
"""Fields that transformers does not read from every GGUF file, though it is clear what they are."""

_SPLIT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}%s| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
_PRE_TOKENIZERS = {
    "gpt-2": (("ByteLevel", True),),
    "smollm": (("Digits", True), ("ByteLevel", True)),
    "llama-bpe": (("Split", _SPLIT % "{1,3}"), ("ByteLevel", False)),
    "qwen2": (("Split", _SPLIT % ""), ("ByteLevel", False)),
}
"""llama.cpp's name of a pre-tokenizer -> its steps as `_steps` reads them."""


def check_gguf() -> Any:
    """The library that writes GGUF files; transformers reads them by it and accelerate.

    Raises:
        ProfileError: one of them is not installed.
    """
    optional_import("accelerate", "this format", INSTALL, ProfileError)
    return optional_import("gguf", "this format", INSTALL, ProfileError)


def write_gguf(
    name: str, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, cases: Sequence[Case], folder: Path
) -> Compute:
    """Write a decoder into its folder, whole and checked or not at all.

    transformers reads the file again: every weight must be what was rounded, and with the student's own weights in
    its place the logits must be the student's, which they are only if the sizes and constants in the file are right.

    Args:
        name: a key of `GGUF`.
        model: a decoder with its head, on the CPU, in eval mode.
        tokenizer: its tokenizer.
        cases: inputs with the decoder's logits.
        folder: the student's.

    Returns:
        What gives the logits of the file.

    Raises:
        ExportError: llama.cpp has no such architecture or tokenizer.
        ProfileError: gguf or accelerate is not installed.
        IntegrityError: the file holds something else.
        RunError: the disk refuses.
    """
    check_gguf()
    weights = GGUF[name]
    _check_architecture(model)
    of_tokenizer = _tokenizer_fields(tokenizer, model.config.vocab_size)
    path = folder / weights.file
    path.parent.mkdir(exist_ok=True)
    with atomic_path(path) as temporary:
        _write(model, of_tokenizer, weights, temporary)
        reloaded = _reload(model, temporary)
        _check_weights(model, reloaded, weights)
        rounded = deepcopy(reloaded.state_dict())
        reloaded.load_state_dict(model.state_dict())
        check_agreement(agreement(logits_of(reloaded), cases), weights.file)
        reloaded.load_state_dict(rounded)
    return logits_of(reloaded)


def _check_architecture(model: PreTrainedModel) -> None:
    """Refuse what llama.cpp's architectures of these names do not compute."""
    config = model.config
    rope = config.rope_parameters or {}
    wrong = {
        "model_type": (config.model_type, ARCHITECTURES),
        "rope_type": (rope.get("rope_type", "default"), ("default",)),
        "hidden_act": (getattr(config, "hidden_act", None), ("silu",)),
        "layer_types": (*{*(getattr(config, "layer_types", None) or ["full_attention"])}, ("full_attention",)),
    }
    for field, (*got, allowed) in wrong.items():
        if any(one not in allowed for one in got):
            raise ExportError(
                f"format gguf: {field} of the student is {got[0]!r}; allowed: {', '.join(allowed)}; use --format hf"
            )


def _write(model: PreTrainedModel, of_tokenizer: Mapping[str, Any], weights: Weights, path: Path) -> None:
    gguf = check_gguf()
    writer = gguf.GGUFWriter(path, model.config.model_type)
    _add_sizes(writer, model.config)
    writer.add_file_type(gguf.LlamaFileType[weights.file_type])
    writer.add_quantization_version(gguf.GGML_QUANT_VERSION)
    for add, value in of_tokenizer.items():
        getattr(writer, f"add_{add}")(value)
    for name, values in _tensors(model):
        kind = _type_of(name, values, weights.type)
        kind_of = gguf.GGMLQuantizationType[kind]
        writer.add_tensor(name, gguf.quants.quantize(values, kind_of), raw_dtype=kind_of)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _add_sizes(writer: Any, config: Any) -> None:
    heads = config.num_attention_heads
    head_size = getattr(config, "head_dim", None) or config.hidden_size // heads
    writer.add_vocab_size(config.vocab_size)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_key_length(head_size)
    writer.add_value_length(head_size)
    writer.add_rope_dimension_count(head_size)
    writer.add_rope_freq_base(config.rope_parameters["rope_theta"])
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)


def _tensors(model: PreTrainedModel) -> Iterator[tuple[str, NDArray[np.float32]]]:
    """Names and values of the parameters, float32, as llama.cpp has them."""
    gguf, config = check_gguf(), model.config
    architecture = {name: kind for kind, name in gguf.MODEL_ARCH_NAMES.items()}[config.model_type]
    names = gguf.get_tensor_name_map(architecture, config.num_hidden_layers)
    heads = {"q_proj": config.num_attention_heads, "k_proj": config.num_key_value_heads}
    for name, parameter in model.named_parameters():  # a tied head is none
        values = parameter.detach().float().numpy()
        projection = name.split(".")[-2]
        if config.model_type == "llama" and projection in heads:
            values = _in_pairs(values, heads[projection])
        yield names.get_name(name, (".weight", ".bias")), values


def _in_pairs(values: NDArray[np.float32], heads: int) -> NDArray[np.float32]:
    """Rows (heads x 2 x half, ...) with the halves of each head dealt in turns, (heads x half x 2, ...)."""
    found: NDArray[np.float32] = values.reshape(heads, 2, -1, *values.shape[1:]).swapaxes(1, 2).reshape(values.shape)
    return found


def _type_of(name: str, values: NDArray[np.float32], wanted: str) -> str:
    """The type of a tensor in a file whose matrices are `wanted`."""
    if values.ndim == 1:
        return "F32"
    if not wanted.startswith("Q"):
        return wanted
    if values.shape[-1] % 32:
        return "F16"
    return "Q8_0" if name in _IN_8_BITS else wanted


def _reload(model: PreTrainedModel, path: Path) -> PreTrainedModel:
    """The decoder that transformers reads from a file."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    kinds: Any = (AutoConfig, AutoModelForCausalLM)  # their class methods are not annotated
    with quiet("transformers.modeling_gguf_pytorch_utils"), redirect_stderr(io.StringIO()):  # bars of its own
        config = kinds[0].from_pretrained(path.parent, gguf_file=path.name)
        for field in _LEFT_OUT:
            if hasattr(model.config, field):
                setattr(config, field, deepcopy(getattr(model.config, field)))
        read: PreTrainedModel = kinds[1].from_pretrained(
            path.parent, gguf_file=path.name, config=config, dtype=torch.float32
        )
    return read.eval()


def _check_weights(model: PreTrainedModel, reloaded: PreTrainedModel, weights: Weights) -> None:
    """Compare what the parameters of a file stand for with what was written."""
    theirs = reloaded.state_dict()
    for name, parameter in model.named_parameters():
        values = parameter.detach()
        if name not in theirs or theirs[name].shape != values.shape:
            raise IntegrityError(f"{weights.file} lacks {name} of {tuple(values.shape)}; please report this")
        allowed = (weights.max_error if values.dim() > 1 else 0.0) * float(values.norm())
        error = float((theirs[name] - values).norm())
        if not error <= allowed:
            raise IntegrityError(
                f"{weights.file}: {name} differs by {error:.1e} (allowed {allowed:.1e}); please report this"
            )


def logits_of(model: PreTrainedModel) -> Compute:
    """What gives a decoder's logits (batch, seq, vocabulary)."""
    import torch

    def run(inputs: Inputs) -> NDArray[np.float32]:
        with torch.no_grad():
            answer: Any = model(**{name: torch.from_numpy(array) for name, array in inputs.items()})
        found: NDArray[np.float32] = answer.logits.numpy()
        return found

    return run


# ---- the tokenizer


def _tokenizer_fields(tokenizer: PreTrainedTokenizerBase, vocab_size: int) -> dict[str, Any]:
    """What a file says of a tokenizer, by the names of GGUFWriter's methods.

    Raises:
        ExportError: llama.cpp would cut text otherwise.
    """
    kinds = check_gguf().TokenType
    said: Any = json.loads(tokenizer.backend_tokenizer.to_str())
    by_id = {index: token for token, index in tokenizer.get_vocab().items()}
    types = dict.fromkeys(by_id, kinds.NORMAL) | {
        one["id"]: kinds.CONTROL if one["special"] else kinds.USER_DEFINED for one in said["added_tokens"]
    }
    begins, ends = _ends(tokenizer)
    special = {f"{kind}_token_id": getattr(tokenizer, f"{kind}_token_id") for kind in ("bos", "eos", "unk", "pad")}
    return {
        "tokenizer_model": "gpt2",
        "tokenizer_pre": _pre_tokenizer(said),
        "token_list": [by_id.get(index, f"[PAD{index}]") for index in range(vocab_size)],
        "token_types": [types.get(index, kinds.UNUSED) for index in range(vocab_size)],
        "token_merges": [" ".join(pair) for pair in said["model"]["merges"]],
        **{name: index for name, index in special.items() if index is not None},
        "add_bos_token": begins,
        "add_eos_token": ends,
        **({"chat_template": tokenizer.chat_template} if tokenizer.chat_template else {}),
    }


def _pre_tokenizer(said: Mapping[str, Any]) -> str:
    """llama.cpp's name of the way in which a tokenizer cuts text into words."""
    model, steps = said["model"], _steps(said["pre_tokenizer"])
    known = [name for name, theirs in _PRE_TOKENIZERS.items() if theirs == steps]
    plain = model["type"] == "BPE" and not any(
        model.get(name) for name in ("byte_fallback", "continuing_subword_prefix", "end_of_word_suffix")
    )
    whole_words = known == ["llama-bpe"]
    normalizer = (said["normalizer"] or {"type": None})["type"]
    if not known or not plain or bool(model.get("ignore_merges")) != whole_words or normalizer not in (None, "NFC"):
        raise ExportError(
            f"format gguf: a tokenizer of kind {model['type']} with this pre-tokenizer and normalizer; allowed: "
            f"byte-level BPE with those of {', '.join(_PRE_TOKENIZERS)}; use --format hf"
        )
    return known[0]


def _steps(said: Mapping[str, Any] | None) -> tuple[tuple[str, Any], ...]:
    """The steps of a pre-tokenizer, each with what llama.cpp's differ in."""
    told = {
        "ByteLevel": lambda one: one["use_regex"] and not one["add_prefix_space"],
        "Digits": lambda one: one["individual_digits"],
        "Split": lambda one: one["pattern"].get("Regex") if one["behavior"] == "Isolated" else None,
    }
    steps = said["pretokenizers"] if said and said["type"] == "Sequence" else [said] if said else []
    return tuple((one["type"], told.get(one["type"], lambda _: None)(one)) for one in steps)


def _ends(tokenizer: PreTrainedTokenizerBase) -> tuple[bool, bool]:
    """Whether a text begins with the token of beginnings, and ends with that of ends."""
    ids = tokenizer("a")["input_ids"]
    return ids[0] == tokenizer.bos_token_id, ids[-1] == tokenizer.eos_token_id
