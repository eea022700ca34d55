"""The table of candidates: bytes of `candidates.csv`, what is read back, one student as a typed row, and orders."""

import json
import math
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from autodistil.costs.budget import read_budget
from autodistil.costs.closed_form import cost_table
from autodistil.errors import RunError
from autodistil.space.shape import EncoderShape
from autodistil.space.space import SearchSpace, SubSpace
from autodistil.space.student import DIMENSIONS
from autodistil.student_search.candidates import CandidateTable, Refinement
from autodistil.student_search.certificate.assess import assess
from autodistil.student_search.certificate.measured import CertificateLosses
from autodistil.student_search.pareto import pareto_mask, staircase
from autodistil.student_search.pick import best_id, pick_student
from autodistil.student_search.problem import SearchProblem

PINNED = Path(__file__).parent / "candidates"
"""Files as they were written before there was a `CandidateTable`."""
SHAPE = EncoderShape(1000, 64, None, pooler=True)
GRID = {"head_size": (16,), "mlp_ratio": (1.0, 2.0)}
SPACE = SearchSpace(
    "pinned",
    "",
    (
        SubSpace("tiny", {**GRID, "num_layers": (1, 2), "hidden_size": (32,)}),
        SubSpace("base", {**GRID, "num_layers": (2, 3), "hidden_size": (32, 64), "mlp_ratio": (2.0,)}),
    ),
)
IDS = [candidate.id for candidate in SPACE.candidates]
LOSSES = dict(zip(IDS, [0.5, 0.375, 0.375, 0.25, 0.25, 0.125, math.inf], strict=False))
"""With equals in both sub-spaces; one diverged, the last was never scored."""
TEXTS = dict(zip(IDS, [64] * 7, strict=False))
SCORES = {IDS[1]: 0.5, IDS[2]: 0.5, IDS[3]: 0.75}
REFINED = {
    IDS[3]: Refinement(IDS[3], 5, 0.1, 0.25, 0.125),
    IDS[4]: Refinement(IDS[4], 5, 0.1, 0.25, 0.5),
    IDS[1]: Refinement(IDS[1], 5, 0.1, 0.375, math.nan),
}


def problem(*budgets, devices=None):
    return SearchProblem(SPACE, SHAPE, tuple(map(read_budget, budgets)), 16, devices or {})


def on_laptop():
    """A problem with a budget of a device, whose costs are told."""
    budget = read_budget("2ms@laptop")
    cost = [1.5, 1.25, 2.0, 1.0, 3.0, 4.0, 2.5, 5.0]
    measured = [np.nan, 1.25, *[np.nan] * 6]
    predicted = [cost[0], 1.5, *cost[2:]]
    table = pd.DataFrame(
        {"cost": cost, "predicted": predicted, "low": 0.5, "high": 6.0, "measured": measured}, index=IDS
    )
    names = {"cost": budget.column, **{name: f"{budget.column} {name}" for name in table if name != "cost"}}
    told = SimpleNamespace(table=table, columns=table.rename(columns=names), measurable=True)
    return problem(budget.text, devices={budget.text: told})


USUAL = CandidateTable.of(problem("1MFLOPs", "200Kparams"))
TABLES = {
    "unscored": USUAL.scored({}),
    "losses": USUAL.scored(LOSSES, TEXTS),
    "scores": USUAL.scored(LOSSES, TEXTS, SCORES),
    "refined": USUAL.scored(LOSSES, TEXTS).refined(REFINED, 2),
    "devices": CandidateTable.of(on_laptop()).scored(LOSSES, TEXTS, SCORES).refined(REFINED, 1),
}

# ---- candidates.csv


@pytest.mark.parametrize("name", TABLES)
def test_the_file_is_the_same_to_the_byte(name, tmp_path):
    TABLES[name].write(tmp_path / "candidates.csv")
    assert (tmp_path / "candidates.csv").read_bytes() == (PINNED / f"{name}.csv").read_bytes()


def test_the_perplexity_stands_in_the_last_column(tmp_path):
    USUAL.scored({IDS[3]: 0.0}, {IDS[3]: 64}).write(tmp_path / "candidates.csv", perplexity=True)
    assert (tmp_path / "candidates.csv").read_bytes() == (PINNED / "perplexity.csv").read_bytes()


@pytest.mark.parametrize("name", TABLES)
def test_a_file_that_is_read_says_the_same_of_every_student(name):
    read, table = CandidateTable.read(PINNED / f"{name}.csv"), TABLES[name]
    assert [read[student_id] for student_id in read.ids] == [table[student_id] for student_id in IDS]
    assert read.front.best_first.ids == table.front.best_first.ids
    assert read.ranking == table.ranking
    assert read.devices == table.devices


def test_what_was_scored_is_ranked_under_other_budgets():
    tight = problem("150KFLOPs")
    for name in ("losses", "scores"):
        found = CandidateTable.read(PINNED / f"{name}.csv", tight)
        expected = CandidateTable.of(tight).scored(LOSSES, TEXTS, SCORES if name == "scores" else {})
        pd.testing.assert_frame_equal(found.frame, expected.frame)
        assert found.front.ids == (IDS[:1] if name == "losses" else [])


def test_an_estimate_is_no_loss_and_nobody_is_picked_by_it(tmp_path):
    """Of what a race stopped: under its own budgets, under others, read back, and from a file that calls it a loss."""
    some = {IDS[0]: 64, IDS[1]: 16, IDS[2]: 64, IDS[3]: 32}
    losses = {IDS[0]: 0.5, IDS[1]: 0.25, IDS[2]: 0.375, IDS[3]: 0.3}
    table, tight = CandidateTable.of(problem("1MFLOPs")).scored(losses, some), problem("200KFLOPs")
    path = tmp_path / "candidates.csv"
    table.write(path)
    old = pd.read_csv(path)
    old["loss"] = old["loss"].fillna(old.pop("estimate"))
    old.to_csv(tmp_path / "old.csv", index=False)
    reads = [partial(CandidateTable.read, tmp_path / name) for name in ("candidates.csv", "old.csv")]
    for read in reads:
        assert read().known("loss") == {IDS[0]: 0.5, IDS[2]: 0.375}
        assert read().known("estimate") == {IDS[1]: 0.25, IDS[3]: 0.3}
        assert best_id(read(problem("1MFLOPs"))) == IDS[2]
        assert best_id(read(tight)) == IDS[0], "the estimate of another one in budget is lower"
        assert pick_student(read(tight), IDS[1]) == IDS[1], "by its id it can be taken, and is scored then"
    assert table.front.ids == [IDS[0], IDS[2]]
    assert set(table.known("rank")) == {IDS[0], IDS[2]}
    assert table.standing(0) == [IDS[2], IDS[0]]
    assert (table[IDS[1]].loss, table[IDS[1]].estimate, table[IDS[1]].to_dict()["estimate"]) == (None, 0.25, 0.25)
    assert assess(table, CertificateLosses(), IDS[2]) == assess(
        CandidateTable.of(problem("1MFLOPs")).scored({name: losses[name] for name in (IDS[0], IDS[2])}),
        CertificateLosses(),
        IDS[2],
    )


def test_task_scores_take_the_place_of_those_before():
    again = TABLES["scores"].under(problem("1MFLOPs", "200Kparams"), {})
    pd.testing.assert_frame_equal(again.frame, TABLES["losses"].frame)


def test_a_run_without_a_search_and_a_damaged_file_are_one_clear_line(tmp_path):
    path = tmp_path / "candidates.csv"
    with pytest.raises(RunError, match="was not searched yet; run: autodistil search --run"):
        CandidateTable.read(path)
    for content in (b"", b"nonsense\n1\n", b"id,loss,pareto\na,much,True\n", b"\xff\xfe"):
        path.write_bytes(content)
        with pytest.raises(RunError, match=r"candidates\.csv' is damaged .*write it anew .*: autodistil search --run"):
            CandidateTable.read(path)
    path.write_text((PINNED / "losses.csv").read_text().replace(IDS[0], "tiny-L9"))
    with pytest.raises(RunError, match="no student 'tiny-L9'"):
        CandidateTable.read(path, problem())
    assert CandidateTable.read(path).ids[0] == "tiny-L9"


def test_costs_of_some_students_are_theirs_in_the_table_of_all():
    for one in (problem("1MFLOPs"), on_laptop()):
        pd.testing.assert_frame_equal(one.costs_of(SPACE.candidates[2:5]), one.table.loc[IDS[2:5]])


# ---- one student


def test_a_row_holds_what_is_known_and_none_for_the_rest():
    row = TABLES["devices"][IDS[1]]
    assert (row.id, row.sub_space, row.axes["num_layers"], row.costs["flops"]) == (IDS[1], "tiny", 1, 156160)
    assert (row.loss, row.texts, row.score, row.refined_loss) == (0.375, 64, 0.5, None)
    assert (row.rank, row.rank_in_sub_space, row.pareto, row.finalist) == (2, 2, False, False)
    assert row.devices["ms@laptop measured"] == row.value("ms@laptop") == 1.25
    unscored = TABLES["losses"][IDS[7]]
    assert (unscored.loss, unscored.texts, unscored.rank, unscored.score) == (None, None, None, None)
    assert math.isnan(unscored.exported_loss)
    assert math.isnan(unscored.value("loss"))
    assert TABLES["devices"][IDS[0]].devices["ms@laptop measured"] is None
    assert TABLES["devices"][IDS[3]].exported_loss == 0.125
    assert TABLES["devices"][IDS[4]].exported_loss == 0.25
    with pytest.raises(KeyError):
        TABLES["losses"]["nobody"]
    assert "nobody" not in TABLES["losses"]
    assert TABLES["losses"].get("nobody") is TABLES["losses"].get(None) is None
    assert TABLES["losses"].get(IDS[0]) == TABLES["losses"][IDS[0]]


def test_a_row_is_plain_json_without_what_is_not_there():
    plain = json.loads(json.dumps(TABLES["losses"][IDS[6]].to_dict(), allow_nan=False))
    assert plain["loss"] is None, "it diverged"
    assert set(plain) == {"id", "sub_space", "config", "costs", "loss", "rank", "rank_in_sub_space"}
    full = json.loads(json.dumps(TABLES["devices"][IDS[3]].to_dict(), allow_nan=False))
    assert (full["refined_loss"], full["score"], full["devices"]["ms@laptop measured"]) == (0.125, 0.75, None)


# ---- orders


VALUE = st.integers(0, 3)
ROW = st.tuples(st.sampled_from("ab"), VALUE, VALUE, st.booleans(), st.none() | VALUE)
"""Sub-space, FLOPs, loss, feasible, score."""


def table_of(rows):
    ids = [f"{row[0]}-{i}" for i, row in enumerate(rows)]
    frame = pd.DataFrame(
        {"sub_space": [r[0] for r in rows], "flops": [r[1] for r in rows], "feasible": [r[3] for r in rows]}, index=ids
    )
    scores = {name: float(row[4]) for name, row in zip(ids, rows, strict=True) if row[4] is not None}
    losses = {name: float(row[2]) for name, row in zip(ids, rows, strict=True)}
    return CandidateTable(frame, frame[["flops"]]).scored(losses, {}, scores)


@given(st.lists(ROW, min_size=1, max_size=20))
def test_best_first_is_the_order_of_ranks_and_the_cheaper_of_equals_comes_first(rows):
    table = table_of(rows)
    feasible = CandidateTable(table.frame[table.frame["feasible"]]).best_first.frame
    keys = list(zip(feasible["rank"], feasible["flops"], strict=True))
    assert keys == sorted(keys)
    front = table.front
    if len(front):
        assert front.best_first.ids[0] == best_id(table)
    assert sorted(front.cheapest_first.ids) == sorted(front.ids)
    assert list(front.cheapest_first.frame["flops"]) == sorted(front.frame["flops"])


@given(st.lists(ROW, min_size=1, max_size=20))
def test_a_staircase_is_the_front_over_one_cost_without_equals(rows):
    table = table_of(rows)
    steps = table.front.staircase("flops").frame
    assert steps["flops"].is_monotonic_increasing
    ranking = table.ranking
    assert (ranking.sign * steps[ranking.column]).is_monotonic_decreasing
    points = {(row["flops"], row[ranking.column]) for _, row in table.front.frame.iterrows()}
    assert {(row["flops"], row[ranking.column]) for _, row in steps.iterrows()} == points


@given(st.lists(st.tuples(VALUE, VALUE | st.just(math.nan)), min_size=1, max_size=12))
def test_indices_of_a_staircase_are_those_of_the_front(points):
    array = np.array(points, dtype=float)
    steps = array[staircase(array)]
    assert sorted(map(tuple, steps)) == sorted(set(map(tuple, array[pareto_mask(array)])))
    assert list(steps[:, 0]) == sorted(steps[:, 0])


# ---- finalists

NESTED = SearchSpace(
    "nested",
    "",
    (SubSpace("only", {**GRID, "num_layers": (1, 2, 3), "hidden_size": (32, 64), "mlp_ratio": (1.0, 2.0)}),),
)


def contains(larger, smaller):
    return all(getattr(larger, size) >= getattr(smaller, size) for size in DIMENSIONS)


@given(st.permutations(range(12)), st.floats(0, 1), st.integers(0, 12))
def test_finalists_are_the_largest_within_the_budgets_around_the_best(order, share, count):
    configs = {candidate.id: candidate.config for candidate in NESTED.candidates}
    flops = sorted(cost_table(NESTED.candidates, SHAPE, 16)["flops"])
    budget = read_budget(f"{flops[int(share * (len(flops) - 1))]}FLOPs")
    held = SearchProblem(NESTED, SHAPE, (budget,), 16, {})
    table = CandidateTable.of(held).scored(dict(zip(configs, map(float, order), strict=True)))
    chosen, best = table.finalist_ids(count), table.front.best_first.ids
    assert len(chosen) == len(set(chosen)) == min(count, len({*best, *map(table.largest_around, best)}))
    assert table.frame.loc[chosen, "feasible"].all()
    for student_id in best:
        largest = table.largest_around(student_id)
        assert contains(configs[largest], configs[student_id])
        around = [one for one in table.within_budgets.ids if contains(configs[one], configs[student_id])]
        assert configs[largest].encoder_weights == max(configs[one].encoder_weights for one in around)
        assert table.largest_around(largest) == largest
    if count:
        assert chosen[0] == table.largest_around(best[0])
