"""Fine-tuned students on one page: of the same rows only, each teacher once, and every name is text."""

import json
from dataclasses import asdict, replace

import numpy as np
import plotly.graph_objects as go
import pytest
from browser_helpers import browser, needs_browser, opened
from plotly.offline import get_plotlyjs
from report_helpers import EVIL, assert_only_text, exit_status
from run_helpers import one_line

from autodistil.errors import ConfigError, RunError
from autodistil.export.adapted_folder import Adaptation, read_adaptation
from autodistil.report.adapted import adapted_page, confusion_figure, lead, reliability_figure, risk_figure
from autodistil.report.style import DARK, LIGHT, resolve
from autodistil.stages.comparing_adapted import compare_adapted
from autodistil.tasks.calibration import Abstention, calibration_error, probabilities
from autodistil.tasks.classification import Classification
from autodistil.utils import write_text

CLASSES = ("bad", "fine", "good")


def answers(skill, seed, classes, rows=300):
    random = np.random.default_rng(seed)
    labels, logits = random.integers(len(classes), size=rows), random.normal(size=(rows, len(classes)))
    logits[np.arange(rows), labels] += skill
    return labels, logits


def adaptation(skills, classes=CLASSES, **more):
    """Figures of models of these skills, `student`, `plain` and `teacher`, on the same rows."""
    given = {who: answers(skill, 0, classes) for who, skill in skills.items()}
    metrics = {
        who: {"accuracy": float((of.argmax(1) == labels).mean()), "ece": calibration_error(labels, probabilities(of))}
        for who, (labels, of) in given.items()
    }
    found = Adaptation(
        path=None,
        task="reviews",
        pairs=False,
        classes=classes,
        origin="local",
        split="dev",
        rows=300,
        train_rows=1000,
        unlabelled=0,
        metrics=metrics,
        standard_error={},
        objective="soft-targets",
        learning_rate=1e-3,
        epoch=2,
        teacher="/somewhere/my-teacher",
        scored_rows="abc",
        classification={who: Classification.of(*of, classes).to_dict() for who, of in given.items()},
        costs={who: {"params": 1e6, "size_mb": 4.0, "flops": 2e7, "tokens": 128} for who in ("student", "teacher")},
    )
    return replace(found, **more)


def write(folder, found):
    folder.mkdir(parents=True)
    write_text(folder / "adaptation.json", json.dumps(found.to_dict()))
    return folder


THREE = {"student": 2.0, "plain": 1.5, "teacher": 3.0}


@pytest.fixture
def two(tmp_path):
    rule = Abstention.of(0.1, *[(labels, probabilities(of)) for labels, of in [answers(2.0, 0, CLASSES)] * 2])
    first = adaptation(THREE, abstention=asdict(rule))
    return write(tmp_path / "first", first), write(tmp_path / "second", adaptation({**THREE, "student": 0.5}))


def test_figures_are_read_as_they_were_written(two):
    found = read_adaptation(two[0])
    assert json.loads(json.dumps(found.to_dict())) == json.loads((two[0] / "adaptation.json").read_text()) | {
        "path": str(two[0])
    }


def test_each_student_stands_with_its_plain_one_and_a_teacher_of_both_once(two):
    found = compare_adapted(two)
    assert [(model.label, model.series) for model in found.models] == [
        ("first", 0),
        ("first, labels alone", 0),
        ("second", 1),
        ("second, labels alone", 1),
        ("my-teacher (teacher)", 2),
    ]
    accuracy = [model.metrics["accuracy"] for model in found.students]
    assert lead(found) == f"first is ahead: {100 * accuracy[0]:.1f} accuracy on reviews, dev."
    error = found.students[0].standard_error["accuracy"]
    assert error == pytest.approx((accuracy[0] * (1 - accuracy[0]) / 300) ** 0.5)


def test_students_within_twice_the_error_are_level(tmp_path):
    folders = [
        write(tmp_path / name, adaptation({**THREE, "student": skill})) for name, skill in (("a", 2.0), ("b", 2.02))
    ]
    found = compare_adapted(folders)
    assert lead(found).endswith("are level on reviews, dev: what lies between them is within twice the standard error.")
    alone = compare_adapted(folders[:1])
    assert lead(alone).startswith("a: ")
    assert "its teacher" in lead(alone)


def test_figures_hold_bins_curves_and_counts_and_are_valid_in_both_schemes(two):
    found = compare_adapted(two)
    bins, risk = reliability_figure(found), risk_figure(found)
    assert [trace.get("name") for trace in bins["data"]] == [None, "first", "second", "my-teacher (teacher)"]
    for trace, (_, of) in zip(bins["data"][1:], found.drawn, strict=True):
        assert len(trace["x"]) == len(of.reliability)
    *curves, star = risk["data"]
    assert [len(trace["x"]) for trace in curves] == [100, 100, 100]
    assert star["x"][0] == pytest.approx(found.models[0].abstention["reported"]["coverage"], abs=1e-5)
    assert star["y"][0] <= 0.1
    confusions = [confusion_figure(found, of) for _, of in found.drawn]
    np.testing.assert_allclose(np.sum(confusions[0]["data"][0]["z"], axis=1), 1, atol=1e-5)
    for figure in (bins, risk, *confusions):
        go.Figure(figure)
        for scheme in (LIGHT, DARK):
            assert "var(--" not in json.dumps(resolve(figure, scheme))


def test_many_classes_have_fields_without_counts_and_names(tmp_path):
    classes = tuple(f"class {i}" for i in range(30))
    found = compare_adapted([write(tmp_path / "many", adaptation(THREE, classes))])
    figure = confusion_figure(found, found.drawn[0][1])
    assert "text" not in figure["data"][0]
    assert figure["layout"]["xaxis"]["tickvals"] == []
    html = adapted_page(found).replace(get_plotlyjs(), "")
    assert html.count("class 29") > 2


def test_scores_have_a_table_and_no_figures(tmp_path):
    scores = {"student": {"spearman": 0.8, "pearson": 0.7}, "teacher": {"spearman": 0.9, "pearson": 0.9}}
    plain = {"classes": (), "classification": {}, "metrics": scores, "costs": {}}
    found = compare_adapted([write(tmp_path / "scores", replace(adaptation(THREE), **plain))])
    html = adapted_page(found).replace(get_plotlyjs(), "")
    assert "data-figure=" not in html.split("<script")[0]
    assert "80.0" in html


@pytest.mark.parametrize(
    ("other", "said"),
    [
        ({"task": "films", "scored_rows": "def"}, r"task 'reviews', dev \(300 rows, abc\), b on task 'films'"),
        ({"scored_rows": "def"}, r"\(300 rows, abc\), b on task 'reviews', dev \(300 rows, def\)"),
    ],
)
def test_other_tasks_and_rows_are_not_laid_over_each_other(tmp_path, other, said):
    folders = write(tmp_path / "a", adaptation(THREE)), write(tmp_path / "b", adaptation(THREE, **other))
    with pytest.raises(ConfigError, match=said):
        compare_adapted(folders)


def test_damaged_figures_are_one_line(tmp_path):
    with pytest.raises(RunError, match="is no fine-tuned student"):
        compare_adapted([tmp_path])
    for number, text in enumerate(("nonsense", "{}", "[]")):
        folder = tmp_path / str(number)
        folder.mkdir()
        (folder / "adaptation.json").write_text(text)
        with pytest.raises(RunError, match="damaged"):
            compare_adapted([folder])
    with pytest.raises(RunError, match="damaged"):
        compare_adapted([write(tmp_path / "c", adaptation(THREE, classification={"student": {"aurc": 1}}))])


def test_hostile_names_are_text(tmp_path):
    found = adaptation(THREE, ("<img src=x>", EVIL, "good"), task=EVIL, teacher=EVIL)
    html = adapted_page(compare_adapted([write(tmp_path / "<img src=x onerror=alert(1)>", found)]))
    html = html.replace(get_plotlyjs(), "")
    assert_only_text(html)


# ---- commands


def test_what_is_doubted_of_a_student_stands_on_page_and_terminal(two, tmp_path, capsys):
    sure = write(tmp_path / "sure", adaptation(THREE, doubt="too sure: 99 % on average"))
    found = compare_adapted([two[0], sure])
    assert found.doubts == ["sure is too sure: 99 % on average"]
    assert '<p class="prose">sure is too sure: 99 % on average.</p>' in adapted_page(found)
    assert "too sure" not in adapted_page(compare_adapted(two[:1])).replace(get_plotlyjs(), "").replace(
        "the model is too sure", ""
    )
    assert exit_status("compare", two[0], sure, "--to", tmp_path / "c.html") == 0
    assert "sure is too sure: 99 % on average" in capsys.readouterr().out


def test_compare_prints_a_table_and_writes_the_page(two, tmp_path, capsys):
    assert exit_status("compare", *two, "--to", tmp_path / "c.html") == 0
    out = capsys.readouterr().out
    assert "first is ahead" in out
    assert "my-teacher (teacher)" in out
    assert (tmp_path / "c.html").stat().st_size < 6_000_000
    assert exit_status("compare", *two, "--to", tmp_path / "c.html", "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert [model["name"] for model in found["models"]] == ["first", "first", "second", "second", "my-teacher"]
    assert np.sum(found["models"][0]["classification"]["confusion"]) == 300
    assert found["page"] == str(tmp_path / "c.html")


def test_report_writes_the_page_of_one_student_into_its_folder(two, tmp_path, capsys):
    assert exit_status("report", two[0], "--report", tmp_path / "also") == 0
    pages = [two[0] / "report.html", tmp_path / "also" / "report.html"]
    assert capsys.readouterr().out.splitlines() == [f"report: {page}" for page in pages]
    assert pages[0].read_text() == pages[1].read_text()
    assert pages[0].read_text().replace(get_plotlyjs(), "").count("data-figure=") == 4


def test_what_cannot_be_compared_or_reported_is_one_line(two, tmp_path, capsys):
    (tmp_path / "run").mkdir()
    for arguments, said in (
        (("compare", two[0], tmp_path / "run"), "is a fine-tuned student"),
        (("compare", two[0]), "give two or more"),
        (("compare", two[0], two[0]), "given twice"),
        (("report", two[0], "--static"), "whose report is one page"),
        (("report", two[0], "--format", "pdf"), "whose report is one page"),
        (("report", two[0], "--run", tmp_path / "run"), "one of them"),
        (("report",), "one of them"),
        (("report", tmp_path / "run"), "run.yaml"),
        (("report", tmp_path), "no run folder (no run.yaml) and no fine-tuned student"),
    ):
        assert exit_status(*arguments) == 2
        assert said in one_line(capsys)


@needs_browser
@pytest.mark.slow
def test_a_browser_draws_the_page_without_errors(two, tmp_path):
    path = write_text(tmp_path / "c.html", adapted_page(compare_adapted(two)))
    with browser() as driver:
        opened(driver, path)
        assert driver.execute_script("return document.documentElement.dataset.drawn") == "5"
        assert driver.get_log("browser") == []
