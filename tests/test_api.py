"""The front door: typed keyword arguments, and a run that is opened and used from Python."""

import inspect
import json
import subprocess
import sys
from dataclasses import fields
from pathlib import Path

import pandas as pd
import pytest
import torch
from run_helpers import save_random_bert, write_corpus
from transformers import AutoModel

import autodistil
from autodistil import api
from autodistil.config import RunConfig
from autodistil.errors import ConfigError, ExportError, RunError
from autodistil.run.run import Run
from autodistil.stages.searching import last_search

pytestmark = pytest.mark.usefixtures("no_picture")


@pytest.fixture(scope="module")
def options(tmp_path_factory, quickstart_teacher_dir):
    folder = tmp_path_factory.mktemp("inputs")
    return {
        "teacher": str(save_random_bert(folder / "small-bert", quickstart_teacher_dir)),
        "corpus": str(write_corpus(folder / "corpus.txt")),
        "space": "smoke",
        "train_steps": 2,
        "batch_size": 4,
        "seq_len": 32,
        "threads": 1,
    }


@pytest.fixture(scope="module")
def result(tmp_path_factory, options):
    return autodistil.search(tmp_path_factory.mktemp("runs") / "run", budgets="10MFLOPs", **options)


@pytest.fixture(scope="module")
def run(result):
    return autodistil.open_run(result.run)


def test_options_by_name_are_those_of_a_run_with_their_types():
    own = {"run", "keep", "resume", "report_dir", "progress", "options"}
    parameters = inspect.signature(autodistil.search).parameters
    named = set(parameters) - own
    assert named <= {field.name for field in fields(RunConfig)}
    assert {"teacher", "corpus", "budgets", "space", "train_steps", "device"} <= named
    assert all(parameter.annotation is not inspect.Parameter.empty for parameter in parameters.values())
    text = inspect.getsource(api.search)
    assert all(text.count(f'"{name}": {name},') == 1 for name in named)  # each is handed on under its name


def test_an_unknown_option_gets_a_hint(tmp_path):
    with pytest.raises(ConfigError, match="did you mean 'train_steps'"):
        autodistil.search(tmp_path / "run", budgets="5GFLOPs", train_step=3)


def test_names_of_the_package_are_listed_and_nothing_heavy_is_imported_for_them():
    assert set(autodistil.__all__) <= set(dir(autodistil))
    assert all(getattr(autodistil, name) is not None for name in autodistil.__all__)
    program = "import sys, autodistil; dir(autodistil); sys.exit('torch' in sys.modules or 'pandas' in sys.modules)"
    subprocess.run([sys.executable, "-c", program], check=True)
    with pytest.raises(AttributeError, match="no attribute 'serach'"):
        _ = autodistil.serach


def test_a_plan_counts_as_the_search_does(result, options):
    plan = autodistil.plan(result.run, budgets="10MFLOPs", **options)
    assert plan.feasible == result.candidates["feasible"].sum()
    assert plan.training.count == plan.scoring.count == 0


def test_an_open_run_is_what_the_search_found(result, run):
    assert run.path == result.run
    assert run.budgets == ("10MFLOPs",)
    pd.testing.assert_frame_equal(run.candidates[result.candidates.columns], result.candidates, check_dtype=False)
    assert list(run.front.index) == list(result.pareto.index)
    assert (run.pick(), run.pick("best"), run.pick("near")) == (result.best, result.best, result.near)
    for name, found in (("half", result.half), ("knee", result.knee)):
        if found is None:
            with pytest.raises(ExportError, match=f"pick '{name}': "):
                run.pick(name)
        else:
            assert run.pick(name) == found
    with pytest.raises(ExportError, match="is no student of this run"):
        run.pick("tiny-L1")


def test_a_student_in_memory_is_the_exported_one(run, result, tmp_path):
    model, tokenizer = run.student("best")
    exported = run.export("best", tmp_path / "student")
    reloaded = AutoModel.from_pretrained(exported.path)
    batch = tokenizer(["The river runs along the old wall."], return_tensors="pt")
    with torch.no_grad():
        assert torch.equal(model(**batch).last_hidden_state, reloaded(**batch).last_hidden_state)
    assert model.config.hidden_size == run.candidates.loc[result.best, "hidden_size"]


def test_the_front_is_shown_as_a_table_and_as_a_figure(run, result):
    for shown in (run._repr_html_(), result._repr_html_()):
        assert f"{result.best} *" in shown
        assert "Pareto front under 10MFLOPs" in shown
    assert "students on the front" in repr(run)
    figure = run.plot()
    drawn = sum(len(trace.x) for trace in figure.data if trace.mode == "markers")
    assert drawn >= len(run.front)
    assert figure.layout.xaxis.title.text != run.plot("params").layout.xaxis.title.text
    with pytest.raises(ConfigError, match="did you mean 'flops'"):
        run.plot("flop")


@pytest.mark.slow
def test_names_of_a_run_are_text(options, tmp_path):
    result = autodistil.search(tmp_path / "<b>run", budgets="10MFLOPs", **options)
    assert "<b>run" not in result._repr_html_()
    assert "&lt;b&gt;run" in result._repr_html_()


def test_a_refined_student_is_the_one_that_is_given(options, tmp_path):
    result = autodistil.search(tmp_path / "run", budgets="10MFLOPs", refine_top=0, **options)
    run = autodistil.open_run(result.run)
    before = run.student(result.best).model.state_dict()
    refinement = run.refine("best", steps=3, learning_rate=1e-3)
    assert (refinement.student, refinement.steps) == (result.best, 3)
    after = run.student(result.best).model.state_dict()
    moved = any(not torch.equal(before[name], after[name]) for name in before)
    assert moved == refinement.helped
    assert run.candidates.loc[result.best, "refined_loss"] == pytest.approx(refinement.loss_after)


def test_a_student_is_scored_on_tasks(run, result, tmp_path):
    task = tmp_path / "sentiment"
    task.mkdir()
    rows = ["a fine film\t\t1", "a dull film\t\t0"] * 12
    for split in ("train", "dev"):
        (task / f"{split}.tsv").write_text("\n".join(["text_a\ttext_b\tlabel", *rows]) + "\n", encoding="utf-8")
    scores = run.evaluate("best", "sentiment", data=tmp_path, method="probe", beside="all-MiniLM-L6-v2")
    assert list(scores["model"]) == [result.best, "all-MiniLM-L6-v2"]
    assert set(scores["task"]) == {"sentiment"}
    assert scores["mean"].between(0, 1).all()
    assert list(scores["baseline"]) == [0.5, 0.5]
    page = (result.run / "report.html").read_text("utf-8")
    assert "sentiment, dev" in page
    assert f">{100 * scores['mean'][0]:.1f}<" in page
    p = scores["mean"]
    errors = (p * (1 - p) / 24) ** 0.5
    assert list(scores["standard_error"]) == pytest.approx(list(errors.where(errors > 0)), nan_ok=True)
    assert (result.run / "students" / result.best / "evaluation.json").is_file()


def test_the_best_student_is_told_beside_the_teacher_and_the_slice_that_it_started_from(result):
    """And the slice is the untrained SuperLM's, parameter by parameter."""
    opened = Run.open(result.run)
    candidate = last_search(opened.inputs)[0].candidates[result.best]
    alone = opened.superlms.untrained(candidate)
    whole = opened.superlms.new(opened.inputs.space.sub_space(candidate.sub_space))
    ours, theirs = (one.extract(candidate.config).state_dict() for one in (alone, whole))
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    found = result.agreement
    assert found.loss == result.table[result.best].exported_loss
    assert found.untrained_loss == opened.scorer.loss(alone, candidate.config)
    assert found.rsa is None  # this teacher is no encoder of sentences
    words = (result.report.read_text("utf-8"), (result.student.path / "README.md").read_text("utf-8"))
    assert all(f"{found.untrained_loss:.4f}" in text for text in words)
    assert result.answer == "small-bert meets 10MFLOPs already: 6.91 MFLOPs."
    assert result.teacher_meets_budgets
    assert "small-bert (teacher)" in result._repr_html_()
    assert json.loads((result.run / "agreement.json").read_text())[result.best]["loss"] == found.loss


def test_what_is_no_run_is_refused(tmp_path):
    with pytest.raises(RunError, match="is no run folder"):
        autodistil.open_run(tmp_path)
    assert not list(tmp_path.iterdir())


NOTEBOOK = Path(__file__).parents[1] / "examples" / "search.ipynb"


def code_cells():
    return [cell for cell in json.loads(NOTEBOOK.read_text(encoding="utf-8"))["cells"] if cell["cell_type"] == "code"]


def test_the_notebook_was_executed_and_shows_the_front():
    cells = code_cells()
    assert [cell["execution_count"] for cell in cells] == list(range(1, len(cells) + 1))
    shown = [kind for cell in cells for output in cell["outputs"] for kind in output.get("data", {})]
    assert {"text/html", "image/png"} <= set(shown)
    assert not [output for cell in cells for output in cell["outputs"] if output["output_type"] == "error"]


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_the_notebook_runs(tmp_path):
    program = "\n".join("".join(cell["source"]) for cell in code_cells())
    subprocess.run([sys.executable, "-c", program], cwd=tmp_path, check=True, timeout=600)
    assert (tmp_path / "students" / "notebook" / "model.safetensors").is_file()
