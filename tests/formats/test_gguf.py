"""A GGUF file holds the decoder: its weights, sizes and tokenizer, under llama.cpp's names."""

import json
import sys

import numpy as np
import pytest
import torch
from autodistil_helpers import DECODER_CONFIGS
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Regex, Tokenizer, models, pre_tokenizers
from tokenizers_helpers import byte_level_bpe
from transformers import AutoModelForCausalLM, LlamaConfig
from variants import slow_but

from autodistil.errors import ExportError, IntegrityError, ProfileError
from autodistil.formats import gguf as ours
from autodistil.formats.gguf import GGUF, check_gguf, write_gguf
from autodistil.formats.parity import agreement, parity_cases
from autodistil.formats.writing import write_formats

CONFIGS = {
    **DECODER_CONFIGS,
    "llama-free": lambda: LlamaConfig(
        hidden_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=32,
        intermediate_size=96,
        max_position_embeddings=64,
        tie_word_embeddings=True,
        rope_parameters={"rope_type": "default", "rope_theta": 20_000.0},
    ),
}


def decoder(kind="llama-free", **changes):
    """A decoder with random weights and more rows than its tokenizer has tokens."""
    torch.manual_seed(0)
    config = CONFIGS[kind]()
    for field, value in {"vocab_size": 904, **changes}.items():
        setattr(config, field, value)
    model = AutoModelForCausalLM.from_config(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.02 * torch.randn_like(parameter))
    return model


def written(model, folder, name="gguf-f32"):
    return write_gguf(name, model, byte_level_bpe(), parity_cases(model), folder)


@pytest.mark.parametrize("kind", slow_but(["llama-free"], CONFIGS))
def test_a_file_of_floats_is_the_decoder(kind, tmp_path):
    gguf = pytest.importorskip("gguf")
    model = decoder(kind)
    assert agreement(written(model, tmp_path), parity_cases(model)).max_difference == 0
    fields = gguf.GGUFReader(tmp_path / GGUF["gguf-f32"].file).fields
    said = {name.partition(".")[2]: field.contents() for name, field in fields.items()}
    config = model.config
    size = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    assert said["architecture"] == config.model_type
    assert {said[f"attention.{what}_length"] for what in ("key", "value")} == {said["rope.dimension_count"]} == {size}
    assert said["rope.freq_base"] == pytest.approx(config.rope_parameters["rope_theta"])
    tokenizer = byte_level_bpe()
    assert said["ggml.tokens"][: len(tokenizer)] == tokenizer.convert_ids_to_tokens(range(len(tokenizer)))
    assert len(said["ggml.tokens"]) == len(said["ggml.token_type"]) == config.vocab_size
    assert said["ggml.token_type"][0] == gguf.TokenType.CONTROL
    assert said["ggml.token_type"][-1] == gguf.TokenType.UNUSED
    assert (said["ggml.pre"], said["ggml.add_bos_token"], said["ggml.bos_token_id"]) == ("gpt-2", True, 0)
    assert len(said["ggml.merges"]) > 500


@pytest.mark.parametrize("name", slow_but(["gguf-q4"], [name for name in GGUF if name != "gguf-f32"]))
def test_rounded_files_hold_what_rounding_leaves(name, tmp_path):
    """Types that llama.cpp knows: the file's of matrices, 8 bits of embeddings in files of fewer, floats of norms."""
    gguf = pytest.importorskip("gguf")
    model = decoder("llama", hidden_size=64, intermediate_size=100)
    (made,) = write_formats(model, byte_level_bpe(), [name], tmp_path)
    assert f"`{GGUF[name].file}`" in made.line
    assert "cosine of next tokens' probabilities with PyTorch" in made.line
    assert made.agreement.mean_cosine > 0.99
    types = {one.name: one.tensor_type.name for one in gguf.GGUFReader(tmp_path / made.file).tensors}
    assert types["blk.0.attn_q.weight"] == GGUF[name].type
    assert types["blk.0.attn_norm.weight"] == "F32"
    assert types["token_embd.weight"] == ("F16" if name == "gguf" else "Q8_0")
    assert types["blk.0.ffn_down.weight"] == "F16"  # its rows have 100 weights


@given(st.integers(1, 4), st.integers(1, 4), st.integers(1, 3))
def test_rows_of_a_head_are_dealt_in_pairs(heads, half, width):
    rows = np.arange(heads * 2 * half * width, dtype=np.float32).reshape(-1, width)
    found = ours._in_pairs(rows, heads)
    for head in range(heads):
        one, other = np.split(rows[head * 2 * half : (head + 1) * 2 * half], 2)
        np.testing.assert_array_equal(found[head * 2 * half : (head + 1) * 2 * half : 2], one)
        np.testing.assert_array_equal(found[head * 2 * half + 1 : (head + 1) * 2 * half : 2], other)


def wrong_pairs(values, heads):
    return values


def wrong_sizes(writer, config):
    config = type(config).from_dict({**config.to_dict(), "rope_parameters": {"rope_theta": 10.0}})
    _ADD_SIZES(writer, config)


_ADD_SIZES = ours._add_sizes


@pytest.mark.parametrize(
    ("what", "wrong", "line"),
    slow_but(
        [("_in_pairs", wrong_pairs, r"q_proj.weight differs by .* please report this")],
        [
            ("_in_pairs", wrong_pairs, r"q_proj.weight differs by .* please report this"),
            ("_add_sizes", wrong_sizes, r"differs from PyTorch by .*please report this"),
        ],
    ),
)
def test_a_file_of_another_decoder_is_refused(what, wrong, line, tmp_path, monkeypatch):
    pytest.importorskip("gguf")
    monkeypatch.setattr(ours, what, wrong)
    with pytest.raises(IntegrityError, match=line):
        written(decoder(), tmp_path)
    assert list((tmp_path / "gguf").iterdir()) == []


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({"hidden_act": "gelu"}, "hidden_act of the student is 'gelu'; allowed: silu"),
        ({"model_type": "mistral"}, "model_type of the student is 'mistral'; allowed: llama, qwen2, qwen3"),
        (
            {"rope_parameters": {"rope_type": "linear", "rope_theta": 1e4, "factor": 2.0}},
            "rope_type of the student is 'linear'; allowed: default",
        ),
    ],
)
def test_what_llama_cpp_would_compute_otherwise_is_refused(changes, line, tmp_path):
    pytest.importorskip("gguf")
    model = decoder()
    for field, value in changes.items():
        setattr(model.config, field, value)
    with pytest.raises(ExportError, match=f"format gguf: {line}; use --format hf"):
        write_gguf("gguf", model, byte_level_bpe(), [], tmp_path)


def test_the_way_a_tokenizer_cuts_words_has_a_name_or_is_refused():
    of, by_bytes = pre_tokenizers, {"add_prefix_space": False, "use_regex": False}
    digits = of.Digits(individual_digits=True)
    cuts = {
        "gpt-2": of.ByteLevel(add_prefix_space=False),
        "smollm": of.Sequence([digits, of.ByteLevel(add_prefix_space=False)]),
        "qwen2": of.Sequence([of.Split(Regex(ours._SPLIT % ""), "isolated"), of.ByteLevel(**by_bytes)]),
    }
    plain = {"model": {"type": "BPE"}, "normalizer": None}
    for name, cut in cuts.items():
        said = {**plain, "pre_tokenizer": _state(cut)}
        assert ours._pre_tokenizer(said) == name
        for other in ({"normalizer": {"type": "NFKC"}}, {"model": {"type": "BPE", "ignore_merges": True}}):
            with pytest.raises(
                ExportError, match="allowed: byte-level BPE with those of gpt-2, smollm, llama-bpe, qwen2"
            ):
                ours._pre_tokenizer({**said, **other})
    for cut in (of.ByteLevel(add_prefix_space=True), of.Sequence([digits]), of.Whitespace()):
        with pytest.raises(ExportError, match="a tokenizer of kind BPE with this pre-tokenizer"):
            ours._pre_tokenizer({**plain, "pre_tokenizer": _state(cut)})


def _state(cut):
    """What a tokenizer's file says of a pre-tokenizer."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = cut
    return json.loads(tokenizer.to_str())["pre_tokenizer"]


def test_a_missing_library_is_one_line(monkeypatch):
    monkeypatch.setitem(sys.modules, "gguf", None)
    with pytest.raises(
        ProfileError, match=r"needs gguf, which is not installed; run: pip install 'autodistil\[gguf\]'"
    ):
        check_gguf()
