"""With task scores the best score wins, the front is among the scored, and ranks of the others follow by loss."""

import numpy as np
import pandas as pd
from hypothesis import given
from hypothesis import strategies as st

from autodistil.student_search.candidates import CandidateTable
from autodistil.student_search.pareto import pareto_mask
from autodistil.student_search.pick import best_id, knee_id, near_id

VALUE = st.integers(0, 9)
ROW = st.tuples(st.sampled_from("abc"), st.integers(1, 9), VALUE, st.booleans(), st.none() | VALUE)
"""Sub-space, FLOPs, loss, feasible, score."""


def table_of(rows, with_scores=True):
    ids = [f"{row[0]}-{i}" for i, row in enumerate(rows)]
    table = pd.DataFrame(
        {"sub_space": [r[0] for r in rows], "flops": [r[1] for r in rows], "feasible": [r[3] for r in rows]}, index=ids
    )
    losses = {name: float(row[2]) for name, row in zip(ids, rows, strict=True)}
    scores = {name: float(row[4]) for name, row in zip(ids, rows, strict=True) if row[4] is not None}
    return CandidateTable(table, table[["flops"]]).scored(losses, scores=scores if with_scores else {})


@given(st.lists(ROW, min_size=1, max_size=25))
def test_the_best_score_is_picked_and_the_cheapest_of_equals(rows):
    table = table_of(rows)
    ranked = table.frame
    runnable = ranked[ranked["feasible"] & ranked["score"].notna()] if "score" in ranked else ranked.iloc[:0]
    if not len(runnable):
        return
    best = runnable[runnable["score"] == runnable["score"].max()]
    assert best_id(table) in best.index
    assert ranked.loc[best_id(table), "flops"] == best["flops"].min()
    expected = pareto_mask(np.column_stack([-runnable["score"], runnable["flops"]]))
    assert set(ranked.index[ranked["pareto"]]) == set(runnable.index[expected])
    assert knee_id(table) is None or ranked.loc[knee_id(table), "pareto"]
    assert ranked.loc[near_id(table), "pareto"]


@given(st.lists(ROW, min_size=1, max_size=25))
def test_ranks_follow_the_score_then_the_loss(rows):
    ranked = table_of(rows).frame
    if "score" not in ranked:
        return
    for group in [ranked, *(rows for _, rows in ranked.groupby("sub_space"))]:
        feasible = group[group["feasible"]]
        key = "rank" if group is ranked else "rank_in_sub_space"
        order = list(
            zip(-feasible["score"].fillna(-np.inf), feasible["loss"].where(feasible["score"].isna(), 0), strict=True)
        )
        assert [1 + sum(other < own for other in order) for own in order] == feasible[key].tolist()
        assert group.loc[~group["feasible"], key].isna().all()


@given(st.lists(ROW, min_size=1, max_size=25), st.integers(0, 12))
def test_standing_students_are_feasible_and_no_sub_space_is_forgotten(rows, top):
    table = table_of(rows, with_scores=False)
    ranked, chosen = table.frame, table.standing(top)
    feasible = ranked[ranked["feasible"]]
    assert len(chosen) == len(set(chosen)) == (min(top, len(feasible)) if top else len(feasible))
    assert set(chosen) <= set(feasible.index)
    assert chosen == table.standing(0)[: top or None]
    leaders = feasible[feasible["rank_in_sub_space"] == 1]
    if not top or top >= len(leaders):
        assert set(leaders.index) <= set(chosen)
    if top >= len(leaders) + ranked["pareto"].sum():
        assert set(ranked.index[ranked["pareto"]]) <= set(chosen)


def test_behind_the_front_sub_spaces_take_turns():
    rows = [("a", 1, loss, True, None) for loss in range(1, 5)] + [("b", 1, loss, True, None) for loss in range(6, 9)]
    assert table_of(rows).standing(0) == ["a-0", "b-4", "a-1", "b-5", "a-2", "b-6", "a-3"]


def test_students_that_diverged_do_not_stand():
    ranked = table_of([("a", 1, 1, True, None), ("a", 2, 2, True, None)]).frame
    assert CandidateTable(ranked.assign(loss=[np.inf, 2.0])).standing(0) == ["a-1"]
