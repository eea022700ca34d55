"""The teacher beside its students: what it meets, and which students are no gain against it."""

import json
import math

import pytest

from autodistil.costs.budget import read_budget
from autodistil.costs.closed_form import cost_table
from autodistil.space.shape import EncoderShape
from autodistil.space.space import SearchSpace, SubSpace
from autodistil.space.student import Candidate, StudentConfig
from autodistil.student_search.candidates import CandidateTable
from autodistil.student_search.pick import best_id, knee_id
from autodistil.student_search.problem import SearchProblem
from autodistil.student_search.teacher_row import TeacherRow

SHAPE = EncoderShape(30522, 514, None, pooler=True)
DIMS = StudentConfig(4, 64, 4, 16, 256)
AXES = {"num_layers": (2, 4), "hidden_size": (32, 64), "head_size": (16,), "mlp_ratio": (2.0, 4.0)}
SPACE = SearchSpace("test", "", (SubSpace("base", AXES),))
LARGEST = "base-L4-H64-A4-F256"
COSTS = cost_table([Candidate("teacher", DIMS)], SHAPE, 64).iloc[0][["flops", "params", "size_mb"]].to_dict()
TEACHER = TeacherRow("my-bert", DIMS, costs=COSTS)


def problem_of(*budgets, teacher=TEACHER, space=SPACE):
    return SearchProblem(space, SHAPE, tuple(map(read_budget, budgets)), 64, teacher=teacher)


def budgets(*texts):
    return [read_budget(text) for text in texts]


def test_a_budget_that_it_meets_is_answered_with_its_name_and_cost():
    assert TEACHER.answer(budgets("5GFLOPs")) == "my-bert meets 5GFLOPs already: 14.9 MFLOPs."
    assert TEACHER.answer(budgets("5GFLOPs", "9MB")) == "my-bert meets 5GFLOPs and 9MB already: 14.9 MFLOPs, 8.77 MB."


@pytest.mark.parametrize("texts", [(), ("1MFLOPs",), ("5GFLOPs", "1MB"), ("5GFLOPs", "8ms@cpu")])
def test_it_has_to_be_known_to_meet_all_of_several(texts):
    assert TEACHER.answer(budgets(*texts)) is None


def test_shares_are_of_closed_forms_and_of_what_was_measured_of_both():
    teacher = TeacherRow("x", costs={"flops": 200.0, "params": 50.0, "ms@cpu": 8.0})
    costs = {"flops": 100.0, "params": 10.0, "ms@cpu": 2.0}
    assert teacher.shares(costs) == "50 % of its FLOPs, 20 % of its parameters"
    assert teacher.shares({**costs, "ms@cpu measured": 2.0}).endswith(", 25 % of its latency on cpu")


def test_what_was_not_measured_is_said_where_it_alone_decides():
    assert (
        TEACHER.not_measured(budgets("5GFLOPs", "8ms@cpu")) == "Whether my-bert meets 8ms@cpu itself was not measured."
    )
    assert TEACHER.not_measured(budgets("1MFLOPs", "8ms@cpu")) is None
    assert TEACHER.not_measured(budgets("5GFLOPs")) is None


def test_who_saves_nothing_of_any_budgeted_cost_is_neither_searched_nor_picked():
    problem = problem_of("5GFLOPs")
    assert problem.no_gain == [LARGEST]
    losses = {student: 1e8 / flops for student, flops in problem.table["flops"].items()}
    table = CandidateTable.of(problem).scored(losses)
    assert min(losses, key=losses.get) == LARGEST
    assert best_id(table) != LARGEST
    assert not table[LARGEST].feasible
    assert table[LARGEST].rank is None
    assert LARGEST not in (*table.front.ids, knee_id(table))
    assert table[best_id(table)].rank == 1


def test_the_teacher_moves_nobody_else():
    """Front and ranks of the others are what they are without the one that is no gain."""
    asked, alone = problem_of("5GFLOPs"), problem_of("5GFLOPs", teacher=None)
    losses = {student: 1e8 / flops for student, flops in asked.table["flops"].items() if student != LARGEST}
    frames = [CandidateTable.of(problem).scored(losses).frame.drop(LARGEST) for problem in (asked, alone)]
    assert frames[0].equals(frames[1])


def test_a_student_that_saves_one_budgeted_cost_is_a_gain():
    """One of fewer FLOPs and as many parameters is a student under both budgets, and none under the second alone."""
    costs = {**COSTS, "params": 0.0}
    cheap = TeacherRow("my-bert", DIMS, costs=costs)
    assert problem_of("5GFLOPs", "3Mparams", teacher=cheap).no_gain == [LARGEST]
    assert problem_of("3Mparams", teacher=TeacherRow("my-bert", DIMS, costs=COSTS)).no_gain == [LARGEST]


def test_where_nobody_saves_anything_nobody_is_left_out():
    only = SearchSpace("one", "", (SubSpace.of_student("base", DIMS),))
    assert problem_of("5GFLOPs", space=only).no_gain == []
    assert problem_of("5GFLOPs", teacher=TeacherRow("tiny", costs={"flops": 1.0})).no_gain == []
    problem_of("5GFLOPs", space=only).check_feasible()


def test_a_loss_that_is_not_known_survives_json():
    row = TeacherRow("x", costs={"flops": 1.0}, loss=math.nan)
    back = TeacherRow.of_dict(json.loads(json.dumps(row.to_dict())))
    assert (back.name, back.costs, back.loss_text) == ("x", {"flops": 1.0}, "–")
    assert TEACHER.loss_text == "0"
