"""Searches over windows: a Llama whose student is a Mistral within a budget of the cache, and a ModernBERT."""

import json

import pandas as pd
import pytest
import torch
import yaml
from run_helpers import run_options, save_llama, save_random, small_modernbert
from transformers import AutoModel, AutoModelForCausalLM, AutoTokenizer

from autodistil import pipeline
from autodistil.run import inputs
from autodistil.run.run import Run
from autodistil.space.files import space_from_dict
from autodistil.space.space import OneStudent
from autodistil.stages.fitting import spread_students

pytestmark = pytest.mark.usefixtures("no_picture")

SPACE = """
sub_spaces:
  tiny: {num_layers: [2, 4], hidden_size: [64], head_size: 16, mlp_ratio: 2.0, window: %s}
"""


def test_samples_of_long_texts_are_fewer(tmp_path, quickstart_teacher_dir, monkeypatch):
    options = run_options(tmp_path, quickstart_teacher_dir, SPACE % "[8]", seq_len=64)
    monkeypatch.setattr(inputs, "SAMPLE_LENGTH", 16)
    monkeypatch.setattr(inputs, "SAMPLE_BATCH", 8)
    batches = Run.open(tmp_path / "run", options).inputs.sample_batches(6)
    assert [len(batch["input_ids"]) for batch in batches] == [2, 2, 2]


@pytest.mark.slow
def test_a_llama_within_a_budget_of_its_cache_is_a_mistral(tmp_path, quickstart_teacher_dir):
    options = run_options(tmp_path, quickstart_teacher_dir, SPACE % "[8, 16, whole]", seq_len=64, train_steps=2)
    save_llama(tmp_path / "llama", AutoTokenizer.from_pretrained(quickstart_teacher_dir))
    limits = ["5KBcache", "20KBcache@48"]
    run = Run.open(tmp_path / "run", {**options, "teacher": str(tmp_path / "llama"), "budgets": limits})
    result = pipeline.search(run)
    table = pd.read_csv(run.folder.path / "candidates.csv").set_index("id")
    assert {*table["window"]} == {8, 16, 64}
    token = 2 * 2 * 16 * 2
    assert (table["cache_bytes"] == table["num_layers"] * token * table["window"]).all()
    assert (table["cache_bytes@48"] == table["num_layers"] * token * table["window"].clip(upper=48)).all()
    assert (table["feasible"] == (table["cache_bytes"] <= 5000)).all()
    page = result.report.read_text(encoding="utf-8")
    for words in ("cache of keys and values", "cache of keys and values at 48 tokens"):
        assert f"over {words}</h2>" in page, "a figure of each cost that has a budget"
    share = table.loc[result.best, "cache_bytes@48"] / result.teacher.costs["cache_bytes@48"]
    assert f"{100 * share:.0f} % of its cache of keys and values at 48 tokens" in result.beside_teacher
    student = result.student.path
    described = json.loads((student / "config.json").read_text())
    assert (described["model_type"], described["sliding_window"]) == ("mistral", table.loc[result.best, "window"])
    model = AutoModelForCausalLM.from_pretrained(student)
    assert model.generate(torch.tensor([[101, 2023]]), max_new_tokens=20).shape == (1, 22)
    assert f"| window of local attention | {described['sliding_window']} | 64 |" in (student / "README.md").read_text()
    page = (run.folder.path / "report.html").read_text(encoding="utf-8")
    assert ">Window<" in page
    assert "Cache of keys and values at 48 tokens" in page


@pytest.mark.slow
def test_a_modernbert_keeps_the_window_it_was_trained_with(tmp_path, quickstart_teacher_dir):
    options = run_options(tmp_path, quickstart_teacher_dir, SPACE % "[4, 16]", seq_len=64, train_steps=2)
    teacher = save_random(tmp_path / "modern", quickstart_teacher_dir, small_modernbert())
    run = Run.open(tmp_path / "run", {**options, "teacher": str(teacher), "budgets": ["50MFLOPs"], "refine_top": 1})
    result = pipeline.search(run)
    table = pd.read_csv(run.folder.path / "candidates.csv").set_index("id")
    assert table.groupby("window")["loss"].count().to_dict() == {4: 2, 16: 2}
    model = AutoModel.from_pretrained(result.student.path)
    assert model.config.local_attention == table.loc[result.best, "window"]


def test_students_are_fitted_with_their_window():
    space = space_from_dict({"sub_spaces": {"tiny": yaml.safe_load(SPACE % "[8, 16]")["sub_spaces"]["tiny"]}}, "x")
    (sub,) = space.sub_spaces
    assert {student.window for student in spread_students(sub, 8)} == {16}
    assert spread_students(OneStudent("x", sub.students[0]), 1) == [sub.students[0]]
    assert sub.students[0].window == 8
