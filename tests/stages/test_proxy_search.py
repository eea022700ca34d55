"""A search with a proxy task: the best score wins, nothing is scored twice, and what is scored is what is exported."""

import json
import os
import shutil
import signal
from pathlib import Path

import pandas as pd
import pytest
import yaml
from run_helpers import run_options

from autodistil import cli, pipeline
from autodistil.evaluation.embedding import embedding_similarity, folder_encoder
from autodistil.evaluation.proxy_task import ProxyTask, load_proxy
from autodistil.models.hf_folder import EvaluatedModel
from autodistil.run.run import Run
from autodistil.stages.costing import search_problem
from autodistil.stages.ranking_by_task import _Students
from autodistil.tasks.finetune import EvaluationSettings, fine_tune
from autodistil.utils import Progress

pytestmark = pytest.mark.usefixtures("no_picture")

SPACE = """
sub_spaces:
  lone: {num_layers: 2, hidden_size: 16, head_size: 16, mlp_ratio: 2.0}
  many: {num_layers: [2, 3], hidden_size: [32, 64], head_size: 16, mlp_ratio: 2.0, vocab_size: [whole, 4000]}
"""
PAIRS = [
    (f"a man walks in town {i}", f"people walk in {'town' if i % 3 else 'Quito'}", f"{i % 6}.5") for i in range(20)
]
SINGLE = [(f"a {'good' if i % 2 else 'dreadful'} day in town {i}", str(i % 2)) for i in range(24)]


def write_rows(path, rows):
    path.parent.mkdir(parents=True, exist_ok=True)
    header = ("text_a", "label") if len(rows[0]) == 2 else ("text_a", "text_b", "label")
    path.write_text("\n".join("\t".join(row) for row in [header, *rows]) + "\n")


@pytest.fixture(scope="module")
def options(tmp_path_factory, quickstart_teacher_dir):
    """Options of a run: a random BERT of 4 layers x 64 with a real tokenizer, a space of 1 + 8 students, two tasks."""
    folder = tmp_path_factory.mktemp("inputs")
    write_rows(folder / "tasks" / "glue" / "stsb" / "train.tsv", PAIRS)
    write_rows(folder / "tasks" / "mine" / "train.tsv", SINGLE)
    (folder / "tasks" / "glue" / "stsb" / "dev.tsv").write_text("no columns: not to be read\n")
    write_rows(folder / "tasks" / "dev-only" / "dev.tsv", SINGLE)
    return run_options(
        folder,
        quickstart_teacher_dir,
        SPACE,
        train_steps=2,
        data=str(folder / "tasks"),
        budgets=["1GFLOPs"],
        proxy="stsb",
        proxy_top=4,
    )


@pytest.fixture(scope="module")
def searched(tmp_path_factory, options):
    """A run that was searched with similarity on stsb as its proxy."""
    folder = tmp_path_factory.mktemp("runs") / "run"
    pipeline.search(Run.open(folder, options))
    return folder


def students_of(run):
    return _Students(run.inputs.teacher, run.superlms.of, run.inputs.device)


@pytest.fixture
def counted(monkeypatch):
    """Ids of the students that are scored, and scores that rise from student to student."""
    ids = []

    def score(self, model):
        ids.append(model.candidate.id)
        return 0.1 * len(ids)

    monkeypatch.setattr(ProxyTask, "score", score)
    return ids


def candidates(folder):
    return pd.read_csv(folder / "candidates.csv").set_index("id")


def run(*arguments):
    with pytest.raises(SystemExit) as caught:
        cli.main([str(argument) for argument in arguments])
    return caught.value.code


# ---- what is scored


def test_the_winner_is_refined_and_scored_again_with_what_is_exported(searched, options, tmp_path):
    folder = shutil.copytree(searched, tmp_path / "run")
    run = Run.open(folder, {"data": options["data"], "refine_top": 1, "refine_steps": 2})
    result = pipeline.search(run)
    task = load_proxy("stsb", Path(options["data"]))
    encode = folder_encoder(EvaluatedModel.open(str(result.student.path)))
    score = embedding_similarity(task.data, encode)["spearman"]
    assert result.table[result.best].refined_loss is not None
    (note,) = (note for note in result.notes if note.startswith("stsb, train split: "))
    before = result.table[result.best].score
    assert f"{result.best} scores {score:.4f} refined alone, {before:.4f} before" in note
    assert note in result.report.read_text()
    assert "as a slice of its SuperLM, before it was refined" in (result.student.path / "README.md").read_text()


def test_the_run_says_what_ranked_and_the_others_follow(searched):
    table = candidates(searched)
    assert table["score"].count() == 4
    assert table.loc[table["score"].idxmax(), "rank"] == 1
    assert table[table["score"].isna()]["rank"].min() > 4
    assert not table.loc[table["score"].isna(), "pareto"].any()
    record = yaml.safe_load((searched / "run.yaml").read_text())
    assert record["config"]["proxy"] == "stsb"
    proxy = record["resolved"]["proxy"]
    assert (proxy["task"], proxy["method"], proxy["metric"], proxy["students"]) == ("stsb", "similarity", "spearman", 4)
    assert not list(searched.rglob("*.tmp"))


def test_the_certificate_says_how_loss_and_score_agree(searched):
    content = json.loads((searched / "certificate.json").read_text())
    scores = candidates(searched)["score"].dropna().to_dict()
    assert content["measured"]["task_scores"] == pytest.approx(scores)
    assert content["findings"]["task"]["n"] == 4
    assert "Held-out loss against task score on stsb: Kendall tau" in (searched / "report.html").read_text()


def test_report_and_card_show_the_score(searched):
    page = (searched / "report.html").read_text()
    table = candidates(searched)
    best = table["score"].idxmax()
    assert "Task score (stsb spearman)" in page
    assert f"{table.loc[best, 'score']:.4f}" in page
    assert "dev and test splits were not read" in page
    card = (searched / "students" / best / "README.md").read_text()
    assert f"- task score: {table.loc[best, 'score']:.4f} (stsb spearman, on its train split), rank 1 of 4" in card
    assert "picked for it" in card
    assert "- ranked by: spearman on stsb" in card


def test_a_score_is_that_of_the_exported_student(searched, tmp_path, options):
    """With the whole vocabulary and with a pruned one."""
    opened = Run.open(searched)
    data = load_proxy("stsb", Path(options["data"])).data
    problem = search_problem(opened.inputs, ["1GFLOPs"])
    task = ProxyTask(data, "similarity")
    for student_id in ("many-L3-H64-A4-F128", "many-L3-H64-A4-F128-V4000"):
        score = task.score(students_of(opened).model(problem.candidates[student_id]))
        _, exported = pipeline.export(opened, student_id, tmp_path / student_id)
        encoder = folder_encoder(EvaluatedModel.open(str(exported.path)))
        assert score == pytest.approx(embedding_similarity(data, encoder)["spearman"], abs=1e-6)


def test_a_fine_tuned_score_is_that_of_the_exported_student(searched, tmp_path, options):
    opened = Run.open(searched)
    task = load_proxy("mine", Path(options["data"]), "finetune")
    student_id = "many-L2-H32-A2-F64-V4000"
    model = students_of(opened).model(search_problem(opened.inputs, ["1GFLOPs"]).candidates[student_id])
    score = task.score(model)
    _, exported = pipeline.export(opened, student_id, tmp_path / "student")
    settings = EvaluationSettings(learning_rates=(3e-4,), epochs=3)
    tuned = fine_tune(EvaluatedModel.open(str(exported.path)), task.data, settings, range(1), Progress())
    assert score == tuned.last[0]["accuracy"]


def test_texts_are_tokenised_once_for_all_students_of_a_vocabulary(searched, options, monkeypatch):
    from autodistil.tasks import batching

    calls = []
    original = batching.TokenizedRows.of.__func__
    monkeypatch.setattr(
        batching.TokenizedRows, "of", classmethod(lambda cls, *given: calls.append(1) or original(cls, *given))
    )
    opened = Run.open(searched)
    students, task = students_of(opened), load_proxy("stsb", Path(options["data"]))
    for candidate in opened.inputs.space.candidates:
        task.score(students.model(candidate))
    assert len(calls) == len({candidate.config.vocab_size for candidate in opened.inputs.space.candidates}) == 2


# ---- searching again


def test_a_second_search_scores_nothing_again(searched, counted):
    before = candidates(searched)
    pipeline.search(Run.open(searched))
    assert counted == []
    pd.testing.assert_frame_equal(candidates(searched), before)


@pytest.mark.slow
def test_other_options_score_what_is_missing_and_the_best_score_wins(tmp_path, options, counted):
    folder = tmp_path / "run"
    result = pipeline.search(Run.open(folder, {**options, "proxy_top": 2}))
    assert result.best == counted[-1], "scores rise"
    result = pipeline.search(Run.open(folder, {"proxy_top": 0}))
    assert len(counted) == len(set(counted)) == result.candidates["score"].count() == 9
    assert result.best == counted[-1]
    assert result.candidates.loc[result.best, "loss"] > result.candidates["loss"].min()

    pipeline.search(Run.open(folder, {"proxy": "mine", "proxy_top": 3}))
    assert len(counted) == 12, "another task has scores of its own"
    measured = json.loads((folder / "certificate.json").read_text())["measured"]
    assert measured["task"] == "mine"
    assert set(measured["task_scores"]) == set(counted[9:])

    result = pipeline.search(Run.open(folder, {"proxy": "none"}))
    assert len(counted) == 12
    assert "score" not in result.candidates
    assert result.candidates.loc[result.best, "loss"] == result.candidates["loss"].min()
    assert "Task score" not in (folder / "report.html").read_text()


def test_an_interrupted_scoring_goes_on(searched, tmp_path, options, counted, monkeypatch):
    import shutil

    folder = tmp_path / "run"
    shutil.copytree(searched, folder)
    (folder / "proxy.json").unlink()
    score = ProxyTask.score

    def interrupted(self, model):
        if len(counted) == 1:
            os.kill(os.getpid(), signal.SIGINT)
        return score(self, model)

    monkeypatch.setattr(ProxyTask, "score", interrupted)
    with pytest.raises(KeyboardInterrupt):
        pipeline.search(Run.open(folder, options))
    kept = json.loads((folder / "proxy.json").read_text())["proxies"][0]["scores"]
    assert sorted(kept) == sorted(counted)
    assert len(counted) == 2
    monkeypatch.setattr(ProxyTask, "score", score)
    pipeline.search(Run.open(folder))
    assert len(counted) == len(set(counted)) == 4
    assert candidates(folder)["score"].count() == 4


def test_the_report_and_export_of_later_need_no_task_data(searched, tmp_path, monkeypatch):
    monkeypatch.setattr("autodistil.stages.ranking_by_task.load_proxy", lambda *_: pytest.fail("read the task"))
    assert "Task score (stsb spearman)" in pipeline.report(Run.open(searched)).read_text()
    best, exported = pipeline.export(Run.open(searched), "best", tmp_path / "student")
    assert best == candidates(searched)["score"].idxmax()
    other = next(name for name, row in candidates(searched).iterrows() if pd.isna(row["score"]))
    _, exported = pipeline.export(Run.open(searched), other, tmp_path / "other")
    assert "- task score: none" in (exported.path / "README.md").read_text()


# ---- the command line


def test_the_command_line_shows_the_score(searched, capsys):
    assert run("search", "--run", searched, "--budget", "1GFLOPs") == 0
    printed = capsys.readouterr().out
    assert "score" in printed
    assert "scoring on stsb: 4/4" in printed
    assert run("search", "--run", searched, "--budget", "1GFLOPs", "--json") == 0
    best = json.loads(capsys.readouterr().out)["best"]
    assert best["score"] == pytest.approx(candidates(searched)["score"].max())


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--proxy", "stbs"], "did you mean 'stsb'"),
        (["--proxy", "dev-only"], "has no train split"),
        (["--data", "/nowhere"], "data folder '/nowhere' does not exist"),
        (["--proxy", "mine", "--proxy-method", "similarity"], "no scored pairs"),
        (["--proxy-method", "prob"], "did you mean 'probe'"),
        (["--proxy-top", "-1"], "proxy_top = -1 is too small"),
        (["--proxy", "none", "--data", "x"], "--data is given without a proxy task"),
    ],
)
def test_bad_input_is_one_line_and_nothing_is_lost(searched, capsys, arguments, expected):
    before = {path: path.read_bytes() for path in (searched / "candidates.csv", searched / "run.yaml")}
    assert run("search", "--run", searched, "--budget", "1GFLOPs", *arguments) == 2
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 1
    assert expected in lines[0]
    assert before == {path: path.read_bytes() for path in before}


def test_a_bad_task_is_said_before_training(tmp_path, options, capsys):
    config = tmp_path / "options.yaml"
    config.write_text(yaml.safe_dump({**options, "proxy": "nonsense"}))
    assert run("search", "--run", tmp_path / "run", "--config", config) == 2
    assert "task 'nonsense' is unknown" in capsys.readouterr().err
    assert not (tmp_path / "run" / "superlm").exists()


def test_damaged_scores_are_said_before_training(searched, tmp_path, capsys):
    import shutil

    shutil.copytree(searched, tmp_path / "run")
    (tmp_path / "run" / "proxy.json").write_text("{")
    assert run("search", "--run", tmp_path / "run") == 2
    assert "proxy.json" in capsys.readouterr().err
