"""A decoder's cache in a file: reading through it gives what reading whole texts gives, in the layout of Optimum."""

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from autodistil_helpers import DECODER_CONFIGS, random_teacher, small_space, uneven_students
from hypothesis import given
from hypothesis import strategies as st
from tokenizers_helpers import byte_level_bpe
from transformers import AutoModelForCausalLM

from autodistil.errors import IntegrityError
from autodistil.formats import FORMATS
from autodistil.formats.format import Runtime
from autodistil.formats.kv_cache import PAST, cached_decoder, token_by_token, whole
from autodistil.formats.parity import agreement, answered, parity_cases, written_case
from autodistil.formats.writing import write_formats
from autodistil.models.superlm import SuperLM

WINDOWS = {"mistral": ("llama", 4, None), "ministral": ("llama", 4, 2), "qwen2-window": ("qwen2", 6, 2)}
"""Kind -> teacher, window, and every how many layers one is global."""
KINDS = (*DECODER_CONFIGS, *WINDOWS, "uneven", "uneven-without-attention")


def decoder(kind):
    """A decoder with random weights: a plain one, a student with windows, or one whose layers have their own sizes."""
    if kind in DECODER_CONFIGS:
        torch.manual_seed(0)
        return AutoModelForCausalLM.from_config(DECODER_CONFIGS[kind]()).eval()
    teacher = random_teacher(WINDOWS[kind][0] if kind in WINDOWS else "llama")
    superlm = SuperLM.from_teacher(teacher, small_space(teacher))
    if kind in WINDOWS:
        _, window, every = WINDOWS[kind]
        return superlm.extract(replace(superlm.sub_space.largest, window=window, global_every=every)).eval()
    return superlm.extract(uneven_students(teacher)["attention" in kind]).eval()


def eager(model):
    """What runs a decoder with a cache in PyTorch, arrays in and out, with the heads of its past."""
    traced = cached_decoder(model)

    @torch.no_grad()
    def run(inputs):
        return [
            values.numpy() for values in traced.module(*(torch.from_numpy(inputs[name]) for name in traced.example))
        ]

    return run, {name: one.shape[1::2] for name, one in traced.example.items() if name.startswith(PAST)}


@pytest.mark.parametrize("kind", KINDS)
def test_reading_through_the_cache_is_reading_whole_texts(kind):
    """With a past of no tokens too, and in a batch with padding."""
    model = decoder(kind)
    run, heads = eager(model)
    cases = [*parity_cases(model), written_case(model)]
    assert agreement(lambda inputs: token_by_token(run, inputs, heads), cases).max_difference < 1e-5
    written = cases[-1].inputs["input_ids"]
    assert written.shape == (1, 16)
    np.testing.assert_array_equal(cases[-1].expected.argmax(-1)[:, :-1], written[:, 1:])


MODEL = decoder("llama")
RUN, HEADS = eager(MODEL)


@given(st.integers(1, 3), st.integers(1, 9), st.integers(1, 9))
def test_a_past_and_what_goes_on_may_have_any_length(batch, before, after):
    length = before + after
    ids = np.random.default_rng(length).integers(3, 97, (batch, length))
    inputs = {
        "input_ids": ids,
        "attention_mask": np.ones_like(ids),
        "position_ids": np.tile(np.arange(length), (batch, 1)),
    }
    past = {name: np.zeros((batch, heads, 0, size), np.float32) for name, (heads, size) in HEADS.items()}
    for begin, end in ((0, before), (before, length)):
        some = {name: values[:, begin:end] for name, values in inputs.items()}
        logits, *present = RUN({**some, "attention_mask": inputs["attention_mask"][:, :end], **past})
        past = dict(zip(past, present, strict=True))
    expected = answered(MODEL, {name: inputs[name] for name in ("input_ids", "attention_mask")})
    np.testing.assert_allclose(logits, expected.expected[:, before:], atol=1e-5)
    assert all(values.shape[2] == length for values in past.values())


def test_a_past_may_be_cut_to_the_window_that_all_layers_have():
    model = decoder("mistral")
    (run, heads), case = eager(model), written_case(model)
    past = {name: np.zeros((1, of, 0, size), np.float32) for name, (of, size) in heads.items()}
    for at, new in enumerate(case.inputs["input_ids"].T):
        tokens = next(iter(past.values())).shape[2] + 1
        mask, positions = np.ones((1, tokens), np.int64), np.array([[at]])
        inputs = {"input_ids": new[None], "attention_mask": mask, "position_ids": positions}
        logits, *present = run({**inputs, **past})
        kept = (values[:, :, 1 - model.config.sliding_window :].copy() for values in present)
        past = dict(zip(heads, kept, strict=True))
        np.testing.assert_allclose(logits[0, 0], case.expected[0, at], atol=1e-5)
    assert tokens == model.config.sliding_window


def test_a_file_whose_cache_is_wrong_is_refused(tmp_path, monkeypatch):
    """Whole texts alone would not show it."""

    class Forgetful(Runtime):
        def __init__(self, path, threads, device):
            pass

        def work(self, inputs):
            return lambda: RUN(whole(inputs, HEADS))[0]

        def continued(self, inputs):
            return token_by_token(
                lambda given: RUN({**given, "position_ids": 0 * given["position_ids"]}), inputs, HEADS
            )

    def write(origin, path):
        path.touch()

    entry = replace(FORMATS["onnx"], write=write, load=Forgetful)
    monkeypatch.setattr("autodistil.formats.writing.FORMATS", {"onnx": entry})
    with pytest.raises(
        IntegrityError, match=r"onnx/model.onnx, token by token through its cache, differs from PyTorch"
    ):
        write_formats(MODEL, None, ["onnx"], tmp_path)


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("kind", KINDS)
def test_a_file_writes_what_pytorch_writes(kind, tmp_path):
    """The layout of Optimum, any batch; tokens equal, of the file of 8 bits the logits near."""
    import onnxruntime

    model = decoder(kind)
    exact, rounded = write_formats(model, None, ["onnx", "onnx-int8"], tmp_path)
    assert max(exact.agreement.max_difference, exact.continued.max_difference) < 1e-5
    assert "token by token through its cache by " in exact.line
    assert rounded.continued.mean_cosine > 0.99
    session = onnxruntime.InferenceSession(tmp_path / exact.file)
    shapes = {one.name: one.shape for one in session.get_inputs()}
    outputs = {one.name: one.shape for one in session.get_outputs()}
    past = [name for name in shapes if name.startswith(PAST)]
    assert list(shapes)[:3] == ["input_ids", "attention_mask", "position_ids"]
    assert list(outputs) == ["logits", *(name.replace(PAST, "present") for name in past)]
    assert past[:2] == ["past_key_values.0.key", "past_key_values.0.value"]
    assert [shapes[past[0]][at] for at in (0, 2)] == ["batch", "past"]
    ids = np.random.default_rng(1).integers(10, 97, (3, 5))
    expected = model.generate(
        torch.from_numpy(ids), attention_mask=torch.ones(3, 5), max_new_tokens=20, do_sample=False, eos_token_id=-1
    )
    found = greedy(session, ids, 20)
    np.testing.assert_array_equal(found, expected.numpy())


def greedy(session, ids, tokens):
    """Ids (batch, tokens) with as many behind them as asked for."""
    past = {
        one.name: np.zeros((len(ids), one.shape[1], 0, one.shape[3]), np.float32) for one in session.get_inputs()[3:]
    }
    text = new = ids
    for _ in range(tokens):
        positions = np.tile(np.arange(text.shape[1])[-new.shape[1] :], (len(ids), 1))
        inputs = {"input_ids": new, "attention_mask": np.ones_like(text), "position_ids": positions, **past}
        logits, *present = session.run(None, inputs)
        past, new = dict(zip(past, present, strict=True)), logits[:, -1:].argmax(-1)
        text = np.concatenate([text, new], 1)
    return text


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_the_loop_of_the_docs_writes_what_generate_writes(tmp_path, monkeypatch, capsys):
    """The block of docs/decoders.md, in a folder that holds `my-student`."""
    tokenizer, folder = byte_level_bpe(), tmp_path / "my-student"
    config = DECODER_CONFIGS["llama"]()
    config.vocab_size = len(tokenizer)
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(config).eval()
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    write_formats(model, tokenizer, ["onnx"], folder)
    page = (Path(__file__).parents[2] / "docs" / "decoders.md").read_text(encoding="utf-8")
    (block,) = re.findall(r"```python\n(import numpy.*?)```", page, re.DOTALL)
    monkeypatch.chdir(tmp_path)
    exec(compile(block, "docs/decoders.md", "exec"), {})
    ids = tokenizer("The river", return_tensors="pt")["input_ids"]
    written = model.generate(
        ids, attention_mask=torch.ones_like(ids), max_new_tokens=30, do_sample=False, eos_token_id=-1
    )
    assert capsys.readouterr().out.rstrip("\n") == tokenizer.decode(written[0]).rstrip("\n")
