"""The page is self-contained, shows what it must and treats every name as text; the picture never fails a run."""

import json
import logging
import math
import re
import shutil
import subprocess
from dataclasses import astuple, replace
from html import unescape

import numpy as np
import pandas as pd
import plotly.graph_objects as go
import pytest
from hypothesis import given
from hypothesis import strategies as st
from plotly.offline import get_plotlyjs
from report_helpers import EVIL, SHAPE, TEACHER, hostile_report, many, report_of, usual_report, with_candidates
from variants import slow_but

from autodistil.costs.budget import Budget, read_budget
from autodistil.costs.speed import Speed
from autodistil.costs.units import COSTS, cost_of, scaled, share
from autodistil.errors import RunError
from autodistil.evaluation.agreement import Agreement
from autodistil.evaluation.results import TaskResult
from autodistil.report import picture
from autodistil.report.choose import choosable, dials
from autodistil.report.front import front_figure
from autodistil.report.page import markdown, page, write_html
from autodistil.report.picture import find_chrome, write_png
from autodistil.report.rows import (
    CURVE_POINTS,
    budget_rows,
    by_rank,
    front_rows,
    headline,
    key_figures,
    lead,
    sentences,
    speed_rows,
    staircase,
    students,
    sub_space_rows,
    training_curves,
)
from autodistil.report.style import DARK, LIGHT, Scale, as_text, resolve, training_figures
from autodistil.space.files import load_space
from autodistil.student_search.candidates import CandidateTable
from autodistil.student_search.pick import best_id, half_id, knee_id
from autodistil.student_search.problem import SearchProblem


@pytest.fixture(scope="module")
def usual():
    return usual_report()


@pytest.fixture(scope="module")
def tasked(usual):
    """Every third scored student has a task score; the best by loss has none."""
    scored = usual.candidates.loc[usual.candidates["loss"].notna(), "id"]
    return report_of(load_space("minilm-l6-h384").candidates, tasked=[i for i in scored[::3] if i != usual.best])


@pytest.fixture(scope="module")
def longer(usual):
    """A search whose budget at another length binds, and the one at the run's does not."""
    space, texts = load_space("minilm-l6-h384"), ("9GFLOPs", "300MFLOPs@512")
    problem = SearchProblem(space, SHAPE, tuple(map(read_budget, texts)), 128)
    table = CandidateTable.of(problem)
    table = table.scored({i: 1.0 + 1e7 / table[i].costs["flops"] for i in table.ids if table[i].feasible})
    return replace(usual, table=table, budgets=problem.budgets, best=best_id(table), knee=knee_id(table))


def test_a_budget_at_a_length_of_its_own_is_told_like_any_other(longer):
    assert headline(longer) == f"{longer.best} is the best student under 9GFLOPs and 300MFLOPs@512."
    loose, tight = budget_rows(longer)
    out = int((~longer.candidates["feasible"]).sum())
    assert out
    assert (loose.verdict, tight.verdict) == ("does not bind: no student costs more", f"binds: {out:,} students out")
    assert tight.best == f"{cost_of('flops').text(longer.table[longer.best].costs['flops@512'])} (98 %)"
    assert [dial.limit for dial in dials(longer) if dial.column == "flops@512"] == [3e8]
    assert cost_of("flops@512").name == "FLOPs at 512 tokens"
    assert longer.table.devices == []
    assert "FLOPs at 512 tokens" in page(longer)
    another = replace(longer, knee=longer.table.front.cheapest_first.ids[0])  # its front of three bends nowhere
    assert "of its FLOPs at 512 tokens " in sentences(another)[0]


@pytest.fixture(scope="module")
def hostile():
    return hostile_report()


@pytest.fixture(scope="module")
def infeasible():
    return report_of(load_space("smoke").candidates, limit=1e5, training=False)


def without_plotly(html):
    return html.replace(get_plotlyjs(), "")


def embedded(html):
    return json.loads(re.search(r'id="report-data">(.*?)</script>', html, re.DOTALL)[1])


def drawn_students(figure):
    """Row numbers of all students that a figure draws."""
    return sorted(i for trace in figure["data"] if "meta" in trace for i in trace["meta"]["students"])


# ---- rows


def test_every_student_is_in_one_state(usual):
    table = students(usual)
    assert (table["state"] == "front").sum() == usual.candidates["pareto"].sum()
    assert (table["state"] == "unscored").sum() == usual.candidates["loss"].isna().sum()


def test_a_diverged_loss_counts_as_unscored(usual):
    candidates = usual.candidates.assign(loss=np.inf)
    assert set(students(with_candidates(usual, candidates))["state"]) == {"unscored"}


@given(st.lists(st.tuples(st.integers(1, 30), st.integers(1, 30)), min_size=1, max_size=30))
def test_staircase_is_the_front_over_one_cost(pairs):
    base = report_of(many(len(pairs)), limit=1e12)
    costs, losses = np.array(pairs, dtype=float).T
    data = with_candidates(base, base.candidates.assign(params=costs, loss=losses, feasible=True, pareto=True))
    steps = staircase(data, "params")
    found = set(zip(steps["params"], steps["loss"], strict=True))
    dominated = {(c, v) for c, v in pairs if any((d <= c and w < v) or (d < c and w <= v) for d, w in pairs)}
    assert found == set(pairs) - dominated


def test_summary_names_the_best_and_its_share_of_the_teacher(usual):
    best = usual.candidates.set_index("id").loc[usual.best]
    assert headline(usual) == f"{usual.best} is the best student under 500MFLOPs and 20Mparams."
    flops = key_figures(usual)[0]
    assert flops.value == COSTS["flops"].text(best["flops"])
    assert share(best["flops"], TEACHER.costs["flops"]) in flops.note
    half, knee = sentences(usual)[0], next(line for line in sentences(usual) if usual.knee in line)
    assert half.startswith(f"The best at half its FLOPs, {half_id(usual.table)}, takes ")
    assert knee.startswith("The knee of the front, ")


def test_the_teacher_is_a_row_of_every_table_and_no_student(usual):
    html = without_plotly(page(usual))
    front, everyone = re.findall(r"<table>.*?</table>", html, re.DOTALL)[0:2]
    for table in (front, everyone):
        last = re.findall(r"<tr.*?</tr>", table, re.DOTALL)[-1]
        assert ">all-MiniLM-L6-v2<" in last
        assert "data-pick" not in last  # a click chooses students
        assert ">1,438<" in last
        assert ">100 %<" in last
    assert budget_rows(usual)[0].teacher == "1.44 GFLOPs (288 %)"
    assert "all-MiniLM-L6-v2" not in [row[0] for row in embedded(html)["students"]]
    assert "\n| all-MiniLM-L6-v2 (teacher) | 6 | 384 |" in markdown(usual).replace("\\", "")


def test_the_best_student_stands_beside_the_teacher_and_its_untrained_slice(usual):
    found = Agreement(1.02, 1.5, 0.95, 0.91, 256)
    data = replace(usual, agreement=found)
    figures = {figure.label: figure for figure in key_figures(data)}
    assert astuple(figures["Agreement with the teacher"])[1:] == ("0.9500", "RSA; untrained slice 0.9100")
    assert figures["Held-out loss"].note == "relation-kl; the untrained slice 1.5000"
    cut = replace(found, rsa_error=0.01, cut_layers=1, cut_rsa=0.8)
    (near,) = (one for one in key_figures(replace(usual, agreement=cut)) if one.label == "Agreement with the teacher")
    assert astuple(near)[1:] == ("0.9500", "RSA ± 0.0100; untrained slice 0.9100, teacher cut to 1 layer 0.8000")
    beside, what = sentences(data)[:2]
    assert re.fullmatch(r"Beside all-MiniLM-L6-v2 it has \d+ % of its FLOPs, \d+ % of its parameters\.", beside)
    assert "all pairs of 256 held-out texts" in what
    spoiled = sentences(replace(data, agreement=replace(found, rsa=0.9)))[0]
    assert spoiled.startswith("It is worse than the untrained slice of the teacher that it started from: RSA 0.9000")
    assert "RSA" not in page(replace(data, agreement=Agreement(1.02, 1.5)))  # a teacher without embeddings


def test_how_much_faster_stands_in_figures_and_in_a_table_of_its_own(usual):
    def speed(ms, where="PyTorch on a CPU"):
        return Speed((ms, 0.9 * ms, 1.1 * ms), (12.0, 11.0, 13.0), "1 x 128 tokens", where)

    half = half_id(usual.table)
    known = {usual.best: speed(4.0), half: speed(2.0), "gone": speed(1.0), usual.knee: speed(1.0, "another machine")}
    data = replace(usual, speeds=known)
    figures = {figure.label: figure for figure in key_figures(data)}
    assert astuple(figures["As fast as the teacher"])[1:] == ("3.0 x", "4.00 ms against 12.0")
    assert [row.name for row in speed_rows(data)] == [half, usual.best, "all-MiniLM-L6-v2"]
    html = without_plotly(page(data))
    table = next(table for table in re.findall(r"<table.*?</table>", html, re.DOTALL) if "Timed here" in table)
    assert [cell in table for cell in (">2.00<", ">3.60 to 4.40<", ">6.0 x<", ">1 x<")] == [True] * 4
    assert table.count("data-pick") == 2  # a click chooses students, not the teacher
    assert "timed in turns: PyTorch on a CPU." in html
    assert "| 2.00 | 1.80 to 2.20 | 6.0 x |" in markdown(data)
    assert "As fast" not in page(usual)
    assert "Timed here" not in page(replace(data, speeds={half: speed(2.0)}))  # nothing without the best


def test_results_on_tasks_stand_on_the_page(usual):
    result = TaskResult("mrpc", "probe", "dev", 400, 3000, {"f1": (0.81, 0.83), "accuracy": (0.7,)}, "x", {}, {})
    data = replace(
        usual, tasks={usual.best: [replace(result, standard_error={"accuracy": 0.02}, baseline={"f1": 0.8})]}
    )
    html = without_plotly(page(data))
    table = next(table for table in re.findall(r"<table.*?</table>", html, re.DOTALL) if "On labelled tasks" in table)
    texts = [">mrpc, dev<", ">linear probe<", ">82.0 ± 1.4<", ">80.0<", ">70.0<", ">2.0<"]
    assert [text in table for text in texts] == [True] * 6
    assert table.count("data-pick") == 2
    assert "| mrpc, dev | linear probe | accuracy | 70.0 | 2.0 | - |" in markdown(data)
    assert "On labelled tasks" not in page(usual)
    assert "and what always answering the most frequent class gets." in html
    spans = replace(data, tasks={usual.best: [replace(result, data={"task_type": "question-answering"})]})
    assert "and what finding no answer to any question (right where its text has none) gets." in page(spans)


def test_a_budget_that_the_teacher_meets_is_said_first(usual):
    roomy = replace(usual, budgets=(Budget("flops", 5e9, None, "5GFLOPs"),))
    assert lead(roomy).startswith("all-MiniLM-L6-v2 meets 5GFLOPs already: 1.44 GFLOPs. Should you want it smaller: ")
    assert lead(roomy).endswith(f"{usual.best} is the best student under 5GFLOPs.")
    assert lead(usual) == headline(usual)  # one of the two is broken
    assert "meets 5GFLOPs already" in picture.picture_figure(roomy)["layout"]["title"]["subtitle"]["text"]


def test_a_student_that_saves_nothing_is_shown_and_not_offered(usual):
    largest = "base-L6-H384-A12-F1536"
    candidates = usual.candidates.assign(loss=usual.candidates["loss"].where(usual.candidates["id"] != largest, 0.5))
    data = replace(with_candidates(usual, candidates), no_gain=(largest,))
    table = students(data).set_index("id")
    assert table.loc[largest, "state"] == "no_gain"
    assert largest not in set(choosable(data)["id"])
    assert any(f"{largest} would save nothing" in line for line in sentences(data))
    assert re.search(rf">{largest}</button>\s*<span class=\"badge\">no gain<", page(data))


@pytest.mark.parametrize("cost", ["flops", "params"])
def test_the_teachers_point_is_in_the_chart_and_moves_no_scale(usual, cost):
    figure = front_figure(usual, cost)
    (mark,) = [trace for trace in figure["data"] if trace.get("name", "").startswith("teacher")]
    assert mark["x"] == [TEACHER.costs[cost]]
    low, high = figure["layout"]["yaxis"]["range"]
    assert low < mark["y"][0] < low + 0.05 * (high - low)
    assert mark["name"] == "teacher all-MiniLM-L6-v2, loss 0, below this axis"
    without = front_figure(replace(usual, teacher=replace(TEACHER, loss=math.nan)), cost)
    assert without["layout"]["yaxis"]["range"] == [low, high]
    assert len(without["data"]) == len(figure["data"]) - 1
    within = front_figure(replace(usual, teacher=replace(TEACHER, loss=1.05)), cost)
    (mark,) = [trace for trace in within["data"] if trace.get("name", "").startswith("teacher")]
    assert (mark["y"], mark["name"]) == ([1.05], "teacher all-MiniLM-L6-v2, loss 1.0500")


def test_budgets_say_whether_they_bind(usual):
    flops = budget_rows(usual)[0]
    over = int((usual.candidates["flops"] > 5e8).sum())
    assert flops.over == over > 0
    assert flops.verdict == f"binds: {over} students out"
    roomy = replace(usual, budgets=(replace(usual.budgets[1], limit=1e9),))
    assert budget_rows(roomy)[0].verdict == "does not bind: no student costs more"


def test_when_nobody_meets_the_budgets_the_nearest_is_named(infeasible):
    cheapest = infeasible.candidates.sort_values("flops").iloc[0]
    assert headline(infeasible) == "No student meets every budget."
    assert any(f"The nearest is {cheapest['id']}" in line for line in sentences(infeasible))
    assert budget_rows(infeasible)[0].verdict == "binds: every student costs more"


def test_a_sub_space_shows_its_best_feasible_student(usual):
    for row in sub_space_rows(usual):
        group = usual.candidates[(usual.candidates["sub_space"] == row.name) & usual.candidates["feasible"]]
        assert row.best == (group.loc[group["loss"].idxmin(), "id"] if len(group) else "–")


def test_long_trainings_are_averaged_not_cut(usual):
    steps = np.arange(1, 10_001)
    losses = {name: steps * 1.0 for name in ("loss", "largest_loss", "smallest_loss")}
    (curve,) = training_curves(
        replace(usual, training=pd.DataFrame({"sub_space": "s", "step": steps, **losses}))
    ).values()
    assert len(curve) == CURVE_POINTS
    assert curve["loss"].mean() == pytest.approx(steps.mean())


@given(st.floats(1, 9e17))
def test_scaled_numbers_have_at_most_three_digits_before_the_point(value):
    number, prefix = scaled(value)
    power = {"": 0, "K": 3, "M": 6, "G": 9, "T": 12, "P": 15}[prefix]
    assert number * 10.0**power == pytest.approx(value)
    assert number < 999.5 or prefix == "P" or value < 1e3


@pytest.mark.parametrize(
    ("cost", "value", "text"),
    [
        ("flops", 1.4378e9, "1.44 GFLOPs"),
        ("flops", 999_960_000, "1.00 GFLOPs"),
        ("flops", 42, "42.0 FLOPs"),
        ("params", 22.7e6, "22.7 M parameters"),
        ("size_mb", 438.04, "438 MB"),
    ],
)
def test_costs_in_words(cost, value, text):
    assert COSTS[cost].text(value) == text


def test_a_share_of_an_unknown_whole_is_none():
    assert share(1, None) is None
    assert share(1, float("nan")) is None
    assert (share(27, 100), share(4.24, 100), share(0.038, 100)) == ("27 %", "4.2 %", "0.04 %")


def test_with_task_scores_the_rest_is_told_apart_by_having_a_loss(tasked):
    table = students(tasked)
    has_score, has_loss = tasked.candidates["score"].notna(), tasked.candidates["loss"].notna()
    assert set(table[has_score]["state"]) <= {"front", "dominated"}
    assert set(table[~has_score & has_loss]["state"]) == {"loss_only"}
    assert set(table[~has_loss]["state"]) == {"unscored"}
    assert list(by_rank(tasked)["rank"]) == sorted(tasked.candidates["rank"].dropna())


def test_the_staircase_of_scores_climbs(tasked):
    steps = staircase(tasked, "params")
    assert steps["score"].is_monotonic_increasing
    assert steps["params"].is_monotonic_increasing
    assert steps["score"].max() == tasked.candidates["score"].max()


def test_with_task_scores_words_and_sub_spaces_are_about_the_score(tasked):
    best = tasked.candidates.set_index("id").loc[tasked.best]
    figures = {figure.label: figure for figure in key_figures(tasked)}
    assert (figures["Task score"].value, figures["Task score"].note) == (f"{best['score']:.4f}", "stsb spearman")
    assert figures["Held-out loss"].value == f"{best['loss']:.4f}"
    assert any("Ranked by stsb spearman" in line for line in sentences(tasked))
    assert max(row.value for row in sub_space_rows(tasked) if row.best != "–") == best["score"]
    assert "Task score" not in [figure.label for figure in key_figures(report_of(many(3)))]


# ---- figures


@pytest.mark.parametrize("name", ["usual", "tasked"])
@pytest.mark.parametrize("cost", ["flops", "params"])
def test_a_figure_is_valid_and_draws_every_student_once(request, name, cost):
    data = request.getfixturevalue(name)
    figure = front_figure(data, cost)
    go.Figure(figure)
    assert drawn_students(figure) == list(range(len(data.candidates)))


def test_the_axis_is_what_ranks_and_hovering_shows_both(usual, tasked):
    by_loss, by_score = (front_figure(data, "flops") for data in (usual, tasked))
    assert by_loss["layout"]["yaxis"]["title"]["text"] == "Held-out loss"
    assert by_score["layout"]["yaxis"]["title"]["text"] == "Task score (stsb spearman)"
    front = next(trace for trace in by_score["data"] if trace.get("meta", {}).get("state") == "front")
    assert front["y"] == pytest.approx(list(tasked.candidates.loc[front["meta"]["students"], "score"]), rel=1e-5)
    assert "score %" in front["hovertemplate"]
    assert "loss %" in front["hovertemplate"]
    assert not any("score %" in trace.get("hovertemplate", "") for trace in by_loss["data"])


@pytest.mark.parametrize("scheme", [LIGHT, DARK])
def test_every_colour_is_in_both_schemes(usual, scheme):
    figures = [front_figure(usual, "flops"), *training_figures(usual).values()]
    assert "var(--" not in json.dumps(resolve(figures, scheme))


def test_budget_and_teacher_lines_are_where_they_belong(usual):
    figure = front_figure(usual, "flops")
    assert {shape["x0"] for shape in figure["layout"]["shapes"]} == {5e8, TEACHER.costs["flops"]}
    texts = [note["text"] for note in figure["layout"]["annotations"]]
    assert {"budget 500MFLOPs", "teacher 1.44 GFLOPs", "<b>best</b>", "<b>knee</b>"} <= set(texts)


def test_a_far_budget_does_not_squeeze_the_students(usual):
    far = replace(usual, budgets=(Budget("flops", 9e15, None, "9PFLOPs"), Budget("flops", 1, None, "1FLOPs")))
    figure = front_figure(far, "flops")
    texts = [note["text"] for note in figure["layout"]["annotations"]]
    assert {"budget 9PFLOPs →", "← budget 1FLOPs"} <= set(texts)
    assert (
        figure["layout"]["xaxis"]["range"]
        == front_figure(replace(usual, budgets=()), "flops")["layout"]["xaxis"]["range"]
    )


def test_labels_above_the_plot_have_a_row_each(usual):
    close = tuple(Budget("flops", n * 1e6, None, f"{n}MFLOPs") for n in range(400, 406))
    notes = front_figure(replace(usual, budgets=close), "flops")["layout"]["annotations"]
    rows = [note["yshift"] for note in notes if "yshift" in note]
    assert len(rows) == len(set(rows)) == 7


@given(st.lists(st.floats(1e-3, 1e15), min_size=1, max_size=6))
def test_a_scale_shows_all_values(values):
    scale = Scale.over(values)
    assert all(0 <= scale.share(value) <= 1 for value in values)


def test_small_numbers_on_a_logarithmic_axis_are_whole():
    assert Scale.over([0.02, 0.3]).axis("x")["tickformat"] == "~g"
    assert "tickformat" not in Scale.over([2e6, 3e8]).axis("x")
    assert "tickformat" not in Scale.over([1.0, 1.1]).axis("x")


@given(st.text(max_size=120))
def test_names_in_figures_are_literal_and_short(name):
    text = as_text(name)
    assert not set(text) & set("<>${\n")
    assert len(unescape(text)) <= 42


# ---- page


@pytest.mark.parametrize("name", ["usual", "tasked"])
@pytest.mark.parametrize("cost", ["flops", "params"])
def test_the_page_finds_the_coordinates_of_students_in_their_facts(request, name, cost):
    data = request.getfixturevalue(name)
    students = embedded(page(data))["students"]
    for trace in front_figure(data, cost)["data"]:
        if (meta := trace.get("meta")) and meta["y"] is not None:
            assert [students[i][meta["x"]] for i in meta["students"]] == trace["x"]
            assert [students[i][meta["y"]] for i in meta["students"]] == trace["y"]


def test_page_needs_no_network(usual):
    html = without_plotly(page(usual))
    assert not re.search(r"""(src|href)\s*=|@import|url\(|https?:""", html)
    assert "default-src 'none'" in html


def test_page_shows_the_front_the_budgets_and_the_conventions(usual):
    html = without_plotly(page(usual))
    for student in front_rows(usual)["id"]:
        assert f"{student}<" in html
    for text in (
        "500MFLOPs",
        "20Mparams",
        "a note",
        "multiply-adds",
        "at 128 tokens",
        "relation-kl",
        usual.export_command,
    ):
        assert text in html
    data = embedded(html)
    assert [row[0] for row in data["students"]] == list(usual.candidates["id"])
    assert set(data["figures"]) == {"flops", "params", *(f"training-{i}" for i in range(len(sub_space_rows(usual))))}


def test_page_shows_scores_and_losses_side_by_side(usual, tasked):
    html = without_plotly(page(tasked))
    best = tasked.candidates.set_index("id").loc[tasked.best]
    assert f">{best['score']:.4f}<" in html
    assert f">{best['loss']:.4f}<" in html
    assert "Task score over FLOPs" in html
    assert "highest score" in html
    assert "Task score" not in without_plotly(page(usual))


def test_a_hostile_task_name_is_text(tasked):
    html = without_plotly(page(replace(tasked, score_name=EVIL)))
    assert html.count("<script") == html.count("</script") == 3
    assert "<img" not in html


def test_hostile_names_are_text(hostile):
    html = without_plotly(page(hostile))
    assert html.count("<script") == html.count("</script") == 3
    assert "<img" not in html
    assert embedded(html)["students"][hostile.candidates["id"].eq(EVIL).argmax()][0] == EVIL


@pytest.mark.parametrize("count", slow_but([1], [1, 5000]))
def test_sizes_from_one_student_to_thousands(count):
    html = page(report_of(many(count), limit=1e12))
    assert len(html.encode()) < 6_000_000
    assert html.count("<tr") < 1_000


def test_a_run_without_scores_or_training_still_has_a_page(infeasible):
    html = page(infeasible)
    assert "There are no training metrics" in html
    assert "The front is empty" in html
    assert infeasible.export_command not in html


def test_a_search_space_without_students_still_has_a_page(usual):
    data = replace(with_candidates(usual, usual.candidates.iloc[:0]), best=None, knee=None)
    assert "The search space holds no student." in page(data)


def test_an_unknown_teacher_cost_is_left_out(usual):
    data = replace(usual, teacher=replace(TEACHER, costs={}))
    assert "teacher’s" not in without_plotly(page(data)).split("<script", 1)[0].split("<h2>", 1)[0]


def test_a_failed_write_keeps_the_old_page(usual, tmp_path, monkeypatch):
    path = tmp_path / "report.html"
    path.write_text("old")
    monkeypatch.setattr("os.replace", lambda *_: (_ for _ in ()).throw(OSError(28, "full")))
    with pytest.raises(RunError, match="disk is full"):
        write_html(usual, path)
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


# ---- picture


def test_no_chrome_no_picture(usual, tmp_path, monkeypatch, caplog):
    monkeypatch.delenv("BROWSER_PATH", raising=False)
    monkeypatch.setattr(shutil, "which", lambda name: None)
    with caplog.at_level(logging.INFO):
        assert write_png(usual, tmp_path / "x.png") is None
    assert "no Chrome is found" in caplog.text
    assert list(tmp_path.iterdir()) == []


def fake_chrome(tmp_path, monkeypatch, script):
    chrome = tmp_path / "chrome"
    chrome.write_text(f"#!/bin/sh\n{script}\n")
    chrome.chmod(0o755)
    monkeypatch.setenv("BROWSER_PATH", str(chrome))


def test_no_kaleido_no_picture(usual, tmp_path, monkeypatch, caplog):
    fake_chrome(tmp_path, monkeypatch, "exit 0")
    monkeypatch.setattr(picture.importlib.util, "find_spec", lambda name: None)
    with caplog.at_level(logging.INFO):
        assert write_png(usual, tmp_path / "x.png") is None
    assert "pip install 'autodistil[png]'" in caplog.text


def test_a_chrome_that_hangs_gives_no_picture(usual, tmp_path, monkeypatch, caplog):
    pytest.importorskip("kaleido")
    fake_chrome(tmp_path, monkeypatch, "cat <&3")  # ends with the pipe, as Chrome does
    monkeypatch.setattr(picture, "TIMEOUT_SECONDS", 2.0)
    with caplog.at_level(logging.INFO):
        assert write_png(usual, tmp_path / "x.png") is None
    assert "timed out" in caplog.text
    assert not (tmp_path / "x.png").exists()


def test_a_picture_that_cannot_be_written_is_left_out(usual, tmp_path, monkeypatch):
    monkeypatch.setattr(picture, "drawn", lambda figure, form: form.encode())
    (tmp_path / "file").touch()
    assert write_png(usual, tmp_path / "file" / "x.png") is None


def test_a_written_picture_is_whole(usual, tmp_path, monkeypatch):
    monkeypatch.setattr(picture, "drawn", lambda figure, form: form.encode())
    path = tmp_path / "x.png"
    assert write_png(usual, path) == path
    assert path.read_bytes() == b"png"


@pytest.mark.parametrize("name", ["usual", "tasked", "hostile", "infeasible"])
def test_the_picture_is_a_valid_figure_in_plain_colours(request, name):
    figure = picture.picture_figure(request.getfixturevalue(name))
    go.Figure(figure)
    assert "var(--" not in json.dumps(figure).replace("var(--ink) ", "")


needs_chrome = pytest.mark.skipif(
    find_chrome() is None, reason="no Chrome or Chromium is installed (or set BROWSER_PATH)"
)


@needs_chrome
@pytest.mark.slow
def test_kaleido_draws_the_picture(usual, tmp_path):
    pytest.importorskip("kaleido", reason="kaleido is not installed: pip install 'autodistil[png]'")
    path = write_png(usual, tmp_path / "x.png")
    assert path is not None
    header = path.read_bytes()[:24]
    assert (int.from_bytes(header[16:20]), int.from_bytes(header[20:24])) == (1400, 800)


@needs_chrome
@pytest.mark.slow
@pytest.mark.parametrize("name", ["usual", "tasked", "hostile", "infeasible"])
def test_a_browser_draws_the_page_without_errors(request, name, tmp_path):
    data = request.getfixturevalue(name)
    path = write_html(data, tmp_path / "report.html")
    flags = (
        "headless no-sandbox disable-gpu disable-quic no-first-run disable-background-networking "
        "disable-component-update disable-sync enable-logging=stderr virtual-time-budget=5000 dump-dom"
    )
    command = [str(find_chrome()), *(f"--{flag}" for flag in flags.split()), f"--user-data-dir={tmp_path / 'profile'}"]
    done = subprocess.run([*command, path.as_uri()], capture_output=True, text=True, timeout=100, check=True)
    drawn = 2 + len(training_figures(data))
    assert f'data-drawn="{drawn}"' in done.stdout
    assert len(re.findall(r'class="plot[^"]*js-plotly-plot"', done.stdout)) == drawn
    # Chrome reports errors, warnings and refused loads of the page by its console.
    assert [line for line in done.stderr.splitlines() if ":CONSOLE" in line] == []
