"""Rows, table and goals on made-up numbers: nothing is trained here."""

import json
from pathlib import Path

import pytest
from quality_table.bench import Skip
from quality_table.cells import RETRIEVAL_MEAN, STS_MEAN, TASK_MEAN, Cell
from quality_table.goals import goals
from quality_table.make import make_row
from quality_table.picture import figure
from quality_table.published import PUBLISHED, published_lines
from quality_table.rows import KINDS, WITHOUT_BUDGET, Row, RowSpec, RowStore, plan
from quality_table.slices import random_students
from quality_table.students import Made
from quality_table.table import collapsed, markdown, records, value_of

from autodistil.utils import Progress

BUDGETS = (60.0, 40.0)
STUDENT = {"label": "L1", "id": "x", "flops": 500_000_000, "flops_share": 0.5, "params": 5_000_000, "size_mb": 20.0}
MEAN_OF = {"stsb-test": STS_MEAN, "sts12": STS_MEAN, "med": RETRIEVAL_MEAN, "rte": TASK_MEAN}


def cell(name, value=0.5):
    return Cell(name, "k", lambda folder: {"value": value}, MEAN_OF.get(name))


CELLS = [cell("heldout"), cell("stsb"), *(cell(name) for name in MEAN_OF)]


def row(kind, budget=None, seed=None, **values):
    cells = {f"{name}@k": {"value": value} for name, value in values.items()}
    return Row(RowSpec(kind, budget, seed), "key", {**STUDENT, "steps": 3}, cells)


def full(kind, budget=None, seed=None, points=0.5):
    return row(kind, budget, seed, heldout=1.0, stsb=points, **dict.fromkeys(MEAN_OF, points))


def table_of(rows):
    return collapsed(records(rows, CELLS, {"L1": {"median_ms": 2.0, "q1_ms": 1.5, "q3_ms": 2.5}}))


# ---- rows


def test_the_plan_has_every_row_once_and_what_matters_most_first():
    specs = plan(KINDS, BUDGETS)
    assert len({spec.id for spec in specs}) == len(specs) == 2 + (len(KINDS) - 3) * 2 + 3 * 2
    assert [spec.id for spec in specs[:4]] == ["teacher", "pick-60", "pick-40", "hand-made-60"]
    assert [spec.id for spec in plan(["random-pick"], [12.5])] == [f"random-pick-12.5-{seed}" for seed in range(3)]


def test_a_row_is_read_as_it_was_written_and_a_damaged_one_is_made_again(tmp_path):
    store = RowStore(tmp_path)
    path = store.write(full("pick", 60.0))
    assert store.read(RowSpec("pick", 60.0), "key") == full("pick", 60.0)
    assert store.read(RowSpec("pick", 60.0), "other").student == {}
    path.write_text(path.read_text()[:50])
    assert store.read(RowSpec("pick", 60.0), "key") == Row(RowSpec("pick", 60.0), "key")


class _Bench:
    progress = Progress()


@pytest.fixture
def making(monkeypatch):
    """Count the students that are made."""
    made = []

    def make(bench, spec):
        made.append(spec.id)
        return Made(Path("nowhere"), dict(STUDENT))

    monkeypatch.setattr("quality_table.make.make", make)
    monkeypatch.setattr("quality_table.make.row_key", lambda bench, spec: "key")
    return made


def test_a_done_row_is_not_made_again_and_a_new_cell_alone_is_measured(tmp_path, making):
    store, spec = RowStore(tmp_path), RowSpec("pick", 60.0)
    make_row(_Bench(), store, spec, [cell("stsb")])
    make_row(_Bench(), store, spec, [cell("stsb", 0.9)])
    assert making == ["pick-60"]
    make_row(_Bench(), store, spec, [cell("stsb", 0.9), cell("rte", 0.7)])
    kept = store.read(spec, "key").cells
    assert (kept["stsb@k"]["value"], kept["rte@k"]["value"]) == (0.5, 0.7)


def test_what_was_measured_before_a_kill_is_kept(tmp_path, making):
    def killed(folder):
        raise KeyboardInterrupt

    store, spec = RowStore(tmp_path), RowSpec("pick", 60.0)
    with pytest.raises(KeyboardInterrupt):
        make_row(_Bench(), store, spec, [cell("stsb"), Cell("rte", "k", killed)])
    assert store.read(spec, "key").cells.keys() == {"stsb@k"}
    assert make_row(_Bench(), store, spec, [cell("stsb", 0.9), cell("rte")]).cells["stsb@k"]["value"] == 0.5


def test_a_skipped_row_says_why_and_is_tried_again(tmp_path, making, monkeypatch):
    def skip(bench, spec):
        raise Skip("nothing fits")

    store, spec = RowStore(tmp_path), RowSpec("truncated", 10.0)
    with monkeypatch.context() as patch:
        patch.setattr("quality_table.make.make", skip)
        assert make_row(_Bench(), store, spec, [cell("stsb")]).skipped == "nothing fits"
    assert json.loads(store.path(spec, "key").read_text())["skipped"] == "nothing fits"
    assert make_row(_Bench(), store, spec, [cell("stsb")]).skipped is None


def test_random_students_use_most_of_the_budget_and_are_always_the_same():
    costs = {f"s{i}": i for i in range(200)}
    drawn = random_students(costs, 100)
    assert sorted(costs[student] for student in drawn) == list(range(80, 101))
    assert drawn == random_students(dict(reversed(costs.items())), 100)
    assert drawn != sorted(drawn)


# ---- table


def test_rows_stand_by_budget_and_several_seeds_as_their_mean():
    seeds = [full("random-pick", 60.0, seed, points) for seed, points in enumerate((0.2, 0.4, 0.6))]
    table = table_of([full("pick", 40.0), *seeds, full("pick", 60.0), full("teacher")])
    assert list(zip(table["kind"], table["budget"].fillna(0), strict=True)) == [
        ("teacher", 0.0),
        ("pick", 60.0),
        ("random-pick", 60.0),
        ("pick", 40.0),
    ]
    assert value_of(table, "random-pick", 60.0, "stsb") == pytest.approx(40.0)
    assert value_of(table, "teacher", None, STS_MEAN) == pytest.approx(50.0)
    assert value_of(table, "pick", 20.0, "stsb") is None


def test_a_mean_is_missing_where_a_task_is():
    table = table_of([row("pick", 60.0, stsb=0.1, sts12=0.5, rte=0.5), full("teacher")])
    assert value_of(table, "pick", 60.0, STS_MEAN) is None, "without stsb-test"
    assert value_of(table, "pick", 60.0, TASK_MEAN) == 50.0
    table = table_of([row("pick", 60.0, **{"stsb": 0.1, "stsb-test": 0.5, "sts12": 0.7})])
    assert value_of(table, "pick", 60.0, STS_MEAN) == pytest.approx(60.0), "recipes are chosen on stsb"


def test_values_under_other_keys_do_not_count():
    stale = Row(RowSpec("pick", 60.0), "key", STUDENT, {"stsb@old": {"value": 0.9}})
    assert value_of(table_of([stale, full("teacher")]), "pick", 60.0, "stsb") is None


def test_the_markdown_has_every_row_with_costs_and_points():
    lines = markdown(table_of([full("teacher", points=0.9), full("pick", 60.0, points=0.875)]), ["stsb", *MEAN_OF])
    assert len({line.count("|") for line in lines}) == 1, "a cell too many or too few"
    assert "| 60 % | pick | L1 | 500 M (50.0 %) | 5.0 M | 2.00 (1.50-2.50) | 1.000 | - | 87.5 (97.2 %) |" in lines[-1]
    assert lines[2].count("90.0 (100.0 %)") == 3 + 1 + len(MEAN_OF), "the teacher keeps all of itself"


def test_the_picture_draws_each_kind_in_a_style_of_its_own():
    table = table_of([full(kind, None if kind in WITHOUT_BUDGET else 60.0) for kind in KINDS])
    traces = figure(table, [STS_MEAN])["data"]
    assert len({(trace["line"]["color"], trace["marker"]["symbol"]) for trace in traces}) == len(KINDS)


def test_published_figures_stand_with_their_sources():
    head, _, *lines = published_lines()
    assert {line.count("|") for line in lines} == {head.count("|")}
    assert "| 82.0 |" in lines[0], "all-MiniLM-L6-v2 on STS-B test"
    assert all("](https://github.com/embeddings-benchmark/results/" in line for line in lines)
    for model in PUBLISHED.values():  # 30,522 words, 514 other rows and a norm, then layers, then a pooler
        layer = 4 * 384 * 385 + 384 * 1536 * 2 + 1536 + 384 + 4 * 384
        assert not model.layers or model.params == (30_522 + 514 + 2) * 384 + model.layers * layer + 384 * 385


# ---- goals


def answers(rows, certificate=None, budgets=BUDGETS):
    return {goal.name: goal for goal in goals(table_of(rows), budgets, certificate)}


def answer(found, *words):
    (goal,) = [goal for name, goal in found.items() if all(word in name for word in words)]
    return goal.holds


def at(kind, *points):
    return [full(kind, budget, points=value) for budget, value in zip(BUDGETS, points, strict=False)]


@pytest.mark.parametrize(
    ("pick", "control", "holds"),
    [
        ((0.9, 0.7), (0.8, 0.7), True),
        ((0.9, 0.69), (0.8, 0.7), False),
        ((0.9,), (0.8, 0.7), None),
        ((0.7,), (0.8, 0.7), False),  # a no is a no, whatever is missing
    ],
)
@pytest.mark.parametrize("kind", ["layer-reduction", "layer-reduction-equal-compute"])
@pytest.mark.parametrize("measure", ["STS-B test", "STS mean", "retrieval mean"])
def test_what_users_would_take_instead_is_not_above(pick, control, holds, kind, measure):
    found = answers([*at("pick", *pick), *at(kind, *control), full("teacher")])
    assert answer(found, f"pick at or above {kind},", measure) is holds


def test_no_student_is_below_its_own_slice_on_any_mean_of_the_table():
    rows = [*at("pick", 0.8, 0.8), *at("pick-refined", 0.8, 0.5), *at("untrained", 0.7, 0.7), full("teacher")]
    found = answers(rows)
    for mean in ("STS mean", "retrieval mean", "fine-tuned mean"):
        assert answer(found, "pick at or above untrained,", mean) is True
        assert answer(found, "pick-refined at or above untrained,", mean) is False


def test_a_control_without_a_budget_is_compared_at_each():
    found = answers([*at("pick", 0.8, 0.6), full("static", points=0.7), full("teacher")])
    (goal,) = [goal for name, goal in found.items() if name == "pick at or above static, STS mean"]
    assert (goal.holds, goal.numbers) == (False, "60 %: +10.00, 40 %: -10.00")


@pytest.mark.parametrize(("pick", "holds"), [(0.7971, True), (0.7969, False)])
def test_a_third_of_a_point_below_alone_is_near(pick, holds):
    found = answers([*at("pick", pick, 0.9), *at("alone", 0.8, 0.8), full("teacher")])
    assert answer(found, "within 0.3 points of alone", "STS mean") is holds


@pytest.mark.parametrize(
    ("pick", "holds"), [((0.8, 0.795), True), ((0.8, 0.79), False), ((0.79,), False), ((0.8,), None)]
)
def test_shares_of_the_teachers_similarity(pick, holds):
    found = answers([*at("pick", *pick), full("teacher", points=0.8)])
    assert answer(found, "share of the teacher's STS-B") is holds


def test_a_control_that_does_not_exist_at_a_budget_is_named():
    found = answers([*at("pick", 0.8, 0.8), *at("truncated", 0.7), full("teacher")])
    (name,) = [name for name in found if "truncated" in name and "STS mean" in name]
    assert "at 1 of 2 budgets, elsewhere not there" in name
    assert found[name].holds is True
    assert "**yes** (60 %: +10.00)" in found[name].line


@pytest.mark.parametrize(("tau", "holds"), [(0.85, True), (0.6, False), (None, None)])
def test_the_tau_of_the_certificate(tau, holds):
    certificate = {"findings": {"sub_spaces": [{"name": "tiny", "agreement": {"tau": tau, "n": 5}}]}}
    assert answer(answers([full("teacher")], certificate), "Kendall") is holds


@pytest.mark.parametrize(("tau", "holds"), [(0.85, None), (0.6, False)])
def test_the_tau_of_a_certificate_that_leaves_a_sub_space_out(tau, holds):
    taus = {"tiny": tau, "base": None}
    sub_spaces = [{"name": name, "agreement": {"tau": value, "n": 5}} for name, value in taus.items()]
    assert answer(answers([full("teacher")], {"findings": {"sub_spaces": sub_spaces}}), "Kendall") is holds


def test_nothing_is_hidden_where_nothing_is_measured():
    found = answers([full("teacher")])
    assert {goal.holds for goal in found.values()} == {None}
    assert all("not measured" in goal.line for goal in found.values())
