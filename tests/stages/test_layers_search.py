"""A whole search of students whose layers have sizes of their own: found, refined, exported, reported, gone on with."""

import subprocess
import sys

import numpy as np
import pytest
import torch
from device_helpers import FakeStopwatch
from run_helpers import run_options, save_random, small_mpnet
from transformers import AutoModel, AutoModelForSequenceClassification

from autodistil import pipeline
from autodistil.errors import ConfigError
from autodistil.report.page import markdown
from autodistil.run.run import Run
from autodistil.stages.certifying import _as_costly
from autodistil.stages.reporting import report_data
from autodistil.stages.searching import last_search
from autodistil.student_search.pick import best_id

SPACE = """
sub_spaces:
  base:
    per_layer: true
    num_layers: [2, 3, 4]
    hidden_size: [32, 64]
    head_size: 16
    num_heads: [0, 1, 2, 4]
    mlp_ratio: [0, 1, 2, 4]
"""
BUDGET = "1.5MFLOPs"


@pytest.fixture(scope="module")
def options(tmp_path_factory, quickstart_teacher_dir):
    folder = tmp_path_factory.mktemp("layers")
    return run_options(folder, quickstart_teacher_dir, SPACE, train_steps=3, trials=40, budgets=[BUDGET])


@pytest.fixture(scope="module")
def found(options, tmp_path_factory):
    """A search that ends with an uneven student: where the best is one of alike layers, nothing is tested."""
    run = Run.open(tmp_path_factory.mktemp("run") / "run", {**options, "refine_top": 1, "refine_steps": 2})
    return run, pipeline.search(run)


def uneven(result):
    return next(one for one in result.table.within_budgets.best_first.ids if result.table[one].layers)


def test_what_a_search_finds_meets_the_budget_and_is_known_afterwards(found):
    run, result = found
    problem, table = last_search(run.inputs)
    assert len(table.known("loss")) == 40
    assert set(table.known("loss")) <= set(problem.candidates)
    assert not set(table.known("loss")) <= {candidate.id for candidate in run.inputs.space.candidates}
    assert table[result.best].feasible
    assert table[result.best].costs["flops"] <= 1.5e6
    assert list(map(tuple, table[result.best].layers)) == list(problem.candidates[result.best].config.layers)
    assert (run.folder.path / "students" / result.best / "model.safetensors").is_file()
    assert table[result.best].refined_loss is not None


@pytest.mark.slow
def test_more_trials_go_on_and_nothing_is_scored_twice(found, options):
    run, result = found
    before = result.table.known("loss")
    again = Run.open(run.folder.path, {"trials": 44})
    more = pipeline.search(again, resume=True).table.known("loss")
    assert len(more) == 44
    assert {one: more[one] for one in before} == before


@pytest.mark.slow
def test_an_uneven_student_is_exported_for_those_who_lack_autodistil(found, tmp_path):
    run, result = found
    chosen = uneven(result)
    to = tmp_path / "student"
    _, exported = pipeline.export(run, chosen, to, formats=("onnx",))
    assert exported.max_difference < 1e-5
    config = last_search(run.inputs)[0].candidates[chosen].config
    assert exported.own_architecture == (config.uneven or config.free_attention)
    model = AutoModel.from_pretrained(to)
    assert model.num_parameters() == result.table[chosen].costs["params"]
    assert AutoModelForSequenceClassification.from_pretrained(to, num_labels=3).config.num_labels == 3
    code = f"""
import sys; sys.modules["autodistil"] = None
import torch
from transformers import AutoModel, AutoTokenizer
model = AutoModel.from_pretrained({str(to)!r}, trust_remote_code=True).eval()
given = AutoTokenizer.from_pretrained({str(to)!r}, trust_remote_code=True)("a river", return_tensors="pt")
with torch.no_grad(): print(float(model(**given).last_hidden_state.sum()))
"""
    done = subprocess.run(
        [sys.executable, "-P", "-W", "ignore", "-c", code], capture_output=True, text=True, check=True
    )
    given = run.inputs.teacher.tokenizer("a river", return_tensors="pt")
    with torch.no_grad():
        assert float(done.stdout) == pytest.approx(float(model.eval()(**given).last_hidden_state.sum()), abs=1e-3)
    card = (to / "README.md").read_text()
    assert ("trust_remote_code=True" in card) == exported.own_architecture
    assert ", ".join(f"{layer.num_heads:,}" for layer in config.layers) in card


def test_the_report_says_what_is_kept_of_each_layer(found):
    run, result = found
    data = report_data(run, *last_search(run.inputs), [])
    text = markdown(data)
    assert "What of the teacher is kept" in text
    assert "attention of layer 4" in text
    page = result.report.read_text(encoding="utf-8")
    assert "What of the teacher is kept" in page
    assert '"layers":[[' in page


def test_students_that_cost_alike_certify_what_flops_cannot_tell(found):
    run, _ = found
    table = last_search(run.inputs)[1]
    best = best_id(table)
    alike = _as_costly(table, best, "base")
    costs = table.frame.loc[alike, "flops"]
    assert best in alike
    assert len(alike) >= 3
    assert (np.abs(costs / costs[best] - 1) <= 0.1).all()
    assert table.frame.loc[alike, "loss"].is_monotonic_increasing
    certified = pipeline.certify(run, sample=3).certificate
    assert best in {trial.id for trial in certified.trials} <= set(alike)


def test_a_plan_says_how_many_there_are(options, tmp_path, capsys):
    plan = pipeline.plan(Run.open(tmp_path / "run", options))
    assert plan.sampler == "evolution"
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_the_space_is_derived_from_the_teacher(tmp_path, quickstart_teacher_dir, options):
    teacher = save_random(tmp_path / "mpnet", quickstart_teacher_dir, small_mpnet())
    given = {
        **{name: value for name, value in options.items() if name != "space"},
        "teacher": str(teacher),
        "trials": 8,
    }
    run = Run.open(tmp_path / "run", {**given, "per_layer": True, "train_steps": 2, "budgets": ["2MFLOPs"]})
    assert run.inputs.space.name == "auto-layers"
    result = pipeline.search(run)
    assert result.table[result.best].feasible
    with pytest.raises(ConfigError, match="leave one of them out"):
        pipeline.plan(Run.open(tmp_path / "other", {**given, "space": "smoke", "per_layer": True}))


@pytest.mark.slow
def test_budgets_of_a_device_hold_for_students_that_nobody_listed(options, tmp_path):
    """Predicted from listed ones by sums over layers, then measured as they are exported."""
    watch = FakeStopwatch()
    given = {name: value for name, value in options.items() if name != "budgets"}
    result = pipeline.search(
        Run.open(tmp_path / "run", given, {"budgets": ["0.95ms@cpu"], "trials": 36}), measure=watch
    )
    best = result.candidates.loc[result.best]
    assert best["ms@cpu measured"] <= 0.95
    assert result.table[result.best].layers
    assert len(watch.calls) > 1
    found = set(result.table.known("loss"))
    assert found <= set(last_search(Run.open(tmp_path / "run").inputs)[0].candidates)
