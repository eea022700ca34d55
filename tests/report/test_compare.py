"""Comparing runs: hypervolume against its definition, what differs, and a page where every name is text."""

import json

import numpy as np
import pandas as pd
import plotly.graph_objects as go
import pytest
import yaml
from browser_helpers import browser, needs_browser, opened
from hypothesis import given
from hypothesis import strategies as st
from plotly.offline import get_plotlyjs
from report_helpers import EVIL, assert_only_text, exit_status, usual_report
from run_helpers import one_line

from autodistil.config import RunConfig
from autodistil.errors import ConfigError, RunError
from autodistil.report.comparison import comparison_page, front_over, headline, overlay_figure
from autodistil.report.style import DARK, LIGHT, resolve
from autodistil.space.files import load_space, space_to_dict
from autodistil.stages.comparing import compare_runs
from autodistil.student_search.pareto import hypervolume, hypervolumes
from autodistil.utils import write_text

fronts = st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)), max_size=8)

# ---- hypervolume


@given(fronts)
def test_hypervolume_counts_the_cells_that_a_point_dominates(points):
    """On whole numbers the area is the number of unit cells between a point and the reference."""
    cells = {(i, j) for x, y in points for i in range(x, 8) for j in range(y, 8)}
    assert hypervolume(np.array(points, dtype=float).reshape(-1, 2), np.array([8.0, 8.0])) == len(cells)


@given(st.lists(fronts, min_size=2, max_size=4))
def test_a_front_that_holds_another_is_no_worse_and_all_are_shares(several):
    arrays = [
        np.array(points, dtype=float).reshape(-1, 2)
        for points in (*several, [point for points in several for point in points])
    ]
    shares = hypervolumes(arrays)
    assert all(0 <= share <= 1 + 1e-9 for share in shares)
    assert all(share <= shares[-1] + 1e-9 for share in shares)


@given(fronts, st.floats(0.1, 100), st.floats(-5, 5))
def test_hypervolumes_do_not_depend_on_units(points, scale, shift):
    array = np.array([*points, (3, 4)], dtype=float)
    first, moved = ([array, array[-1:]], [array * scale + shift, array[-1:] * scale + shift])
    assert hypervolumes(moved) == pytest.approx(hypervolumes(first), abs=1e-6)


# ---- runs


SCORED_BY = {"teacher": "f00", "measure": "relation-kl", "length": "128", "held-out text": "abc"}


def write_run(folder, change=None, resolved=None, **options):
    """A searched run without its weights: `run.yaml` and `candidates.csv`."""
    candidates = usual_report().candidates
    folder.mkdir(parents=True)
    record = {
        "config": {**RunConfig().to_dict(), **options},
        "resolved": {
            "teacher_fingerprint": "f00",
            "space": space_to_dict(load_space("minilm-l6-h384")),
            "objective": "relation-kl",
            "scored_by": SCORED_BY,
            **(resolved or {}),
        },
        "versions": {"torch": "2"},
    }
    (folder / "run.yaml").write_text(yaml.safe_dump(record))
    (change(candidates) if change else candidates).to_csv(folder / "candidates.csv", index=False)
    return folder


def better(candidates):
    return candidates.assign(loss=candidates["loss"] - 0.1)


@pytest.fixture(scope="module")
def two(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    return write_run(folder / "first"), write_run(folder / "second", better, seed=1, device="cpu")


def test_the_better_run_has_the_larger_hypervolume_and_the_whole_joint_front(two):
    found = compare_runs(two)
    first, second = found.runs
    assert all(first.hypervolume[cost] < second.hypervolume[cost] for cost in ("flops", "params", "size_mb"))
    assert (first.on_joint_front, second.on_joint_front) == (0, second.students["pareto"].sum())
    assert headline(found) == "second has the largest hypervolume of loss over FLOPs."
    assert first.best == usual_report().best


def test_a_run_is_level_with_its_copy_and_nothing_differs(tmp_path):
    found = compare_runs([write_run(tmp_path / "a"), write_run(tmp_path / "b")])
    assert found.runs[0].hypervolume == found.runs[1].hypervolume
    assert headline(found) == "a and b are level over FLOPs."
    assert found.changes == ()
    assert "Nothing: options" in comparison_page(found)


def test_what_differs_is_named_by_kind(two):
    changes = {change.option: (change.group, change.values) for change in compare_runs(two).changes}
    assert changes == {"seed": ("seed", ("0", "1")), "device": ("device", ("auto", "cpu"))}


def test_another_space_teacher_and_recipe_are_named(tmp_path):
    scored_by = {**SCORED_BY, "teacher": "bar"}
    other = {"teacher_fingerprint": "bar", "scored_by": scored_by, "space": space_to_dict(load_space("smoke"))}
    runs = write_run(tmp_path / "a"), write_run(tmp_path / "b", resolved=other, teacher="x", learning_rate=2e-3)
    found = compare_runs(runs)
    groups = {change.option: change.group for change in found.changes}
    assert groups["space"] == "space"
    assert groups["teacher"] == groups["teacher_fingerprint"] == "teacher"
    assert groups["learning_rate"] == "recipe"
    assert any(option.startswith("space.") for option in groups)
    assert not found.comparable
    assert found.notes == ("Losses of b and a do not compare: the runs differ in teacher.",)


def test_runs_that_were_scored_otherwise_are_not_ranked(tmp_path):
    """Whatever their seeds are: what was recorded of the scoring decides."""
    text, measure = ({**SCORED_BY, name: "other"} for name in ("held-out text", "measure"))
    a, c = write_run(tmp_path / "a", resolved={"scored_by": text}), write_run(tmp_path / "c", better, seed=7)
    b = write_run(tmp_path / "b")
    found = compare_runs([a, b, c])
    assert [run.name for run in found.ranked] == ["b", "c"]
    assert found.notes == ("Losses of a and b do not compare: the runs differ in held-out text.",)
    assert headline(found) == "c has the largest hypervolume of loss over FLOPs of the 2 runs that compare."
    first, second = found.runs[0], compare_runs([b, c]).runs[1]
    assert (first.hypervolume, first.on_joint_front) == (None, None)
    assert found.runs[2].hypervolume == second.hypervolume  # what is not ranked moves no scale
    assert sum(len(trace["x"]) for trace in overlay_figure(found, "flops")["data"]) == 2 * len(second.students)
    comparison_page(found)
    apart = compare_runs([a, write_run(tmp_path / "d", resolved={"scored_by": {**text, **measure}})])
    assert (apart.ranked, apart.comparable) == ([], False)
    assert headline(apart) == "These runs differ in what their losses are measured on."
    assert apart.to_dict()["runs"][0]["hypervolume"] is None
    comparison_page(apart)


def test_runs_that_do_not_say_what_they_were_scored_on_are_not_ranked(tmp_path):
    old = [write_run(tmp_path / name, resolved={"scored_by": None}) for name in "ab"]
    found = compare_runs(old)
    assert found.ranked == []
    assert found.notes == (
        "Losses of b and a do not compare: b does not say what it was scored on; search there again to record it "
        "(scores are kept).",
    )


def test_refined_losses_count_where_they_are_lower(tmp_path):
    def refined(candidates):
        return candidates.assign(refined_loss=candidates["loss"] - 0.2, finalist=candidates["pareto"])

    plain, after = compare_runs([write_run(tmp_path / "a"), write_run(tmp_path / "b", refined)]).runs
    assert after.students["value"].min() == pytest.approx(plain.students["value"].min() - 0.2)


def test_scores_compare_where_all_runs_have_them_from_one_task(tmp_path):
    def scored(candidates):
        return candidates.assign(score=candidates["flops"].where(candidates["loss"].notna()) / 1e9)

    a, b = (write_run(tmp_path / name, scored, proxy="stsb") for name in "ab")
    found = compare_runs([a, b])
    assert found.measure == "score"
    assert found.runs[0].students["value"].max() == found.runs[0].students["score"].max()
    mixed = compare_runs([a, write_run(tmp_path / "c")])
    assert mixed.measure == "loss"
    assert "Task scores are left out" in mixed.notes[-1]


def test_same_names_are_told_apart_by_their_paths(tmp_path):
    runs = write_run(tmp_path / "a" / "run"), write_run(tmp_path / "b" / "run")
    assert [run.name for run in compare_runs(runs).runs] == [str(path) for path in runs]


def test_bad_input_is_refused(two, tmp_path):
    with pytest.raises(ConfigError, match="two or more"):
        compare_runs(two[:1])
    with pytest.raises(ConfigError, match="given twice"):
        compare_runs([two[0], two[0]])
    with pytest.raises(RunError, match="no run folder"):
        compare_runs([two[0], tmp_path])
    unsearched = write_run(tmp_path / "unsearched")
    (unsearched / "candidates.csv").unlink()
    with pytest.raises(RunError, match="was not searched yet"):
        compare_runs([two[0], unsearched])
    (unsearched / "candidates.csv").write_text("nonsense\n1\n")
    with pytest.raises(RunError, match="damaged"):
        compare_runs([two[0], unsearched])


def test_teachers_stand_below_the_runs_and_on_no_front(tmp_path):
    row = {"name": "my-teacher", "costs": {"flops": 1.4378e9, "params": 22.7e6, "size_mb": 90.9}, "loss": 0.0}
    runs = [write_run(tmp_path / name, resolved={"teacher_row": row}) for name in "ab"]
    found, without = compare_runs(runs), compare_runs([write_run(tmp_path / name) for name in "cd"])
    assert [teacher.name for teacher in found.teachers] == ["my-teacher"]
    assert found.changes == ()
    assert [run.hypervolume for run in found.runs] == [run.hypervolume for run in without.runs]
    html = comparison_page(found)
    assert "my-teacher (teacher)" in html
    (mark,) = [trace for trace in overlay_figure(found, "flops")["data"] if "my-teacher" in trace["name"]]
    assert mark["x"] == [1.4378e9]
    assert found.to_dict()["teachers"] == [row]


def test_an_infeasible_run_has_no_best_student_but_a_front(tmp_path):
    def infeasible(candidates):
        return candidates.assign(feasible=False, pareto=False)

    found = compare_runs([write_run(tmp_path / "a"), write_run(tmp_path / "b", infeasible)])
    assert found.runs[1].best is None
    assert found.runs[1].hypervolume["flops"] > 0
    assert found.to_dict()["runs"][1]["best"] is None
    comparison_page(found)


# ---- page and command


def test_figures_are_valid_in_both_schemes_and_draw_every_scored_student_once(two):
    found = compare_runs(two)
    for cost in found.costs:
        figure = overlay_figure(found, cost)
        go.Figure(figure)
        assert sum(len(trace["x"]) for trace in figure["data"]) == sum(len(run.students) for run in found.runs)
        for scheme in (LIGHT, DARK):
            assert "var(--" not in json.dumps(resolve(figure, scheme))


def test_hostile_names_are_text(tmp_path):
    def hostile(candidates):
        return candidates.assign(id=[EVIL, *candidates["id"][1:]], sub_space=EVIL)

    folder = tmp_path / "<img src=x onerror=alert(1)>"
    found = compare_runs([write_run(tmp_path / "a"), write_run(folder, hostile, teacher=EVIL)])
    html = comparison_page(found).replace(get_plotlyjs(), "")
    assert_only_text(html)


def test_the_command_prints_a_table_and_writes_the_page(two, tmp_path, capsys):
    assert exit_status("compare", *two, "--to", tmp_path / "compare.html") == 0
    out = capsys.readouterr().out
    assert "second has the largest hypervolume" in out
    assert "seed: seed: 0 | 1" in out
    assert (tmp_path / "compare.html").stat().st_size < 6_000_000


def test_the_command_says_in_one_line_why_a_run_is_not_ranked(tmp_path, capsys):
    other = write_run(tmp_path / "b", better, resolved={"scored_by": {**SCORED_BY, "length": "64"}})
    assert exit_status("compare", write_run(tmp_path / "a"), other, "--to", tmp_path / "c.html") == 0
    out = capsys.readouterr().out
    assert "Losses of b and a do not compare: the runs differ in length." in out
    assert "largest hypervolume" not in out


def test_the_command_prints_one_json_object(two, tmp_path, capsys):
    assert exit_status("compare", *two, "--to", tmp_path / "c.html", "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert [entry["name"] for entry in found["runs"]] == ["first", "second"]
    assert found["runs"][0]["best"]["id"] == usual_report().best
    assert {"group": "seed", "option": "seed", "values": {"first": "0", "second": "1"}} in found["changed"]
    assert found["page"] == str(tmp_path / "c.html")


def test_one_run_is_refused_in_one_line(two, capsys):
    assert exit_status("compare", two[0]) == 2
    assert "give two or more" in one_line(capsys)


def test_the_joint_front_is_over_flops():
    students = pd.DataFrame({"flops": [1, 2, 3], "value": [3, 1, 2]})
    assert front_over(students, "flops", 1)["value"].tolist() == [3, 1]
    assert front_over(students, "flops", -1)["value"].tolist() == [3]


@needs_browser
@pytest.mark.slow
def test_a_browser_draws_the_page_without_errors(two, tmp_path):
    path = write_text(tmp_path / "compare.html", comparison_page(compare_runs(two)))
    with browser() as driver:
        opened(driver, path)
        assert driver.execute_script("return document.documentElement.dataset.drawn") == "3"
        assert driver.get_log("browser") == []
