"""The command line end to end on a small teacher, and what it says to bad input: one line, status 2, nothing lost."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from wsgiref.util import setup_testing_defaults

import pandas as pd
import pytest
import torch
import typer
import yaml
from hypothesis import given
from hypothesis import strategies as st
from image_helpers import save_random_vit
from run_helpers import one_line, save_random, save_random_bert, small_modernbert, small_mpnet, write_corpus
from safetensors.torch import load_file
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from transformers import AutoModel, AutoTokenizer, BertTokenizerFast

import autodistil
from autodistil import cli
from autodistil.cli import terminal
from autodistil.cli.options import with_flags
from autodistil.cli.search import thinned
from autodistil.cli.terminal import print_table
from autodistil.costs.speed import Speed
from autodistil.evaluation.results import RESULTS, TaskResult, read_results, update_card, write_results
from autodistil.export.hub import files_of
from autodistil.models.student_files import adding
from autodistil.models.teacher import load_teacher
from autodistil.stages import timing

STEPS = ["--train-steps", "2", "--batch-size", "4", "--seq-len", "32"]


@pytest.fixture(scope="module")
def teacher_dir(tmp_path_factory, quickstart_teacher_dir):
    """A small random BERT with the real tokenizer, 4 layers x 64."""
    folder = tmp_path_factory.mktemp("teacher") / "small-bert"
    save_random_bert(folder, quickstart_teacher_dir)
    tokenizer = AutoTokenizer.from_pretrained(quickstart_teacher_dir)
    assert isinstance(tokenizer, BertTokenizerFast) or tokenizer.is_fast
    return folder


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    return write_corpus(tmp_path_factory.mktemp("text") / "corpus.txt")


def inputs(teacher_dir, corpus):
    return ["--teacher", str(teacher_dir), "--corpus", str(corpus), "--space", "smoke", "--threads", "1"]


def run(*arguments):
    """Exit status of a command line in this process."""
    with pytest.raises(SystemExit) as caught:
        cli.main([str(argument) for argument in arguments])
    return caught.value.code


@pytest.fixture(scope="module")
def searched(tmp_path_factory, teacher_dir, corpus):
    """A run that was searched once."""
    folder = tmp_path_factory.mktemp("runs") / "run"
    assert run("search", "--budget", "10MFLOPs", "--run", folder, *inputs(teacher_dir, corpus), *STEPS) == 0
    return folder


def test_a_search_fills_the_run_folder(searched):
    expected = {"run.yaml", "superlm", "metrics.jsonl", "study.db", "candidates.csv", "report.html", "students"}
    assert expected <= {path.name for path in searched.iterdir()}
    table = pd.read_csv(searched / "candidates.csv")
    axes = {"num_layers", "hidden_size", "num_heads", "head_size", "intermediate_size"}
    columns = {"id", "sub_space", "params", "flops", "size_mb", "loss", "feasible", "pareto"}
    assert axes | columns <= set(table.columns)
    assert table[table["feasible"]]["loss"].notna().all()
    (shape,) = table[~table["feasible"]].dropna(subset="loss").to_dict("records")  # that of the teacher, to look at
    assert shape["id"] == "base-L4-H64-A4-F256"
    assert not shape["pareto"]
    assert pd.isna(shape["rank"])
    record = yaml.safe_load((searched / "run.yaml").read_text())
    assert record["config"]["budgets"] == ["10MFLOPs"]
    assert record["versions"]["torch"]
    assert not list(searched.rglob("*.tmp"))


def contents(folder):
    return {path: path.read_bytes() if path.is_file() else None for path in folder.rglob("*")}


def test_a_dry_run_of_a_new_run_says_it_and_makes_no_folder(tmp_path, teacher_dir, corpus, capsys):
    command = ["search", "--dry-run", "--run", tmp_path / "run", *inputs(teacher_dir, corpus), *STEPS]
    assert run(*command, "--budget", "4MFLOPs") == 0
    said = dict(line.split(": ", 1) for line in capsys.readouterr().out.splitlines() if ": " in line)
    parts = ["run", "teacher", "students", "SuperLMs", "training", "scoring", "refining", "in all", "disk", "memory"]
    assert [part for part in said if part in parts] == parts
    assert said["run"] == f"{tmp_path / 'run'} (new; a dry run, nothing was written to it)"
    assert said["teacher"].endswith("small-bert, 6.91 MFLOPs, 2.17 M parameters: does not meet the budgets")
    assert said["SuperLMs"] == "tiny, base to train"
    assert said["training"].startswith("2 steps (as given), 2 left of about ")
    assert run(*command, "--budget", "1KFLOPs") == 2
    assert "no student of space 'smoke' meets 1KFLOPs" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_a_dry_run_of_a_searched_run_is_one_object_and_changes_nothing(searched, capsys):
    before = contents(searched)
    assert run("search", "--dry-run", "--budget", "4MFLOPs", "--run", searched, "--json") == 0
    plan = json.loads(capsys.readouterr().out)
    assert not plan["new"]
    assert plan["budgets"] == ["4MFLOPs"]
    assert not plan["teacher"]["meets_budgets"]
    table = pd.read_csv(searched / "candidates.csv")
    assert plan["feasible"] == (table["flops"] <= 4e6).sum() < plan["students"] == len(table)
    assert {sub["state"] for sub in plan["sub_spaces"]} == {"trained"}
    assert plan["training"] == {"count": 0, "seconds_each": None, "seconds": 0}
    assert plan["scoring"]["count"] == 0
    assert plan["refining"]["seconds"] == pytest.approx(plan["seconds"]) != 0
    assert plan["memory"] > plan["disk"]["student"] > plan["disk"]["checkpoints"] == 0
    assert contents(searched) == before


def test_a_second_search_trains_and_scores_nothing_again(searched, capsys):
    weights = {path: path.stat().st_mtime_ns for path in (searched / "superlm").rglob("superlm.safetensors")}
    assert run("search", "--budget", "5MFLOPs@64", "--budget", "4Mparams", "--run", searched, "--json") == 0
    result = json.loads(capsys.readouterr().out)
    keys = {
        "run",
        "budgets",
        "teacher",
        "agreement",
        "kept",
        "speeds",
        "best",
        "half",
        "near",
        "knee",
        "pareto",
        "report",
        "student",
        "notes",
        "seconds",
    }
    assert set(result) == keys
    assert result["teacher"]["name"] == "small-bert"
    assert result["teacher"]["costs"]["flops@64"] > 5e6
    assert not result["teacher"]["meets_budgets"]
    assert result["budgets"] == ["5MFLOPs@64", "4Mparams"]
    assert all(row["costs"]["flops@64"] <= 5e6 and row["costs"]["params"] <= 4e6 for row in result["pareto"])
    page = (searched / "report.html").read_text()
    assert f"{result['best']['id']} is the best student under 5MFLOPs@64 and 4Mparams." in page
    assert "flops@64" in pd.read_csv(searched / "candidates.csv")
    assert result["best"]["loss"] == min(row["loss"] for row in result["pareto"])
    assert weights == {path: path.stat().st_mtime_ns for path in (searched / "superlm").rglob("superlm.safetensors")}
    assert run("search", "--budget", "10MFLOPs", "--run", searched) == 0


@pytest.fixture
def timed(monkeypatch):
    """Forwards take what they are said to take, as other tests disturb real timings."""

    def forward_speeds(students, *_):
        return [Speed((2.0, 1.9, 2.1), (6.2, 6.1, 6.3), "1 x 64 tokens", "PyTorch on a CPU") for _ in students]

    monkeypatch.setattr(timing, "forward_speeds", forward_speeds)
    monkeypatch.setattr(timing, "where_timed", lambda device: "PyTorch on a CPU")


@pytest.mark.usefixtures("timed")
def test_how_much_faster_is_said_in_terminal_page_and_card(searched, capsys):
    assert run("search", "--budget", "10MFLOPs", "--run", searched) == 0
    out = capsys.readouterr().out
    assert "3.1 x as fast as small-bert: 2.00 ms against 6.20, 1 x 64 tokens (PyTorch on a CPU)" in out
    (half,) = (line for line in out.splitlines() if "the best at half its cost" in line)
    assert ", 3.1 x as fast as the teacher: autodistil export" in half
    page = (searched / "report.html").read_text()
    assert "2.00 ms against 6.20" in page
    best = re.search(r"^best student: (\S+):", out, re.MULTILINE)[1]
    card = (searched / "students" / best / "README.md").read_text()
    assert "There the student is 3.1 x as fast as its teacher." in card


def test_a_budget_that_the_teacher_meets_is_answered_with_it(searched, capsys):
    """And the students are found all the same; one that saves nothing is not handed back as if it were a gain."""
    assert run("search", "--budget", "10MFLOPs", "--run", searched) == 0
    out = capsys.readouterr().out
    assert "small-bert meets 10MFLOPs already: 6.91 MFLOPs. Students under it, should you want them smaller:" in out
    assert "base-L4-H64-A4-F256 would save nothing of 10MFLOPs against small-bert: no gain, so never picked" in out
    (row,) = (line for line in out.splitlines() if "small-bert (teacher)" in line)
    assert [cell.strip() for cell in row.strip("│ ").split("│")][1:] == ["6.9", "2.17", "8.7", "0", "–", "–"]
    assert "best student: base-L" in out
    assert "best student: base-L4-H64-A4-F256:" not in out
    page = (searched / "report.html").read_text()
    assert "small-bert meets 10MFLOPs already: 6.91 MFLOPs. Should you want it smaller: base-L" in page
    assert run("search", "--budget", "10MFLOPs", "--budget", "5MFLOPs", "--run", searched) == 0
    assert "already" not in capsys.readouterr().out
    assert run("search", "--budget", "10MFLOPs", "--run", searched) == 0


@pytest.mark.slow
def test_without_racing_every_student_is_scored_on_all_text(searched):
    whole = pd.read_csv(searched / "candidates.csv")
    assert set(whole[whole["feasible"]]["texts"]) == {32}
    assert run("search", "--budget", "10MFLOPs", "--racing", "pick", "--run", searched) == 0
    raced = pd.read_csv(searched / "candidates.csv")
    assert set(raced[raced["rank"] == 1]["texts"]) == {32}
    complete = raced["texts"] == 32
    pd.testing.assert_series_equal(raced["loss"][complete], whole["loss"][complete])
    assert run("search", "--budget", "10MFLOPs", "--racing", "none", "--run", searched) == 0
    pd.testing.assert_frame_equal(whole, pd.read_csv(searched / "candidates.csv"))


@pytest.mark.slow
def test_a_sampler_that_draws_nobody_in_budget_is_one_line(searched, capsys, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr("autodistil.student_search.study._MAX_MISSES", 2)
        patch.setattr("autodistil.student_search.study.Search._draw", lambda self, sampler: [])
        assert run("search", "--budget", "10MFLOPs", "--sampler", "random", "--run", searched) == 2
    assert "sampler 'random' drew no student within 10MFLOPs" in capsys.readouterr().err.splitlines()[-1]
    assert run("search", "--budget", "10MFLOPs", "--sampler", "auto", "--run", searched) == 0


@pytest.mark.slow
def test_an_export_says_how_many_in_budget_nobody_scored(searched, tmp_path, capsys):
    folder = shutil.copytree(searched, tmp_path / "a run")
    (folder / "study.db").unlink()
    assert run("search", "--budget", "10MFLOPs", "--sampler", "exhaustive", "--trials", "2", "--run", folder) == 0
    table = pd.read_csv(folder / "candidates.csv")
    feasible = table[table["flops"] <= 4e6]
    assert feasible["loss"].notna().sum() == 1
    capsys.readouterr()
    assert run("export", "--run", folder, "--budget", "4MFLOPs", "--to", tmp_path / "student") == 0
    said = capsys.readouterr().out
    assert f"{len(feasible) - 1} of {len(feasible)} students within 4MFLOPs were not scored on all text" in said
    assert f"--run '{folder}' --budget 4MFLOPs --trials {len(feasible)}\n" in said


def test_minutes_become_steps_in_a_new_run(tmp_path, teacher_dir, corpus):
    command = ["train", "--run", tmp_path / "run", *inputs(teacher_dir, corpus), "--batch-size", "4", "--seq-len", "32"]
    assert run(*command, "--train-minutes", "0.005") == 0
    steps = yaml.safe_load((tmp_path / "run" / "run.yaml").read_text())["resolved"]["train_steps"]
    rows = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert max(row["step"] for row in rows) == steps >= 1


@pytest.mark.slow
def test_minutes_of_a_search_leave_time_for_the_best_student_alone(tmp_path, teacher_dir, corpus, capsys):
    command = ["search", "--budget", "4MFLOPs", "--run", tmp_path / "run", *inputs(teacher_dir, corpus)]
    assert run(*command, "--batch-size", "4", "--seq-len", "32", "--train-minutes", "0.005") == 0
    steps, alone = map(int, re.search(r": (\d+) steps and (\d+) alone \(", capsys.readouterr().out).groups())
    assert alone == 6 * steps
    (settings,) = (tmp_path / "run" / "refined").glob("*/settings.json")
    assert json.loads(settings.read_text())["steps"] == alone


@pytest.mark.slow
def test_a_loose_budget_is_said(searched, capsys):
    assert run("search", "--budget", "5GFLOPs", "--run", searched) == 0
    assert "does not bind" in capsys.readouterr().out
    assert run("search", "--budget", "10MFLOPs", "--run", searched) == 0


@pytest.mark.parametrize("to", [".", "n" * 300])
def test_an_export_needs_a_folder_of_its_own(searched, tmp_path, monkeypatch, capsys, to):
    searched = searched.resolve()
    monkeypatch.chdir(tmp_path)
    capsys.readouterr()
    assert run("export", "--run", searched, "--to", to) == 2
    words = "is the current folder; give --to a new folder" if to == "." else "the name is too long"
    assert words in one_line(capsys)


def test_an_export_asks_for_its_libraries_before_it_works(searched, tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    monkeypatch.setattr("autodistil.pipeline.last_search", lambda *_: pytest.fail("worked first"))
    assert run("export", "--run", searched, "--to", tmp_path / "student", "--format", "onnx") == 2
    assert "needs onnxscript, which is not installed; run: pip install" in one_line(capsys)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--pick", "bset"], "(did you mean 'best'?)"),
        (["--pick", "KNEE"], "(did you mean 'knee'?)"),
    ],
)
def test_a_misspelt_pick_is_put_right(searched, tmp_path, capsys, arguments, words):
    assert run("export", "--run", searched, "--to", tmp_path / "student", *arguments) == 2
    assert words in one_line(capsys)


@pytest.mark.parametrize(
    ("teacher", "words"),
    [
        ("all-minilm-l6-v2", "(did you mean 'all-MiniLM-L6-v2'?)"),
        ("{folder}/config.json", "is a file; give the folder that it is in, '{folder}'"),
    ],
)
def test_a_teacher_that_is_nearly_named_is_put_right(tmp_path, teacher_dir, capsys, teacher, words):
    name = teacher.format(folder=teacher_dir)
    assert run("train", "--run", tmp_path / "run", "--teacher", name, *STEPS) == 2
    assert words.format(folder=teacher_dir) in one_line(capsys)


def test_a_device_that_is_not_there_is_not_suggested(tmp_path, teacher_dir, capsys, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert run("train", "--run", tmp_path / "run", "--teacher", teacher_dir, "--device", "cuda", *STEPS) == 2
    line = one_line(capsys)
    assert "device 'cuda' is not available; available here: cpu" in line


def test_version(capsys):
    assert run("--version") == 0
    assert capsys.readouterr().out == f"autodistil {autodistil.__version__}\n"


@pytest.mark.usefixtures("timed")
def test_an_export_loads_as_an_ordinary_model(searched, tmp_path, capsys):
    assert run("export", "--run", searched, "--pick", "half", "--to", tmp_path / "student") == 0
    assert "largest difference 0.0e+00" in capsys.readouterr().out
    model = AutoModel.from_pretrained(tmp_path / "student")
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "student")
    output = model(**tokenizer(["a sentence"], return_tensors="pt")).last_hidden_state
    assert output.shape[-1] == model.config.hidden_size
    card = (tmp_path / "student" / "README.md").read_text()
    assert "multiply-adds" in card
    assert "held-out loss" in card
    assert "| latency, 1 x 64 tokens | 2.00 ms (1.90 to 2.10) | 6.20 ms (6.10 to 6.30) |" in card
    assert "No licence of" in card


@pytest.mark.slow
def test_the_card_says_how_to_make_the_same_student_again(searched, tmp_path, monkeypatch, teacher_dir, corpus):
    assert run("export", "--run", searched, "--pick", "half", "--to", tmp_path / "student") == 0
    card = (tmp_path / "student" / "README.md").read_text()
    section = card.partition("## How to repeat it")[2]
    options, commands = (section.split(f"```{kind}\n")[1].split("```")[0] for kind in ("yaml", "sh"))
    (tmp_path / "run.yaml").write_text(options)
    for source in (teacher_dir, corpus):  # the card names them without their folders
        assert str(source) not in card
        (tmp_path / Path(source).name).symlink_to(source)
    monkeypatch.chdir(tmp_path)
    for line in commands.splitlines():
        assert run(*(word.replace("my-student", "again-student") for word in line.split()[1:])) == 0
    first, second = (tmp_path / name / "model.safetensors" for name in ("student", "again-student"))
    assert first.read_bytes() == second.read_bytes()


@pytest.mark.slow
def test_searching_again_keeps_what_lies_beside_a_student(searched, teacher_dir, corpus):
    best = pd.read_csv(searched / "candidates.csv").set_index("rank").loc[1, "id"]
    student = searched / "students" / best
    mine = {"notes.txt": "mine", "onnx/model.onnx": "mine"}
    for name, words in mine.items():
        (student / name).parent.mkdir(exist_ok=True)
        (student / name).write_text(words)
    result = TaskResult("stsb", "similarity", "dev", 9, 0, {"spearman": (0.5,)}, "this model", {}, {})
    with adding(student, RESULTS, "README.md"):
        write_results(student, [result])
        update_card(student, [result])
    assert run("search", "--budget", "10MFLOPs", "--run", searched) == 0
    assert {name: (student / name).read_text() for name in mine} == mine
    assert read_results(student) == [result]
    assert "| stsb | " in (student / "README.md").read_text()
    assert set(files_of(student)) == {p.name for p in student.iterdir() if p.is_file()} - {"notes.txt"}
    words = [(student / name).read_text() for name in files_of(student) if not name.endswith(".safetensors")]
    words.append((searched / "report.html").read_text())
    assert not [text[:80] for text in words if str(teacher_dir) in text or str(corpus) in text]


def test_a_plain_teacher_has_no_sentence_transformers(searched, tmp_path, capsys):
    command = ["export", "--run", searched, "--to", tmp_path / "student", "--format", "sentence-transformers"]
    assert run(*command) == 2
    allowed = "hf, onnx, onnx-int8, onnx-bits, openvino, openvino-int8"
    assert one_line(capsys).endswith(f"so its students have none; allowed: {allowed}")
    assert not (tmp_path / "student").exists()


def test_what_evaluate_finds_of_a_student_stands_in_the_report_at_once(searched, tmp_path, write_task, capsys):
    folder = shutil.copytree(searched, tmp_path / "run")
    data = write_task("extra/mine", train=[(f"a {word} day", str(word == "good")) for word in ("good", "bad")] * 8)
    write_task("extra/mine", dev=[("a good day", "True"), ("a bad day", "False")])
    student = next((folder / "students").iterdir())
    assert run("evaluate", student, "--task", "mine", "--data", data, "--threads", 1) == 0
    assert capsys.readouterr().out.splitlines()[-1] == f"report: {folder / 'report.html'}"
    assert ">mine, dev<" in (folder / "report.html").read_text()
    assert ">mine, dev<" not in (searched / "report.html").read_text()


def test_the_report_can_be_written_again(searched, tmp_path):
    (searched / "report.html").unlink()
    assert run("report", "--run", searched, "--report", tmp_path / "reports") == 0
    assert (tmp_path / "reports" / "run.html").is_file()
    assert (searched / "report.html").is_file()


def test_the_report_comes_in_other_formats(searched, tmp_path, capsys):
    out = tmp_path / "reports"
    assert run("report", "--run", searched, "--format", "md", "--format", "html", "--report", out) == 0
    assert [line.split(": ")[1] for line in capsys.readouterr().out.splitlines()] == [
        str(out / f"run.{form}") for form in ("md", "html")
    ]
    assert "## The Pareto front" in (out / "run.md").read_text()
    assert run("report", "--run", searched, "--format", "doc") == 2
    assert "allowed: html, png, pdf, md" in one_line(capsys)


def test_optuna_dashboard_serves_the_study(searched):
    dashboard = pytest.importorskip("optuna_dashboard", reason="not installed: pip install optuna-dashboard")
    answer = {}
    asked = {"REQUEST_METHOD": "GET", "PATH_INFO": "/api/studies"}
    setup_testing_defaults(asked)
    body = b"".join(dashboard.wsgi(f"sqlite:///{searched / 'study.db'}")(asked, lambda *words: answer.update(ok=words)))
    assert answer["ok"][0] == "200 OK"
    assert any(study["directions"] == ["minimize", "minimize"] for study in json.loads(body)["study_summaries"])


def test_tensorboard_reads_the_training(searched):
    rows = [json.loads(line) for line in (searched / "metrics.jsonl").read_text().splitlines()]
    events = EventAccumulator(str(searched / "tensorboard"))
    events.Reload()
    for name in {row["sub_space"] for row in rows}:
        seen = [(event.step, event.value) for event in events.Scalars(f"{name}/loss")]
        assert seen == [(row["step"], pytest.approx(row["loss"])) for row in rows if row["sub_space"] == name]


@pytest.mark.slow
def test_same_seed_same_front_in_another_process(searched, tmp_path, teacher_dir, corpus):
    command = [sys.executable, "-m", "autodistil", "search", "--budget", "10MFLOPs", "--run", str(tmp_path / "run")]
    subprocess.run([*command, *inputs(teacher_dir, corpus), *STEPS], check=True, capture_output=True, timeout=110)
    folders = (searched, tmp_path / "run")
    # Other tests search here too, under budgets of their own, so that more students are refined.
    ours, theirs = (pd.read_csv(folder / "candidates.csv").drop(columns="refined_loss") for folder in folders)
    pd.testing.assert_frame_equal(ours, theirs)


@pytest.mark.slow
@pytest.mark.parametrize("family", ["bert", "modernbert"])
def test_a_killed_training_resumes_bit_identical(tmp_path, teacher_dir, corpus, family):
    if family == "modernbert":
        teacher_dir = save_random(tmp_path / "modernbert", teacher_dir, small_modernbert())
    config = tmp_path / "options.yaml"
    config.write_text("checkpoint_seconds: 0\ntrain_steps: 12\nbatch_size: 4\nseq_len: 32\n")
    options = [*inputs(teacher_dir, corpus), "--config", str(config)]
    command = [sys.executable, "-m", "autodistil", "train"]
    subprocess.run([*command, "--run", str(tmp_path / "whole"), *options], check=True, capture_output=True, timeout=110)

    killed = subprocess.Popen([*command, "--run", str(tmp_path / "killed"), *options], stdout=subprocess.DEVNULL)
    metrics = tmp_path / "killed" / "metrics.jsonl"
    while not metrics.is_file() or metrics.read_text().count("\n") < 6:
        time.sleep(0.02)
        assert killed.poll() is None, "finished before it was killed"
    os.kill(killed.pid, signal.SIGKILL)
    killed.wait()

    half = subprocess.run(
        [*command, "--run", str(tmp_path / "killed"), *options], capture_output=True, text=True, timeout=110
    )
    assert half.returncode == 2
    assert "--resume" in half.stderr
    subprocess.run(
        [*command, "--run", str(tmp_path / "killed"), "--resume"], check=True, capture_output=True, timeout=110
    )
    for whole in (tmp_path / "whole").rglob("superlm.safetensors"):
        other = tmp_path / "killed" / whole.relative_to(tmp_path / "whole")
        ours, theirs = load_file(whole), load_file(other)
        assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    rows = [(row["sub_space"], row["step"]) for row in map(json.loads, metrics.read_text().splitlines())]
    assert len(rows) == len(set(rows)) == 12 * len(list((tmp_path / "whole" / "superlm").iterdir()))


@pytest.mark.slow
def test_ctrl_c_saves_and_prints_the_line_that_resumes(tmp_path, teacher_dir, corpus):
    command = [sys.executable, "-m", "autodistil", "train", "--run", str(tmp_path / "run"), "--train-steps", "5000"]
    process = subprocess.Popen(
        [*command, *inputs(teacher_dir, corpus)], stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True
    )
    metrics = tmp_path / "run" / "metrics.jsonl"
    while not metrics.is_file() or not metrics.read_text():
        time.sleep(0.05)
        assert process.poll() is None
    process.send_signal(signal.SIGINT)
    _, stderr = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "--resume" in stderr
    assert len(list((tmp_path / "run").rglob("checkpoint.safetensors"))) >= 1


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["search", "--budget", "5"], "allowed: a positive number with a unit"),
        (["search", "--budget", "-1GFLOPs"], "allowed"),
        (["search", "--budget", "5 parsecs"], "parsecs"),
        (["search"], "no budget is given"),
        (["search", "--budget", "1MB", "--train-steps", "0"], "train_steps = 0 is too small"),
        (["search", "--budget", "1MB", "--train-minutes", "-1"], "train_minutes"),
        (["search", "--budget", "1MB", "--train-steps", "2", "--train-minutes", "2"], "both given"),
        (["search", "--budget", "1MB", "--sampler", "nsga"], "did you mean 'nsga2'"),
        (["search", "--budget", "1MB", "--device", "tpu"], "allowed: auto, cpu, cuda, mps"),
        (["search", "--budget", "5GFLOPs", "--objective", "relation-k"], "did you mean 'relation-kl'"),
        (["search", "--budget", "10KFLOPs"], "the cheapest is"),
        (["search", "--budget", "5GFLOPs", "--space", "smok"], "did you mean 'smoke'"),
        (["search", "--budget", "5GFLOPs", "--space", "bert-base"], "at most the teacher's"),
        (["search", "--budget", "5GFLOPs", "--corpus", "/nowhere.txt"], "/nowhere.txt"),
        (["search", "--budget", "5GFLOPs", "--seq-len", "4096"], "seq_len = 4096"),
        (["search", "--budget", "5GFLOPs", "--teacher", "/nowhere/teacher"], "does not exist"),
        (["search", "--budget", "5GFLOPs", "--teacher", "no-such-model"], "cannot be loaded"),
        (["search", "--bugdet", "5GFLOPs"], "--bugdet"),
        (["serch"], "serch"),
        (["search", "--config", "/nowhere.yaml"], "/nowhere.yaml"),
        (["spaces", "smok"], "did you mean 'smoke'"),
        (["export", "--run", "/nowhere", "--to", "x"], "no run folder"),
        (["report", "--run", "/nowhere"], "no run folder"),
        (["certify", "--run", "/nowhere"], "no run folder"),
    ],
)
def test_bad_input_is_one_clear_line(arguments, expected, tmp_path, teacher_dir, corpus, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    if arguments[0] == "search":
        for flag, value in (("--teacher", teacher_dir), ("--corpus", corpus), ("--space", "smoke")):
            if flag not in arguments:
                arguments = [*arguments, flag, value]
    assert run(*arguments) == 2
    assert expected in one_line(capsys)


@pytest.mark.parametrize("content", ["teachr: x\n", "[1, 2]", "a: [", "seed: many\n", "batch_size: 1.5\n"])
def test_bad_config_files_are_refused(content, tmp_path, capsys):
    (tmp_path / "run.yaml").write_text(content)
    assert run("search", "--budget", "5GFLOPs", "--config", tmp_path / "run.yaml") == 2
    one_line(capsys)


def test_foreign_folders_are_refused_and_left_alone(tmp_path, capsys, searched, teacher_dir, corpus):
    (tmp_path / "thesis.tex").write_text("years of work")
    assert run("search", "--budget", "5GFLOPs", "--run", tmp_path) == 2
    assert "not empty" in one_line(capsys)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]
    for option, value in (
        ("--space", "auto"),
        ("--seed", "5"),
        ("--train-steps", "3"),
        ("--teacher", "all-MiniLM-L6-v2"),
    ):
        assert run("search", "--budget", "10MFLOPs", "--run", searched, option, value) == 2
        assert "was made with" in one_line(capsys)


def test_a_file_as_run_folder_is_refused(tmp_path, capsys):
    (tmp_path / "file").write_text("x")
    assert run("search", "--budget", "5GFLOPs", "--run", tmp_path / "file") == 2
    assert "is a file" in one_line(capsys)


def test_a_damaged_record_is_refused(tmp_path, searched, capsys):
    (tmp_path / "run.yaml").write_text((searched / "run.yaml").read_text()[:40])
    assert run("search", "--budget", "5GFLOPs", "--run", tmp_path) == 2
    assert "damaged" in one_line(capsys)


def test_a_full_disk_is_one_line_and_keeps_the_run(searched, capsys, monkeypatch):
    before = (searched / "candidates.csv").read_bytes()

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.replace", full)
    assert run("search", "--budget", "10MFLOPs", "--run", searched) == 2
    assert "disk is full; free some space and run the same command again, with --resume if" in one_line(capsys)
    assert (searched / "candidates.csv").read_bytes() == before


def test_a_taken_target_and_unknown_picks_are_refused(searched, tmp_path, capsys):
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "file").write_text("x")
    assert run("export", "--run", searched, "--to", tmp_path / "taken") == 2
    assert "not an empty folder" in one_line(capsys)
    assert run("export", "--run", searched, "--to", tmp_path / "new", "--pick", "nobody") == 2
    assert "allowed: best, half, near, knee or an id" in one_line(capsys)
    assert run("export", "--run", searched, "--to", tmp_path / "taken" / "file" / "below") == 2
    one_line(capsys)
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("damage", ["truncated", "garbage", "missing", "pickle", "family"])
def test_bad_teachers_are_refused(damage, tmp_path, teacher_dir, corpus, capsys):
    import shutil

    folder = tmp_path / "teacher"
    shutil.copytree(teacher_dir, folder)
    weights = folder / "model.safetensors"
    if damage == "truncated":
        weights.write_bytes(weights.read_bytes()[:-1000])
    elif damage == "garbage":
        weights.write_bytes(b"garbage")
    elif damage == "family":
        config = json.loads((folder / "config.json").read_text())
        (folder / "config.json").write_text(json.dumps({**config, "model_type": "gpt2"}))
    else:
        weights.unlink()
        if damage == "pickle":
            torch.save({}, folder / "pytorch_model.bin")
    assert run("search", "--budget", "5GFLOPs", *inputs(folder, corpus), *STEPS, "--run", tmp_path / "run") == 2
    assert ("has no family table" if damage == "family" else "weights of teacher") in one_line(capsys)
    assert not (tmp_path / "run").exists() or not list((tmp_path / "run").iterdir())


@pytest.mark.parametrize(
    "command",
    [
        [],
        ["search"],
        ["train"],
        ["report"],
        ["certify"],
        ["export"],
        ["evaluate"],
        ["spaces"],
        ["doctor"],
        ["teachers"],
    ],
)
def test_every_help_answers(command, capsys):
    assert run(*command, "--help") == 0
    assert "Usage" in capsys.readouterr().out


def test_typed_options_come_with_the_types_of_their_fields():
    seen = {}

    @with_flags("budgets", "trials", "force_table", "device")
    def command(word: str, options: dict, last: bool = False) -> None:
        """A command."""
        seen.update(options, word=word, last=last)

    app = typer.Typer()
    app.command()(command)
    typed = ["one", "--budget", "a", "--budget", "b", "--trials", "3", "--force-table", "--device", "anything"]
    app(typed, standalone_mode=False)
    expected = {"budgets": ("a", "b"), "trials": 3, "force_table": True, "device": "anything"}
    assert seen == {**expected, "word": "one", "last": False}


def test_tables_take_their_cells_literally(capsys):
    print_table("runs [bold]", ("name", "loss"), [("a[red]b", "1.0"), (":smile:", "2.0")], right=("loss",))
    shown = capsys.readouterr().out
    assert all(text in shown for text in ("runs [bold]", "a[red]b", ":smile:"))


@pytest.mark.parametrize(("width", "heads"), [(80, ["a", "b", "c", "d"]), (40, ["a", "c", "d"]), (26, ["a", "d"])])
def test_a_narrow_terminal_gets_fewer_columns_and_every_cell_whole(capsys, monkeypatch, width, heads):
    monkeypatch.setattr(terminal, "_PLAIN_WIDTH", width)
    row = ["x" * 9, "y" * 20, "z" * 14, "1.2345"]
    print_table("students", list("abcd"), [row], right=list("bcd"), no_wrap=True, first_to_go=("b", "c"))
    shown = capsys.readouterr().out
    assert re.findall(r"\b[abcd]\b", shown) == heads
    assert [cell for cell in row if cell in shown] == [row["abcd".index(name)] for name in heads]


@given(st.integers(1, 60), st.sets(st.integers(0, 59), max_size=4))
def test_a_front_that_is_cut_keeps_its_picks(count, picked):
    front = [f"s{number}" for number in range(count)]
    kept = {f"s{number}" for number in picked}
    shown = thinned(front, kept)
    assert len(shown) == min(count, 20)
    assert kept.intersection(front) <= set(shown)
    assert shown == [student for student in front if student in shown]
    others = [student for student in front if student not in kept]
    assert not others or others[0] in shown


def test_no_command_prints_the_help_and_nothing_else(capsys):
    assert run() == 2
    captured = capsys.readouterr()
    assert "Start with" in captured.out
    assert captured.err == ""


def test_help_loads_nothing_heavy():
    heavy = ("torch", "transformers", "optuna", "pandas", "numpy", "pydantic", "yaml", "rich")
    code = f"import sys, autodistil.cli; print([m for m in {heavy} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_spaces_and_doctor(capsys):
    assert run("spaces") == 0
    assert "minilm-l6-h384" in capsys.readouterr().out
    assert run("spaces", "autodistil-paper") == 0
    output = capsys.readouterr().out
    assert "256" in output
    assert "counted for a BERT" in output
    assert run("doctor") == 0
    assert "default teacher" in capsys.readouterr().out


def test_a_space_is_counted_for_its_teacher(capsys, tmp_path, teacher_dir):
    model = AutoModel.from_pretrained(teacher_dir)
    assert run("spaces", "--teacher", str(teacher_dir)) == 0
    output = capsys.readouterr().out
    assert "auto: " in output
    assert f" {sum(weight.numel() for weight in model.parameters()) / 1e6:.1f} " in output
    assert "as a bert of" in output
    vit = save_random_vit(tmp_path / "vit")
    assert run("spaces", "auto", "--teacher", str(vit)) == 0
    assert f"length {load_teacher(str(vit)).max_length}; " in capsys.readouterr().out
    assert run("spaces", "bert-base", "--teacher", str(teacher_dir)) != 0
    assert "at most the teacher's" in capsys.readouterr().err


def test_teachers_are_listed_and_their_tables_checked(capsys, teacher_dir):
    assert run("teachers") == 0
    output = capsys.readouterr().out
    assert "none: random weights only" in output
    assert "mpnet-base" in output
    assert run("teachers", "--check", teacher_dir) == 0
    assert "bert: all hold" in capsys.readouterr().out
    assert run("teachers", "--convert", "all-MiniLM-L6-v2") == 2
    assert "allowed: antiberty" in one_line(capsys)


@pytest.mark.slow
@pytest.mark.parametrize("family", ["modernbert", "mpnet"])
def test_an_export_of_another_family_loads_in_a_fresh_process(tmp_path, teacher_dir, corpus, family):
    config = {"modernbert": small_modernbert, "mpnet": small_mpnet}[family]()
    folder = save_random(tmp_path / family, teacher_dir, config)
    options = ["--budget", "10MFLOPs", "--run", tmp_path / "run", *inputs(folder, corpus), *STEPS]
    assert run("search", *options) == 0
    (student,) = (tmp_path / "run" / "students").iterdir()
    ids = torch.arange(3, 43)[None]
    ours = AutoModel.from_pretrained(student).eval()(ids).last_hidden_state
    torch.save(ours.detach(), tmp_path / "states.pt")
    code = (
        "import sys, torch; from transformers import AutoModel; model = AutoModel.from_pretrained(sys.argv[1]).eval();"
        "assert 'autodistil' not in sys.modules; states = torch.load(sys.argv[2], weights_only=True);"
        "print(model.config.model_type, torch.equal(model(torch.arange(3, 43)[None]).last_hidden_state, states))"
    )
    command = [sys.executable, "-c", code, str(student), str(tmp_path / "states.pt")]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=110)
    assert done.stdout.split() == [family, "True"]


@pytest.mark.slow
def test_the_example_runs(teacher_dir, corpus, tmp_path):
    example = Path(__file__).parents[2] / "examples" / "search_students.py"
    options = [
        f"teacher={teacher_dir}",
        f"corpus={corpus}",
        "space=smoke",
        "train_steps=1",
        "batch_size=4",
        "seq_len=32",
    ]
    command = [sys.executable, str(example), "budgets=[10MFLOPs]", "threads=1", f"run={tmp_path / 'run'}", *options]
    done = subprocess.run(command, capture_output=True, text=True, timeout=110)
    assert done.returncode == 0, done.stderr
    assert "cosine similarities" in done.stdout
