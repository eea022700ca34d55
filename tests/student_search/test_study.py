"""The study: budgets are hard, nothing is evaluated twice, an interrupted search goes on, same seed, same front."""

import math
import sqlite3
from contextlib import closing

import numpy as np
import optuna
import pandas as pd
import pytest
from sqlalchemy import event
from variants import slow_but

from autodistil.costs.budget import read_budget
from autodistil.errors import BudgetError, ExportError, RunError
from autodistil.run.folder import RunFolder
from autodistil.space.shape import EncoderShape
from autodistil.space.space import SearchSpace, SubSpace
from autodistil.student_search.candidates import CandidateTable
from autodistil.student_search.pick import best_id, half_id, knee_id, near_id, pick_student
from autodistil.student_search.problem import SearchProblem
from autodistil.student_search.racing import Score
from autodistil.student_search.samplers import SAMPLERS
from autodistil.student_search.samplers.sampler import View
from autodistil.student_search.study import Search, choose_sampler, num_evaluations

SHAPE = EncoderShape(vocab_size=1000, other_embedding_rows=66, embedding_size=None, pooler=True)
TINY = {"num_layers": (1, 2, 3), "hidden_size": (32, 64), "head_size": (16,), "mlp_ratio": (1.0, 2.0)}
BASE = {"num_layers": (2, 3, 4), "hidden_size": (64, 96, 128), "num_heads": (2, 4, 5), "mlp_ratio": (2.0, 4.0)}
SPACE = SearchSpace("test", "", (SubSpace("tiny", TINY), SubSpace("base", BASE)))


def problem_of(*budgets):
    return SearchProblem(SPACE, SHAPE, tuple(read_budget(text) for text in budgets), 64)


def fake_loss(candidate):
    return 1e6 / candidate.config.encoder_weights + (candidate.sub_space == "tiny")


def fake_score(candidate, known=None):
    return Score(fake_loss(candidate), (1.0,))


def each(score):
    """Scores of one student at a time as those of many."""
    return lambda students: (score(*student) for student in students)


def losses_of(scores):
    return {student_id: score.loss for student_id, score in scores.items()}


def search_of(problem, path, name="study"):
    return Search(problem, path / "study.db", name)


@pytest.mark.parametrize("sampler", slow_but(["exhaustive", "evolution", "nsga2"], SAMPLERS))
def test_only_feasible_students_run_and_each_once(tmp_path, sampler):
    problem = problem_of("10MFLOPs", "300Kparams")
    calls = []

    def score(candidate, known):
        calls.append(candidate.id)
        return fake_score(candidate)

    search = search_of(problem, tmp_path)
    losses = search.run(each(score), sampler, None if sampler == "exhaustive" else 10, seed=3)
    feasible = set(problem.table.index[problem.feasible])
    assert 0 < len(feasible) < len(problem.table)
    assert len(calls) == len(set(calls)) == len(losses)
    assert set(calls) == set(losses) <= feasible
    if sampler == "exhaustive":
        assert set(losses) == feasible
    told = [trial for trial in search.study.trials if trial.state == optuna.trial.TrialState.COMPLETE]
    for trial in told:
        runnable = all(value <= 0 for value in trial.constraints.values())
        assert runnable == ("student" in trial.user_attrs)
    assert {trial.user_attrs["student"] for trial in search.study.best_trials} <= feasible


def test_a_study_lies_in_its_run_folder_whatever_that_is_called(tmp_path):
    problem = problem_of("3MFLOPs")
    for name in ("run?seed=1", "run?seed=2", "run", "a%20b", "a b", "{0}", "100%", "#1", "{SCHEMA_VERSION}", "file:x"):
        folder = RunFolder(tmp_path / name)
        folder.path.mkdir()
        with closing(Search(problem, folder.study_path, "study")) as search:
            assert not search.known, name
            assert search.run(each(fake_score), "exhaustive", 2, seed=0)
        assert folder.study_path.is_file()


def test_a_study_that_is_damaged_anywhere_is_one_line_or_goes_on(tmp_path):
    problem, path = problem_of("3MFLOPs"), tmp_path / "study.db"
    with closing(search_of(problem, tmp_path)) as search:
        search.run(each(fake_score), "exhaustive", 4, seed=0)
    whole, refused = path.read_bytes(), []
    random = np.random.default_rng(0)
    for start in (0, *random.integers(0, len(whole) - 3000, 9)):
        path.write_bytes(whole[:start] + random.bytes(3000) + whole[start + 3000 :])
        try:
            with closing(search_of(problem, tmp_path)) as search:
                search.run(each(fake_score), "exhaustive", 5, seed=0)
        except RunError as error:
            refused.append(str(error))
    assert refused
    assert all("remove it" in line and "\n" not in line for line in refused)


def no_more_pages(connection, cursor, *_):
    cursor.connection.execute("PRAGMA max_page_count = 1")  # SQLite takes as many as there are


def test_a_study_on_a_full_disk_is_one_line_and_keeps_its_scores(tmp_path):
    problem = problem_of("3MFLOPs")

    def score(candidate, known):
        if len(search.mine) < 3:
            return fake_score(candidate)
        event.listen(search._storage.engine, "before_cursor_execute", no_more_pages)
        return Score(1.0, (1.0,) * 3000)

    with closing(search_of(problem, tmp_path)) as search, pytest.raises(RunError, match="database or disk is full"):
        search.run(each(score), "exhaustive", 5, seed=0)
    with closing(search_of(problem, tmp_path)) as search:
        assert len(search.mine) == 3


@pytest.mark.parametrize("sampler", slow_but(["evolution", "nsga2"], sorted(set(SAMPLERS) - {"exhaustive"})))
def test_interrupted_search_ends_as_the_uninterrupted_one(tmp_path, sampler):
    problem = problem_of("20MFLOPs")
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    whole = search_of(problem, tmp_path / "a").run(each(fake_score), sampler, 12, seed=1)

    def stop_after_five(student_id, loss):
        if len(interrupted.mine) == 5:
            raise KeyboardInterrupt

    interrupted = search_of(problem, tmp_path / "b")
    with pytest.raises(KeyboardInterrupt):
        interrupted.run(each(fake_score), sampler, 12, seed=1, on_score=stop_after_five)
    calls = []
    resumed = search_of(problem, tmp_path / "b").run(
        each(lambda candidate, known: calls.append(candidate.id) or fake_score(candidate)), sampler, 12, seed=1
    )
    assert resumed == whole
    assert len(resumed) == 12
    assert len(calls) == 7


def test_the_order_of_budgets_changes_nothing(tmp_path):
    one, other = problem_of("20MFLOPs", "300Kparams"), problem_of("300Kparams", "20MFLOPs")
    search_of(one, tmp_path).run(each(fake_score), "random", 2, seed=1)
    search = search_of(other, tmp_path)
    search.run(each(fake_score), "random", 4, seed=1)
    told = [trial for trial in search.study.trials if "student" in trial.user_attrs]
    costs = one.budget_costs.loc[[trial.user_attrs["student"] for trial in told]]
    assert [trial.values[1:] for trial in told] == costs.to_numpy().tolist()
    known = {student_id: fake_loss(one.candidates[student_id]) for student_id in one.table.index[one.feasible][:12]}
    view = View(known, frozenset(), 12, lambda sampler: [])
    proposed, again = (SAMPLERS["gp"](problem, 20, 0).propose(view) for problem in (one, other))
    assert proposed == again


def test_what_a_killed_search_asked_is_scored_in_its_place(tmp_path):
    problem = problem_of("20MFLOPs")

    def die(candidate, known):
        raise RuntimeError("killed")

    with pytest.raises(RuntimeError):
        search_of(problem, tmp_path).run(each(die), "exhaustive", None, seed=0)
    search = search_of(problem, tmp_path)
    losses = search.run(each(fake_score), "exhaustive", None, seed=0)
    assert len(losses) == int(problem.feasible.sum())
    assert [t.state for t in search.study.trials].count(optuna.trial.TrialState.FAIL) == 0


def test_scores_are_shared_between_studies_of_a_run(tmp_path):
    search_of(problem_of("20MFLOPs"), tmp_path, "first").run(each(fake_score), "exhaustive", None, seed=0)
    problem = problem_of("10MFLOPs")
    scores = search_of(problem, tmp_path, "second").run(each(lambda c, known: known), "exhaustive", None, seed=0)
    assert scores == {i: fake_score(problem.candidates[i]) for i in scores}


def test_front_is_that_of_the_definition(tmp_path):
    problem = problem_of("20MFLOPs", "300Kparams")
    losses = losses_of(search_of(problem, tmp_path).run(each(fake_score), "exhaustive", None, seed=0))
    table = CandidateTable.of(problem).scored(losses)
    ranked = table.frame
    rows = {i: (losses[i], *problem.budget_costs.loc[i]) for i in losses}
    for student_id, row in rows.items():
        dominated = any(
            all(a <= b for a, b in zip(other, row, strict=True)) and other != row for other in rows.values()
        )
        assert ranked.loc[student_id, "pareto"] == (not dominated)
    assert not ranked[~ranked["feasible"]]["pareto"].any()
    assert ranked.loc[best_id(table), "rank"] == 1
    assert knee_id(table) is None or ranked.loc[knee_id(table), "pareto"]
    for _, part in ranked[ranked["feasible"]].groupby("sub_space"):
        assert part.sort_values("loss")["rank_in_sub_space"].iloc[0] == 1


def test_a_budget_nobody_meets_names_the_cheapest_student(tmp_path):
    with pytest.raises(BudgetError, match=r"tiny-L1-H32-A2-F32.*MFLOPs.*raise the budget"):
        problem_of("0.1MFLOPs").check_feasible()


def test_budgets_that_bind_are_known():
    assert problem_of("1TFLOPs", "10MFLOPs").binding() == {"1TFLOPs": False, "10MFLOPs": True}


def test_budgets_at_a_length_of_their_own_use_it():
    short, long = problem_of("10MFLOPs@16"), problem_of("10MFLOPs@256")
    assert short.feasible.sum() > long.feasible.sum()


def test_auto_enumerates_what_is_small():
    assert choose_sampler("auto", 400, None) == "exhaustive"
    assert choose_sampler("auto", 401, None) == "gp"
    assert choose_sampler("auto", 5000, 5000) == "exhaustive"
    assert choose_sampler("auto", 12, 12) == "exhaustive"
    assert choose_sampler("auto", 12, 11) == "gp", "not the eleven cheapest"
    assert choose_sampler("tpe", 3, None) == "tpe"
    problem = problem_of("20MFLOPs")
    assert num_evaluations(problem, "exhaustive", 7) == 7


def test_a_damaged_storage_is_refused(tmp_path):
    (tmp_path / "study.db").write_bytes(b"not a database, not at all" * 100)
    with pytest.raises(RunError, match=r"study\.db"):
        search_of(problem_of("20MFLOPs"), tmp_path)
    assert not isinstance(RunError, sqlite3.Error)


def test_picks(tmp_path):
    problem = problem_of("20MFLOPs")
    losses = losses_of(search_of(problem, tmp_path).run(each(fake_score), "exhaustive", 5, seed=0))
    ranked = CandidateTable.of(problem).scored(losses)
    assert pick_student(ranked, "best") == best_id(ranked)
    with pytest.raises(ExportError, match="did you mean"):
        pick_student(ranked, best_id(ranked)[:-1] + "x")
    unseen = next(i for i in ranked.ids if i not in losses)
    with pytest.raises(ExportError, match="not evaluated"):
        pick_student(ranked, unseen)


def test_a_diverged_student_is_neither_on_the_front_nor_the_knee():
    problem = problem_of("20MFLOPs")
    order = problem.table["flops"].sort_values().index
    losses = {order[0]: math.inf, order[3]: 3.0, order[4]: 2.0, order[5]: 1.9}
    table = CandidateTable.of(problem).scored(losses)
    assert table.front.ids == sorted(order[3:6], key=table.ids.index)
    assert knee_id(table) in (None, order[4])
    for losses in ({}, {order[0]: math.inf}):
        with pytest.raises(RunError, match="no student within budget has a finite loss"):
            best_id(CandidateTable.of(problem).scored(losses))
        with pytest.raises(RunError, match="no student within budget has a finite loss"):
            knee_id(CandidateTable.of(problem).scored(losses))


def test_the_knee_goes_by_the_cost_that_limits():
    """Of three students the middle one is the knee over parameters, and none over FLOPs, where it costs all."""
    loose, tight = problem_of("1TFLOPs"), problem_of("1TFLOPs", "300Kparams")
    assert (loose.limiting, tight.limiting) == ("1TFLOPs", "300Kparams")
    assert SearchProblem(SPACE, SHAPE, (), 64).limiting == "flops"
    ids = ["a", "b", "c"]
    frame = pd.DataFrame({"flops": [1.0, 99.0, 100.0], "feasible": True, "sub_space": "one"}, index=ids)
    costs = pd.DataFrame({"1TFLOPs": frame["flops"], "8ms@cpu": [1.0, 2.0, 9.0]})
    losses = {"a": 3.0, "b": 1.2, "c": 1.0}
    by_time, by_flops = (CandidateTable(frame, costs, name).scored(losses) for name in ("8ms@cpu", "1TFLOPs"))
    assert (knee_id(by_time), knee_id(by_flops)) == ("b", None)
    assert (half_id(by_time), half_id(by_flops)) == ("b", "a")
    with pytest.raises(ExportError, match="pick 'knee': the front bends nowhere; allowed: best, near"):
        pick_student(by_flops, "knee")


def test_picks_at_half_the_cost_and_nearly_as_good():
    ids = ["a", "b", "c", "d"]
    frame = pd.DataFrame({"flops": [1.0, 49.0, 60.0, 100.0], "feasible": True, "sub_space": "one"}, index=ids)
    problem_costs = frame[["flops"]]
    table = CandidateTable(frame, problem_costs).scored({"a": 3.0, "b": 2.0, "c": 1.005, "d": 1.0})
    assert (best_id(table), half_id(table), near_id(table)) == ("d", "b", "c")
    apart = CandidateTable(frame.iloc[2:], problem_costs).scored({"c": 2.0, "d": 1.0})
    assert (half_id(apart), near_id(apart)) == (None, "d")
    with pytest.raises(ExportError, match="pick 'half': no student of the front is that cheap"):
        pick_student(apart, "half")
