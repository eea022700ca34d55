"""Refinement end to end on a small teacher: exact resume, lower losses, exports, reuse, ranks by refined loss."""

import json
import shutil

import numpy as np
import pandas as pd
import pytest
import torch
from autodistil_helpers import random_teacher, small_space
from run_helpers import run_options, stop_after
from safetensors.torch import load_file
from transformers import AutoModel

from autodistil import cli, pipeline
from autodistil.config import RunConfig
from autodistil.errors import ConfigError, ExportError, RunError
from autodistil.models.superlm import SuperLM
from autodistil.run.kept import read_refinements, write_refinement
from autodistil.run.run import Run
from autodistil.stages.costing import search_problem
from autodistil.stages.fitting import fitted_student
from autodistil.stages.refining import refining_recipe
from autodistil.student_search.candidates import CandidateTable, Refinement
from autodistil.student_search.pick import best_id
from autodistil.training.checkpoint import load_weights, save_checkpoint, save_weights
from autodistil.training.recipe import STEPS_ALONE
from autodistil.training.trainer import SuperLMTrainer, train

pytestmark = pytest.mark.usefixtures("no_picture")

SPACE = """
sub_spaces:
  tiny: {num_layers: [2], hidden_size: [16, 64], head_size: 16, mlp_ratio: [2.0]}
  base: {num_layers: [2, 3], hidden_size: [48], head_size: 16, mlp_ratio: [2.0]}
"""
STEPS = 6


@pytest.fixture(scope="module")
def searched(tmp_path_factory, quickstart_teacher_dir):
    """A run that was searched without refining: a random BERT of 4 layers x 64, a space of 2 + 2 students."""
    folder = tmp_path_factory.mktemp("refining")
    options = run_options(
        folder, quickstart_teacher_dir, SPACE, train_steps=4, checkpoint_seconds=0.0, budgets=["100MFLOPs"]
    )
    pipeline.search(Run.open(folder / "run", options))
    return folder / "run"


@pytest.fixture
def run_folder(searched, tmp_path):
    """A copy of it to work in."""
    shutil.copytree(searched, tmp_path / "run")
    return tmp_path / "run"


def open_run(folder, **options):
    return Run.open(folder, {"refine_steps": STEPS, **options})


@pytest.fixture(scope="module")
def refined(searched, tmp_path_factory):
    """A copy with its best student refined."""
    folder = tmp_path_factory.mktemp("refined") / "run"
    shutil.copytree(searched, folder)
    refinement, _ = pipeline.refine(open_run(folder), "best")
    return folder, refinement


def run(*arguments):
    with pytest.raises(SystemExit) as caught:
        cli.main([str(argument) for argument in arguments])
    return caught.value.code


def candidate_of(opened, student_id):
    return next(candidate for candidate in opened.inputs.space.candidates if candidate.id == student_id)


# ---- one student


def test_refining_lowers_the_held_out_loss(refined):
    folder, refinement = refined
    assert refinement.helped
    table = pd.read_csv(folder / "candidates.csv").set_index("id")
    assert table.loc[refinement.student, "loss"] == refinement.loss_before
    assert table.loc[refinement.student, "refined_loss"] == refinement.loss_after
    assert table["refined_loss"].count() == 1
    assert not table["finalist"].any(), "one student alone is no ranking"


def test_the_result_is_the_loss_of_the_weights(refined):
    folder, refinement = refined
    opened = open_run(folder)
    candidate = candidate_of(opened, refinement.student)
    heldout = opened.scorer.heldout_for(candidate.config)
    assert heldout.loss(opened.superlms.refined(candidate), candidate.config) == refinement.loss_after
    assert heldout.loss(opened.superlms.of(candidate), candidate.config) == refinement.loss_before
    assert read_refinements(folder / "refined") == {refinement.student: refinement}


def test_refining_is_the_training_of_the_student_alone_on_text_that_goes_on(refined, tmp_path):
    folder, refinement = refined
    opened = open_run(folder)
    candidate = candidate_of(opened, refinement.student)
    recipe = refining_recipe(opened.config, opened.folder.resolved())

    def loss(superlm):
        return opened.scorer.loss(superlm, candidate.config)

    def starts():
        slices = [opened.superlms.alone(candidate), opened.superlms.untrained(candidate)]
        return [*slices, fitted_student(opened, candidate)]

    trainer = SuperLMTrainer(min(starts(), key=loss), recipe, opened.inputs.objective)
    first = opened.folder.resolved()["train_steps"]
    seen = []

    def micro_batches(step):
        seen.append(first + step)
        return opened.inputs.text.micro_batches(first + step)

    train([trainer], opened.inputs.ordered_teacher, micro_batches, lambda rows: None)
    save_weights(min([trainer.superlm, *starts()], key=loss), tmp_path, STEPS)
    assert seen == list(range(4, 4 + STEPS))
    ours = load_file(folder / "refined" / candidate.id / "superlm.safetensors")
    theirs = load_file(tmp_path / "superlm.safetensors")
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)


def test_an_interrupted_refinement_resumes_to_the_same_bits(run_folder, refined, monkeypatch):
    whole, refinement = refined
    with monkeypatch.context() as patch:
        stop_after(patch, 5)
        with pytest.raises(KeyboardInterrupt):
            pipeline.refine(open_run(run_folder), "best")
    folder = run_folder / "refined" / refinement.student
    assert (folder / "checkpoint.safetensors").is_file()
    with pytest.raises(RunError, match="was interrupted; go on with --resume"):
        pipeline.refine(open_run(run_folder), "best")
    with pytest.raises(RunError, match=rf"refined with {STEPS} steps .* not 9 at"):
        pipeline.refine(open_run(run_folder, refine_steps=9), "best", resume=True)
    assert pipeline.refine(open_run(run_folder), "best", resume=True)[0] == refinement
    assert not (folder / "checkpoint.safetensors").exists()
    ours = load_file(folder / "superlm.safetensors")
    theirs = load_file(whole / "refined" / refinement.student / "superlm.safetensors")
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


def test_nothing_is_refined_twice(refined, monkeypatch):
    folder, refinement = refined

    def refuse(*_, **__):
        raise AssertionError("trained again")

    monkeypatch.setattr("autodistil.stages.training.train_with_checkpoints", refuse)
    assert pipeline.refine(open_run(folder), "best")[0] == refinement
    result = folder / "refined" / refinement.student / "result.json"
    before = result.read_bytes()
    result.unlink()  # the weights are still there
    assert pipeline.refine(open_run(folder), "best")[0] == refinement
    assert result.read_bytes() == before


def test_another_recipe_is_refused_and_nothing_is_lost(refined):
    folder, refinement = refined
    with pytest.raises(RunError, match=rf"refined with {STEPS} steps at learning rate .*remove"):
        pipeline.refine(open_run(folder, refine_learning_rate=0.5), "best")
    assert read_refinements(folder / "refined") == {refinement.student: refinement}


def test_an_export_has_the_refined_weights(refined, tmp_path, capsys):
    folder, refinement = refined
    assert run("export", "--run", folder, "--pick", refinement.student, "--to", tmp_path / "refined") == 0
    assert run("export", "--run", folder, "--to", tmp_path / "raw", "--unrefined") == 0
    assert "largest difference 0.0e+00" in capsys.readouterr().out
    opened = open_run(folder)
    candidate = candidate_of(opened, refinement.student)
    batch = {"input_ids": torch.arange(5, 17)[None]}
    expected = {"refined": opened.superlms.refined(candidate), "raw": opened.superlms.of(candidate)}
    outputs = {}
    with torch.no_grad():
        for name, superlm in expected.items():
            outputs[name] = AutoModel.from_pretrained(tmp_path / name).eval()(**batch).last_hidden_state
            assert torch.equal(outputs[name], superlm.forward(candidate.config, batch, output=True).output)
    assert not torch.equal(outputs["refined"], outputs["raw"])
    cards = {name: (tmp_path / name / "README.md").read_text() for name in expected}
    words = f"alone for {STEPS} steps at learning rate"
    assert f"- refined: {words}" in cards["refined"]
    assert f"held-out loss: {refinement.loss_after:.4f}" in cards["refined"]
    assert "- refined: no, this is the slice of its SuperLM" in cards["raw"]
    assert f"held-out loss: {refinement.loss_before:.4f}" in cards["raw"]


def test_what_refining_made_worse_is_exported_as_it_was(run_folder, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("autodistil.run.superlms.SuperLMs.untrained", lambda self, candidate: self.alone(candidate))
    monkeypatch.setattr("autodistil.stages.refining.fitted_student", lambda *_: None)
    assert run("refine", "--run", run_folder, "--steps", 3, "--learning-rate", 3) == 0
    assert "that is no better" in capsys.readouterr().out
    assert run("export", "--run", run_folder, "--to", tmp_path / "student") == 0
    assert "refined: no, this is the slice" in (tmp_path / "student" / "README.md").read_text()


@pytest.mark.parametrize(
    ("pick", "error", "words"),
    [("tiny-L9", ExportError, "is no student of this run"), ("best", RunError, "was not searched yet")],
)
def test_picks_are_checked(run_folder, pick, error, words):
    if error is RunError:
        (run_folder / "candidates.csv").unlink()
    with pytest.raises(error, match=words):
        pipeline.refine(open_run(run_folder), pick)


@pytest.mark.parametrize("name", ["result.json", "settings.json"])
@pytest.mark.parametrize("content", ["", "[]", '{"steps": "many"}'])
def test_damaged_files_are_one_line(refined, run_folder, name, content, capsys):
    folder, refinement = refined
    shutil.copytree(folder / "refined", run_folder / "refined")
    (run_folder / "refined" / refinement.student / name).write_text(content)
    assert run("refine", "--run", run_folder, "--steps", STEPS) == 2
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 1
    assert f"{name}' is damaged" in lines[0]


# ---- finalists


def test_a_search_refines_its_finalists_side_by_side_and_ranks_them_again(run_folder, monkeypatch):
    forwards = []
    teacher_states = type(random_teacher("bert")).states

    def count(self, *args, **kwargs):
        forwards.append(1)
        return teacher_states(self, *args, **kwargs)

    opened = open_run(run_folder, refine_top=2)
    _ = opened.scorer.heldout()
    monkeypatch.setattr("autodistil.models.teacher.Teacher.states", count)
    result = pipeline.search(opened)
    assert len(forwards) == STEPS, "one teacher forward a step feeds all finalists"
    table = result.candidates
    chosen = table[table["finalist"]]
    assert {*chosen.index} == {*result.table.finalist_ids(2)}
    assert chosen["pareto"].all()
    assert result.best == chosen["refined_loss"].idxmin()
    assert result.ranks_flipped == (
        list(chosen.sort_values("loss").index) != list(chosen.sort_values("refined_loss").index)
    )
    assert sum("refined alone" in note for note in result.notes) == 1
    assert f"- refined: alone for {STEPS} steps" in (result.student.path / "README.md").read_text()
    page = result.report.read_text(encoding="utf-8")
    assert "best students of the front were refined alone" in page
    assert "Refined alone" in page


def test_a_search_refines_its_pick_unless_told_otherwise(run_folder):
    """What was refined before, however it was, will do."""
    result = pipeline.search(open_run(run_folder, refine_top=None))
    refined = read_refinements(run_folder / "refined")
    assert list(refined) == [result.best]
    assert [note for note in result.notes if "refined" in note] == [
        f"The best student was refined alone: {result.best} {refined[result.best].loss_before:.4f} -> "
        f"{refined[result.best].loss_after:.4f}."
    ]
    again = pipeline.search(open_run(run_folder, refine_top=None, refine_steps=STEPS + 1))
    assert again.best == result.best
    assert read_refinements(run_folder / "refined") == refined


@pytest.mark.parametrize(
    ("options", "refined"), [({}, 1), ({"proxy": "stsb"}, 1), ({"workers": 2}, 0), ({"refine_top": 0}, 0)]
)
def test_the_best_is_refined_unasked_but_where_ray_trains(options, refined):
    assert RunConfig(**options).num_finalists == refined


@pytest.mark.parametrize("fitted", [True, False])
def test_a_student_that_no_training_made_better_is_the_slice_that_it_started_from(run_folder, fitted, monkeypatch):
    if not fitted:
        monkeypatch.setattr("autodistil.stages.refining.fitted_student", lambda *_: None)
    opened = open_run(run_folder, refine_top=1, refine_learning_rate=10.0)  # spoils whatever it starts from
    with torch.no_grad():
        for sub in opened.inputs.space.sub_spaces:
            for parameter in opened.superlms.trained(sub.name).parameters.values():
                parameter += 0.5 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(0))
    (run_folder / "study.db").unlink()
    result = pipeline.search(opened)
    candidate = search_problem(opened.inputs, ("100MFLOPs",)).candidates[result.best]
    untrained = opened.superlms.untrained(candidate)
    if fitted:
        untrained = fitted_student(opened, candidate)
    refined = opened.superlms.refined(candidate)
    for name, parameter in untrained.parameters.items():
        assert torch.equal(parameter, refined.parameters[name]), name
    found = read_refinements(run_folder / "refined")[result.best]
    assert found.loss_after == opened.scorer.loss(untrained, candidate.config) < found.loss_before


@pytest.mark.slow
def test_refining_with_other_settings_takes_the_place_of_what_the_search_did_unasked(run_folder):
    result = pipeline.search(Run.open(run_folder, {"refine_top": None}))
    unasked = read_refinements(run_folder / "refined")[result.best]
    asked, _ = pipeline.refine(open_run(run_folder), "best")
    assert (unasked.steps, asked.steps) == (STEPS_ALONE * 4, STEPS)
    with pytest.raises(RunError, match=f"was refined with {STEPS} steps at learning rate .*, not {STEPS + 1} at"):
        pipeline.refine(open_run(run_folder, refine_steps=STEPS + 1), "best")


@pytest.mark.slow
def test_a_second_search_reuses_what_is_refined(run_folder, monkeypatch):
    first = pipeline.search(open_run(run_folder, refine_top=3))

    def refuse(*_, **__):
        raise AssertionError("trained again")

    with monkeypatch.context() as patch:
        patch.setattr("autodistil.stages.training.train_with_checkpoints", refuse)
        again = pipeline.search(Run.open(run_folder))  # the options are remembered
        assert again.best == first.best
        pd.testing.assert_frame_equal(again.candidates, first.candidates)
        fewer = pipeline.search(Run.open(run_folder, {"refine_top": 0}))
        losses = fewer.candidates["refined_loss"]
        pd.testing.assert_series_equal(losses, first.candidates["refined_loss"])
        assert not fewer.candidates["finalist"].any()
        assert fewer.candidates.loc[fewer.best, "rank"] == 1


@pytest.mark.slow
def test_an_interrupted_search_goes_on_with_its_finalists(run_folder, searched, tmp_path, monkeypatch):
    shutil.copytree(searched, tmp_path / "whole")
    whole = pipeline.search(open_run(tmp_path / "whole", refine_top=2))
    with monkeypatch.context() as patch:
        stop_after(patch, 5)
        with pytest.raises(KeyboardInterrupt):
            pipeline.search(open_run(run_folder, refine_top=2))
    with pytest.raises(RunError, match="was interrupted; go on with --resume"):
        pipeline.search(open_run(run_folder, refine_top=2))
    resumed = pipeline.search(open_run(run_folder, refine_top=2), resume=True)
    pd.testing.assert_frame_equal(resumed.candidates, whole.candidates)


def test_finalists_and_a_proxy_task_exclude_each_other(run_folder):
    with pytest.raises(ConfigError, match="give one of them: --refine-top 1 or 0, or --proxy none"):
        open_run(run_folder, refine_top=2, proxy="stsb")


@pytest.mark.slow
def test_the_command_line_says_when_ranks_flip(run_folder, capsys):
    assert run("search", "--run", run_folder, "--budget", "100MFLOPs", "--refine-top", 2, "--refine-steps", 2) == 0
    out = capsys.readouterr().out
    assert "The 2 best students of the front were refined alone" in out
    assert "refined alone," in out
    assert run("search", "--run", run_folder, "--budget", "100MFLOPs", "--json") == 0
    best = json.loads(capsys.readouterr().out)["best"]
    assert best["refined_loss"] == read_refinements(run_folder / "refined")[best["id"]].loss_after


# ---- ranks, without any training


def ranked_table(losses):
    """Students a, b, ... of falling loss and rising cost: all on the front."""
    ids = [chr(ord("a") + i) for i in range(len(losses))]
    table = pd.DataFrame({"id": ids, "sub_space": "tiny", "flops": range(len(ids)), "feasible": True}, index=ids)
    table = table.assign(num_layers=range(len(ids)), hidden_size=range(len(ids), 0, -1))  # none contains another
    table = table.assign(num_heads=1, head_size=1, intermediate_size=1, params_no_embeddings=table["flops"])
    return CandidateTable(table, table[["flops"]]).scored(dict(zip(ids, losses, strict=True)))


def refinements(ranked, after, steps=5):
    return {i: Refinement(i, steps, 0.1, ranked[i].loss, loss) for i, loss in after.items()}


@pytest.mark.parametrize(
    ("after", "best", "flipped"),
    [
        ({"d": 0.5, "c": 0.6}, "d", False),
        ({"d": 0.5, "c": 0.4}, "c", True),
        ({"d": 0.5, "c": 0.5}, "c", True),  # the cheaper of equals
        ({"d": 9.0, "c": 0.9}, "c", True),
        ({"d": 9.0, "c": 9.0}, "d", False),  # both as they were
        ({"d": np.nan, "c": 1.9}, "d", False),
    ],
)
def test_finalists_are_ranked_by_the_loss_they_are_exported_with(after, best, flipped):
    plain = ranked_table([4.0, 3.0, 2.0, 1.0])
    assert best_id(plain) == "d"
    ranked = plain.refined(refinements(plain, after), 2)
    assert best_id(ranked) == best == ranked.finalists.ids[0]
    assert ranked.ranks_flipped is flipped
    (note,) = ranked.rank_notes()
    assert ("flipped" in note) == flipped
    assert list(ranked.frame["rank"]) == list(plain.frame["rank"]), "ranks by the search's own loss stay"


def test_finalists_compare_only_when_all_of_them_were_refined_alike():
    plain = ranked_table([3.0, 2.0, 1.0])
    half = plain.refined(refinements(plain, {"b": 0.1}), 2)
    mixed = {**refinements(plain, {"b": 0.1}), **refinements(plain, {"c": 0.5}, steps=6)}
    unlike = plain.refined(mixed, 2)
    for ranked in (half, unlike):
        assert best_id(ranked) == "c"
        assert not ranked.frame["finalist"].any()
        assert ranked.rank_notes() == []
        assert ranked["b"].refined_loss == 0.1


def test_results_survive_the_file(tmp_path):
    results = refinements(ranked_table([2.0, 1.0]), {"a": 0.25, "b": float("nan")})
    for refinement in results.values():
        write_refinement(refinement, tmp_path / refinement.student)
    found = read_refinements(tmp_path)
    assert found["a"] == results["a"]
    assert np.isnan(found["b"].loss_after)
    assert not found["b"].helped


def test_a_student_alone_may_have_a_name_of_its_own(tmp_path):
    teacher = random_teacher("bert")
    superlm = SuperLM.from_teacher(teacher, small_space(teacher))
    student = superlm.sub_space.smallest
    assert superlm.alone(student).sub_space.name == "small"
    alone = superlm.alone(student, "small-L2")
    assert alone.sub_space.name == "small-L2"
    trainer = SuperLMTrainer(alone, refining_recipe_of(), None, steps_done=10)
    save_checkpoint(trainer, tmp_path)
    assert load_weights(superlm.alone(student), tmp_path) == 10


def refining_recipe_of():
    from autodistil.config import RunConfig
    from autodistil.stages.training import recipe_of

    return recipe_of(RunConfig(), 10)


def test_the_problem_of_a_refined_run_is_that_of_its_search(refined):
    folder, _ = refined
    opened = open_run(folder)
    assert search_problem(opened.inputs, opened.config.budgets).feasible.all()
