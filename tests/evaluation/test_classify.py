"""Models by the head they have: the same logits as transformers, classes by name, and heads that do not fit."""

import json

import numpy as np
import pytest
import torch
from run_helpers import one_line
from transformers import AutoModelForSequenceClassification, AutoTokenizer, pipeline

from autodistil.cli import main
from autodistil.errors import TaskError
from autodistil.evaluation.evaluate import evaluate
from autodistil.tasks.calibration import calibration_error
from autodistil.tasks.catalogue import load_task

NAMES = ("bad", "fine", "good")
ROWS = [(f"the phone number {i} is {word}", NAMES[i % 3]) for i in range(10) for word in ("broken", "plain", "lovely")]


@pytest.fixture
def headed(tiny_bert, tmp_path):
    """Writes a model with a random head of these classes, the last `flip` of them in the reverse order."""

    def write(names, folder="model", order=None):
        torch.manual_seed(1)
        count = len(names)
        model = AutoModelForSequenceClassification.from_pretrained(tiny_bert, num_labels=count)
        with torch.no_grad():
            model.classifier.weight.mul_(50)
            for parameter in model.classifier.parameters():
                parameter.copy_(parameter[order or list(range(count))])
        shown = [names[i] for i in order or range(count)]
        model.config.id2label = dict(enumerate(shown))
        model.config.label2id = {name: i for i, name in enumerate(shown)}
        model.config.problem_type = "regression" if count == 1 else "single_label_classification"
        model.save_pretrained(tmp_path / folder)
        AutoTokenizer.from_pretrained(tiny_bert).save_pretrained(tmp_path / folder)
        return str(tmp_path / folder)

    return write


@pytest.fixture
def data(write_task):
    write_task("scored", dev=[("a cat", "a dog", "1.5"), ("a cat", "a cat", "5"), ("a", "an old wall", "0.2")])
    write_task(
        "extra/cr", train=[(text, str(int(name == "good"))) for text, name in ROWS], dev=[("a", "0"), ("b", "1")]
    )
    return write_task("reviews", dev=ROWS)


def test_the_head_answers_as_it_does_in_a_pipeline(headed, data):
    source = headed(NAMES)
    (result,) = evaluate(source, ["reviews"], data).results
    assert (result.method, result.rows, result.train_rows) == ("classify", 30, 0)
    answers = pipeline("text-classification", source, top_k=None)([text for text, _ in ROWS])
    table = np.array([[next(a["score"] for a in row if a["label"] == name) for name in NAMES] for row in answers])
    labels = load_task("reviews", data).evaluated.labels
    assert result.metrics["accuracy"] == ((table.argmax(1) == labels).mean(),)
    assert result.metrics["ece"][0] == pytest.approx(calibration_error(labels, table), abs=1e-5)
    assert result.details["classes"] == list(NAMES)
    assert np.sum(result.details["confusion"], axis=0).tolist() == np.bincount(table.argmax(1), minlength=3).tolist()
    assert np.sum(result.details["confusion"], axis=1).tolist() == np.bincount(labels).tolist()
    assert result.details["per_class"]["bad"]["support"] == 12
    assert result.baseline == {"accuracy": 12 / 30}


def test_classes_are_matched_by_name_and_unnamed_ones_by_number(headed, data):
    straight, crossed = headed(NAMES), headed(NAMES, "crossed", [2, 0, 1])
    unnamed = headed(("LABEL_0", "LABEL_1", "LABEL_2"), "unnamed")
    results = [evaluate(source, ["reviews"], data).results[0] for source in (straight, crossed, unnamed)]
    assert {result.method for result in results} == {"classify"}
    assert results[0].metrics == results[1].metrics == results[2].metrics
    assert results[0].details == results[1].details


def test_a_head_of_one_number_scores_pairs(headed, data):
    (result,) = evaluate(headed(("score",)), ["scored"], data).results
    assert (result.method, list(result.metrics), result.details) == ("classify", ["spearman", "pearson"], {})


def test_other_heads_and_tasks_are_as_they_were(headed, tiny_bert, data):
    others = headed(("yes", "no"))
    assert evaluate(others, ["cr"], data).results[0].method == "probe", "two classes of other names are another task"
    assert evaluate(others, ["cr"], data, method="classify").results[0].method == "classify"
    found = evaluate(headed(NAMES, "named"), ["scored"], data)
    assert found.results[0].method == "similarity"
    beside = evaluate(headed(("0", "1"), "two"), ["cr"], data, beside=[str(tiny_bert)])
    assert [beside.results[0].method, beside.beside[str(tiny_bert)][0].method] == ["probe", "probe"]


def test_what_does_not_fit_is_one_line_before_any_work(headed, tiny_bert, data):
    source = headed(NAMES)
    for error, said, task, given in (
        (TaskError, "has no classification head", "reviews", {"source": str(tiny_bert)}),
        (TaskError, "has no classification head", "reviews", {"beside": [str(tiny_bert)]}),
        (TaskError, r"tells 3 classes apart \(bad, fine, good\), task 'cr' has 2: 0, 1", "cr", {}),
        (TaskError, "task 'scored' has scores", "scored", {}),
    ):
        with pytest.raises(error, match=said):
            evaluate(**{"source": source, "tasks": [task], "data_dir": data, "method": "classify", **given})


def test_confusion_is_kept_in_the_folder_and_the_card_says_how(headed, data, tmp_path, capsys):
    source = headed(NAMES)
    (tmp_path / "model" / "README.md").write_text("---\ntags:\n- autodistil\n- bert\n---\n\n# tiny\n")
    with pytest.raises(SystemExit) as end:
        main(["evaluate", source, "--task", "reviews", "--data", str(data), "--threads", "1"])
    assert end.value.code == 0
    assert "its own head, no training" in capsys.readouterr().out
    (kept,) = json.loads((tmp_path / "model" / "evaluation.json").read_text())["results"]
    assert np.sum(kept["details"]["confusion"]) == 30
    assert "| reviews | its own head, no training | dev | 30 |" in (tmp_path / "model" / "README.md").read_text()
    with pytest.raises(SystemExit) as end:
        main(["evaluate", source, "--task", "cr", "--data", str(data), "--method", "classify"])
    assert end.value.code == 2
    assert "tells 3 classes apart" in one_line(capsys)
