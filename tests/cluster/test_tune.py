"""Tuning of the recipe: what is tried, that losses compare, and a real run on Ray Tune."""

import pandas as pd
import pytest
import yaml
from run_helpers import one_line, run_options, write_corpus

from autodistil import cli
from autodistil.cluster.ray_session import ray_session
from autodistil.cluster.ray_tune import TuneSettings, check_own
from autodistil.config import RECIPE_OPTIONS, layered
from autodistil.errors import RunError
from autodistil.run.run import Run
from autodistil.stages.tuning import choices, relation_head_choices, train_trial, weighted_variants
from autodistil.student_search.tuning_study import LEAST_TRIALS, figures, importances, study_of

SPACE = """
name: one
description: one sub-space
sub_spaces:
  tiny: {num_layers: [2, 3], hidden_size: [16, 32, 64], head_size: 16, mlp_ratio: [2.0, 4.0]}
"""


def status(*arguments):
    with pytest.raises(SystemExit) as caught:
        cli.main([str(argument) for argument in arguments])
    return caught.value.code


@pytest.fixture
def run(tmp_path, quickstart_teacher_dir):
    options = run_options(tmp_path, quickstart_teacher_dir, SPACE, threads=1, train_steps=3)
    run = Run.open(tmp_path / "run", options)
    run.inputs.write_record()
    return run


def test_relation_heads_divide_every_width():
    assert relation_head_choices(384, [64, 96, 384]) == [8, 16, 32]
    assert relation_head_choices(768, [64]) == [16, 32, 64]


def test_rungs_end_with_the_last_step():
    assert TuneSettings(1, 90, 0).rungs == (10, 30, 90)
    assert TuneSettings(1, 2, 0).rungs == (2,)


def test_the_first_of_each_choice_is_that_of_the_options(run):
    tried = choices(run.inputs)
    assert set(tried) == RECIPE_OPTIONS - {"objective"}
    assert tried["layer_map"][0] == run.config.layer_map
    assert tried["random_students"][0] == run.config.random_students
    assert tried["relation_heads"][0] == run.inputs.objective.options.relation_heads


def test_a_tuning_that_was_begun_elsewhere_is_not_gone_on_with(tmp_path, monkeypatch):
    check_own(tmp_path, begun=False)
    check_own(tmp_path, begun=True)
    mark = (tmp_path / "tune.mark").read_text()
    for other in ("", "../" + mark, mark[::-1], "\x00"):
        (tmp_path / "tune.mark").write_text(other)
        with pytest.raises(RunError, match="was not begun here by you"):
            check_own(tmp_path, begun=True)
    (tmp_path / "tune.mark").write_text(mark)
    monkeypatch.setenv("AUTODISTIL_CACHE", str(tmp_path / "somebody else's"))
    with pytest.raises(RunError, match="was not begun here by you"):
        check_own(tmp_path, begun=True)


def test_losses_of_trials_with_other_relation_heads_compare(run):
    """Before the first step all trials stand at one point, so one reference gives one loss."""
    _ = run.inputs.importance_order, run.inputs.heldout_texts
    settings, reports = TuneSettings(1, 1, 0), []
    for heads in (1, 2):
        recipe = {"relation_heads": heads, "learning_rate": 1e-12}
        path, options = run.folder.path, run.config.to_dict()
        train_trial(path, options, run.inputs.objective, settings, recipe, reports.append)
    assert [report["step"] for report in reports] == [1, 1]
    assert reports[0]["loss"] == pytest.approx(reports[1]["loss"], rel=1e-4)


def test_weights_of_further_terms_are_tried_around_their_own():
    found = weighted_variants(["relation-kl+20*embedding-cosine", "mi-alpha", "mi-alpha"])
    assert found == [
        "relation-kl+20*embedding-cosine",
        "relation-kl+5*embedding-cosine",
        "relation-kl+80*embedding-cosine",
        "mi-alpha",
    ]


def test_objectives_are_judged_by_none_of_them(tmp_path, quickstart_teacher_dir, sentence_folder):
    space = SPACE.replace(", 64]", "]").replace("[2, 3]", "[1, 2]").replace(", 4.0]", "]")
    options = run_options(tmp_path, quickstart_teacher_dir, space, threads=1, train_steps=1)
    run = Run.open(tmp_path / "run", {**options, "teacher": str(sentence_folder)})
    run.inputs.write_record()
    tried = choices(run.inputs, ["mi-alpha"])
    assert tried["objective"][0] == run.inputs.objective.name
    reports = []
    for objective in ("mi-alpha", "relation-kl"):
        recipe = {"objective": objective, "learning_rate": 1e-12}
        train_trial(run.folder.path, run.config.to_dict(), None, TuneSettings(1, 1, 0), recipe, reports.append)
    assert 0 < reports[0]["loss"] < 2
    assert reports[0]["loss"] == pytest.approx(reports[1]["loss"], rel=1e-4)


def test_what_decides_a_loss_is_found():
    tried = {"learning_rate": (1e-4, 1e-2), "objective": ["a", "b"], "relation_heads": [4, 8]}
    rows = [
        {"learning_rate": 10 ** (-4 + i / 20), "objective": "ab"[i % 2], "relation_heads": [4, 8][i // 2 % 2]}
        for i in range(40)
    ]
    table = pd.DataFrame([{**row, "loss": (row["objective"] == "a") + 7 * i % 40 / 1000} for i, row in enumerate(rows)])
    found = importances(study_of(table, tried))
    assert sum(found.values()) == pytest.approx(1)
    assert next(iter(found)) == "objective"
    assert len(figures(study_of(table, tried))) == 3
    few = study_of(table[: LEAST_TRIALS - 1], tried)
    assert importances(few) == {}
    assert len(figures(few)) == 2


def test_a_recipe_holds_hyperparameters_only(tmp_path, capsys):
    (tmp_path / "recipe.yaml").write_text("learning_rate: 0.001\nteacher: other\n")
    assert status("train", "--run", tmp_path / "run", "--recipe", tmp_path / "recipe.yaml") == 2
    assert "option 'teacher'; allowed: layer_map" in one_line(capsys)


@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.timeout(900)
def test_tune_writes_a_recipe_that_train_takes(tmp_path, capsys):
    """The default teacher, tiny sizes."""
    (tmp_path / "space.yaml").write_text(SPACE)
    corpus = write_corpus(tmp_path / "corpus.txt")
    sizes = ["--batch-size", "1", "--seq-len", "16"]
    (tmp_path / "options.yaml").write_text("order: activation\nheldout_sequences: 4\n")  # quick
    inputs = ["--corpus", corpus, "--space", tmp_path / "space.yaml", "--config", tmp_path / "options.yaml", *sizes]
    run = tmp_path / "tuning"
    with ray_session():  # one for all commands
        tune_twice_and_train(run, inputs, tmp_path / "trained", capsys)


def tune_twice_and_train(run, inputs, trained, capsys):
    more = ["--samples", "3", "--train-steps", "3", "--or-objective", "mi-alpha"]
    assert status("tune", "--run", run, *inputs, *more) == 0
    table = pd.read_csv(run / "trials.csv")
    assert len(table) == 3
    assert table["error"].isna().all()
    assert table["step"].max() == 3
    recipe = yaml.safe_load((run / "recipe.yaml").read_text())
    assert set(recipe) == RECIPE_OPTIONS
    assert "plotly" in (run / "tuning.html").read_text()
    best = table[table["step"] == 3]["loss"].idxmin()
    assert recipe["learning_rate"] == table.loc[best, "learning_rate"]
    assert "train --recipe" in capsys.readouterr().out.replace("\n", " ")

    assert status("tune", "--run", run) == 2
    assert "--resume" in one_line(capsys)
    assert status("tune", "--run", run, "--resume") == 0
    pd.testing.assert_frame_equal(pd.read_csv(run / "trials.csv"), table)

    options = [*inputs, "--train-steps", "1", "--threads", "1"]
    assert status("train", "--run", trained, *options, "--recipe", run / "recipe.yaml") == 0
    config = layered(yaml.safe_load((trained / "run.yaml").read_text())["config"])
    assert {option: getattr(config, option) for option in RECIPE_OPTIONS} == recipe
