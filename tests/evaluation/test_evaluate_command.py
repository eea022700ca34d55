"""`autodistil evaluate`: one object with --json, one line for bad input, results kept where they belong."""

import contextlib
import json
import shutil
import subprocess
import sys

import pytest
import torch
from image_helpers import save_random_vit
from safetensors.torch import load_file, save_file

from autodistil import cli

ROWS = [(f"the {w} is {q}", "1" if q == "good" else "0") for w in ("river", "road", "tree") for q in ("good", "bad")]
SCORED = [("a cat", "a dog", "1.5"), ("a cat", "a cat", "5"), ("a river", "an old wall", "0.2")]
CARD = "---\ntags:\n- autodistil\n- bert\n---\n\n# tiny\n"


def run(*arguments):
    """Exit status of a command line in this process."""
    with pytest.raises(SystemExit) as caught:
        cli.main([str(argument) for argument in arguments])
    return caught.value.code


@pytest.fixture
def data(write_task):
    write_task("extra/cr", train=ROWS, dev=ROWS)
    write_task("dev-only", dev=ROWS)
    return write_task("sts12", test=SCORED)


@pytest.fixture
def student(tiny_bert, tmp_path):
    """A folder of a user's own that autodistil exported."""
    shutil.copytree(tiny_bert, tmp_path / "student")
    (tmp_path / "student" / "README.md").write_text(CARD)
    return tmp_path / "student"


def test_where_the_run_of_a_student_has_no_report_the_line_that_writes_one_is_named(
    student, data, tmp_path, monkeypatch, capsys
):
    command = ["--task", "sts12", "--data", data, "--threads", 1]
    assert run("evaluate", student, *command) == 0
    assert "report" not in capsys.readouterr().out
    inside = shutil.copytree(student, tmp_path / "a run" / "students" / "small")
    (tmp_path / "a run" / "run.yaml").write_text("")
    monkeypatch.chdir(inside.parent)
    assert run("evaluate", "small", *command) == 0
    last = capsys.readouterr().out.splitlines()[-1]
    assert last.startswith(f"not in the report yet, as '{tmp_path}/a run/run.yaml' is damaged (")
    assert last.endswith(f"; then: autodistil report --run '{tmp_path}/a run'")


def test_json_is_one_object_and_results_are_kept(student, data, capsys):
    assert run("evaluate", student, "--task", "cr", "--task", "sts12", "--data", data, "--threads", 1, "--json") == 0
    printed = json.loads(capsys.readouterr().out)
    assert set(printed) == {"model", "results", "beside", "written"}
    assert printed["beside"] == []
    assert [(r["task"], r["method"], r["split"]) for r in printed["results"]] == [
        ("cr", "probe", "dev"),
        ("sts12", "similarity", "test"),
    ]
    assert printed["written"] == str(student / "evaluation.json")
    assert json.loads((student / "evaluation.json").read_text())["results"] == printed["results"]
    assert "| sts12 | cosine of embeddings, no training | test | 3 |" in (student / "README.md").read_text()


def test_errors_and_baseline_stand_in_json_table_and_card(student, write_task, capsys):
    data = write_task("extra/cr", train=ROWS, dev=[*ROWS, ("the cat is good", "0")])
    command = ["evaluate", student, "--task", "cr", "--data", data, "--threads", 1]
    assert run(*command, "--json") == 0
    (result,) = json.loads(capsys.readouterr().out)["results"]
    accuracy = result["metrics"]["accuracy"]["mean"]
    assert result["standard_error"] == {"accuracy": pytest.approx((accuracy * (1 - accuracy) / 7) ** 0.5)}
    assert result["baseline"] == {"accuracy": 4 / 7}
    error = result["standard_error"]["accuracy"]
    assert f"| {accuracy:.4f} | {error:.4f} | 0.5714 | 1 |" in (student / "README.md").read_text()
    assert run(*command) == 0
    printed = capsys.readouterr().out
    assert "baseline: always answering the most frequent class" in " ".join(printed.split())
    (row,) = [line for line in printed.splitlines() if line.startswith("│ cr ")]
    assert [cell.strip() for cell in row.strip("│").split("│")][-5:] == [
        "accuracy",
        f"{100 * accuracy:.1f}",
        f"{100 * error:.1f}",
        "57.1",
        "1",
    ]


def files(*folders):
    """Path and content of all files."""
    return {path: path.read_bytes() for folder in folders for path in folder.rglob("*") if path.is_file()}


@pytest.fixture
def other(student, tmp_path):
    """A second student of the user's own, half as deep."""
    folder = shutil.copytree(student, tmp_path / "other")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "num_hidden_layers": 1}))
    return folder


def test_models_beside_are_scored_as_they_are_alone_and_nothing_of_them_is_written(student, other, data, capsys):
    command = ["--task", "cr", "--task", "sts12", "--data", data, "--threads", 1, "--max-length", 16, "--json"]
    alone = {}
    for model in (student, other, "all-MiniLM-L6-v2"):
        assert run("evaluate", model, *command, "--no-write") == 0
        alone[str(model)] = json.loads(capsys.readouterr().out)["results"]
    before = files(other)
    assert run("evaluate", student, *command, "--beside", other, "--beside", "all-MiniLM-L6-v2") == 0
    printed = json.loads(capsys.readouterr().out)
    found = {printed["model"]: printed["results"], **{one["model"]: one["results"] for one in printed["beside"]}}
    assert list(found) == list(alone)

    def undated(results):
        return [{name: value for name, value in result.items() if name != "date"} for result in results]

    assert {model: undated(results) for model, results in found.items()} == {
        model: undated(results) for model, results in alone.items()
    }
    assert len({results[0]["model"] for results in found.values()}) == 3
    assert files(other) == before
    assert json.loads((student / "evaluation.json").read_text())["results"] == printed["results"]


def test_models_beside_are_rows_under_the_students(student, data, capsys):
    command = ["evaluate", student.name, "--task", "sts12", "--task", "cr", "--data", data, "--no-write"]
    with contextlib.chdir(student.parent):
        assert run(*command, "--beside", "all-MiniLM-L6-v2") == 0
        beside = table(capsys.readouterr().out)
        assert run(*command) == 0
    metrics = [("sts12", "spearman"), ("sts12", "pearson"), ("cr", "accuracy")]
    assert [(row["model"], row["task"], row["metric"]) for row in beside] == [
        (model, *metric) for metric in metrics for model in ("student", "all-MiniLM-L6-v2")
    ]
    alone = table(capsys.readouterr().out)
    assert [(row["task"], row["metric"], row["value"]) for row in alone] == [
        (row["task"], row["metric"], row["value"]) for row in beside[::2]
    ]
    assert "model" not in alone[0]


def table(printed):
    """The rows of a table, column -> cell; lines that go on with a cell are none."""
    lines = [line for line in printed.splitlines() if line[:1] in ("┃", "│")]
    head, *rows = [[cell.strip() for cell in line[1:-1].replace("┃", "│").split("│")] for line in lines]
    return [dict(zip(head, row, strict=True)) for row in rows if row[0]]


@pytest.mark.parametrize(
    ("model", "expected"),
    [
        ("/nowhere/teacher", "model folder '/nowhere/teacher' does not exist"),
        ("all-minilm-l6", "did you mean 'all-MiniLM-L6-v2'"),
        ("images", "task 'sts12' is of text, model 'images' reads images"),
    ],
)
def test_a_wrong_model_beside_is_refused_before_anything_is_scored(model, expected, student, data, capsys):
    save_random_vit(student.parent / "images")
    command = ["evaluate", student, "--task", "sts12", "--data", data, "--beside", "all-MiniLM-L6-v2"]
    with contextlib.chdir(student.parent):
        assert run(*command, "--beside", model) == 2
    assert expected in one_line(capsys)
    assert not (student / "evaluation.json").exists()


def test_finetune_adds_to_what_is_there(student, data, capsys):
    options = ["--finetune", "--seeds", 2, "--epochs", 1, "--learning-rate", "1e-3", "--learning-rate", "1e-2"]
    assert run("evaluate", student, "--task", "cr", "--data", data, "--threads", 1) == 0
    assert run("evaluate", student, "--task", "cr", "--data", data, "--threads", 1, "--max-train", 4, *options) == 0
    assert "fine-tuning, best dev epoch" in capsys.readouterr().out
    probe, tuned = sorted(
        json.loads((student / "evaluation.json").read_text())["results"], key=lambda r: -len(r["method"])
    )[::-1]
    assert (probe["method"], tuned["method"]) == ("probe", "finetune")
    assert tuned["train_rows"] == tuned["settings"]["max_train"] == 4
    assert len(tuned["metrics"]["accuracy"]["values"]) == 2
    assert tuned["details"]["best_epoch"] == [1, 1]
    assert set(tuned["details"]["grid"]) == {"0.001", "0.01"}


def test_a_foreign_folder_is_left_alone_unless_asked(tiny_bert, data, tmp_path, capsys):
    folder = tmp_path / "foreign"
    shutil.copytree(tiny_bert, folder)
    before = {path.name for path in folder.iterdir()}
    assert run("evaluate", folder, "--task", "sts12", "--data", data) == 0
    assert "not written" in capsys.readouterr().out
    assert {path.name for path in folder.iterdir()} == before
    assert run("evaluate", folder, "--task", "sts12", "--data", data, "--write") == 0
    assert {path.name for path in folder.iterdir()} == before | {"evaluation.json"}


def test_no_write_is_obeyed(student, data):
    assert run("evaluate", student, "--task", "sts12", "--data", data, "--no-write") == 0
    assert not (student / "evaluation.json").exists()


def one_line(capsys):
    captured = capsys.readouterr()
    assert captured.out == ""
    lines = captured.err.strip().splitlines()
    assert len(lines) == 1, captured.err
    assert lines[0].startswith("autodistil: ")
    return lines[0]


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ([], "no task is given"),
        (["--task", "stbs"], "did you mean 'stsb'"),
        (["--task", "cr", "--method", "prob"], "did you mean 'probe'"),
        (["--task", "cr", "--method", "similarity"], "no scored pairs"),
        (["--task", "sts12", "--finetune"], "no train split"),
        (["--task", "cr", "--task", "dev-only"], "no train split"),
        (["--task", "cr", "--method", "probe", "--finetune"], "give one of them"),
        (["--task", "cr", "--seeds", "0"], "seeds = 0 is too small"),
        (["--task", "cr", "--max-train", "0"], "max_train = 0 is too small"),
        (["--task", "cr", "--max-length", "2"], "max_length = 2 is too small"),
        (["--task", "cr", "--learning-rate", "0"], "learning rate 0.0 is out of range"),
        (["--task", "cr", "--learning-rate", "fast"], "learning-rate"),
        (["--task", "cr", "--device", "tpu"], "did you mean 'cpu'"),
        (["--task", "cr", "--max-train", "1"], "all have one label"),
    ],
)
def test_bad_options_are_one_clear_line(arguments, expected, student, data, capsys):
    status = run("evaluate", student, "--data", data, "--json", *arguments)
    captured = capsys.readouterr()
    assert status == 2
    assert captured.out == ""
    assert expected in captured.err.strip().splitlines()[-1]
    assert not (student / "evaluation.json").exists()


@pytest.mark.parametrize(
    ("model", "expected"),
    [
        ("/nowhere/student", "model folder '/nowhere/student' does not exist"),
        ("no-such-model", "model 'no-such-model' cannot be loaded"),
        (".", "holds no config.json"),
    ],
)
def test_a_model_that_is_not_there_is_one_clear_line(model, expected, data, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert run("evaluate", model, "--task", "sts12", "--data", data) == 2
    assert expected in one_line(capsys)


def test_results_cannot_be_written_into_a_package(data, capsys):
    assert run("evaluate", "all-MiniLM-L6-v2", "--task", "sts12", "--data", data, "--write") == 2
    assert "no folder of yours" in one_line(capsys)


def test_damaged_results_are_said_before_any_work(student, data, capsys):
    (student / "evaluation.json").write_text("{")
    assert run("evaluate", student, "--task", "sts12", "--data", data) == 2
    assert "is damaged" in one_line(capsys)
    assert (student / "evaluation.json").read_text() == "{"


def test_a_damaged_card_is_said_before_any_work(student, data, capsys):
    (student / "README.md").write_text("---\ntags: [\n- autodistil\n---\n")
    assert run("evaluate", student, "--task", "sts12", "--data", data) == 2
    assert "front matter" in one_line(capsys)
    assert not (student / "evaluation.json").exists()


@pytest.mark.slow
def test_evaluation_needs_no_search_training_or_report_library():
    others = ("optuna", "ray", "fvcore", "plotly", "datasets", "sentence_transformers")
    code = f"import sys, autodistil.evaluation.evaluate; print([m for m in {others} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_file_is_scored_in_the_place_of_the_weights(student, data, capsys):
    from transformers import AutoModel

    from autodistil.formats.writing import write_formats

    write_formats(AutoModel.from_pretrained(student).eval(), None, ["onnx", "onnx-int8", "openvino"], student)
    command = ["evaluate", student, "--task", "sts12", "--data", data, "--threads", 1, "--json"]
    scores = []
    files = ("onnx/model.onnx", "openvino/openvino_model.xml", "onnx/model_qint8.onnx")
    for more in (["--no-write"], *(["--file", file] for file in files)):
        assert run(*command, *more) == 0
        printed = json.loads(capsys.readouterr().out)
        assert printed["written"] is None
        scores.append(printed["results"][0]["metrics"]["pearson"]["values"][0])
        weights = load_file(student / "model.safetensors")  # whose shapes are looked at, and whose values are not read
        save_file({name: torch.zeros_like(one) for name, one in weights.items()}, student / "model.safetensors")
    assert scores[1:3] == pytest.approx(scores[:1] * 2, abs=1e-3)
    assert scores[3] != scores[1]
    assert not (student / "evaluation.json").exists()


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (["--file", "onnx/none.onnx"], "has no ONNX or OpenVINO file 'onnx/none.onnx'"),
        (["--file", "config.json"], "has no ONNX or OpenVINO file 'config.json'"),
        (["--file", "a.onnx", "--finetune"], "cannot be fine-tuned"),
        (["--file", "a.onnx", "--write"], "cannot be kept in the folder"),
    ],
)
def test_a_file_that_cannot_be_scored_is_refused(student, data, capsys, more, words):
    assert run("evaluate", student, "--task", "sts12", "--data", data, *more) == 2
    assert words in capsys.readouterr().err
