"""The rounds that hold budgets of a device, simulated: nobody who holds a budget in truth is ruled out by a guess."""

from types import SimpleNamespace

import numpy as np
import pytest

from autodistil.costs.budget import read_budget
from autodistil.formats.setting import RuntimeSetting
from autodistil.profiling.device_costs import DeviceCost
from autodistil.profiling.latency_model import choose_students
from autodistil.profiling.latency_table import LatencyEntry
from autodistil.space.shape import EncoderShape
from autodistil.space.space import SearchSpace, SubSpace
from autodistil.stages import measuring
from autodistil.student_search.candidates import CandidateTable
from autodistil.student_search.pick import best_id, knee_id
from autodistil.student_search.problem import SearchProblem
from autodistil.utils import Progress

SHAPE = EncoderShape(30522, 514, None, pooler=True)
AXES = {"num_layers": (2, 3, 4, 5, 6), "hidden_size": (192, 256, 320, 384), "head_size": (32,), "mlp_ratio": (2.0, 4.0)}
SPACE = SearchSpace("simulated", "", (SubSpace("only", AXES),))
STUDENTS = sorted({candidate.config for candidate in SPACE.candidates})
NOISE = 0.06
"""Of the time from student to student, which no model of sizes sees."""


class Device:
    """A device whose times are known, and what was measured on it."""

    def __init__(self, seed):
        self.random = np.random.default_rng(seed)
        factors = np.exp(NOISE * self.random.normal(size=len(STUDENTS)))
        smooth = [0.5 + 0.4 * one.num_layers + 1e-6 * one.encoder_weights for one in STUDENTS]
        self.times = dict(zip(STUDENTS, factors * smooth, strict=True))
        self.measured = set()
        self.budget = read_budget(f"{np.quantile(list(self.times.values()), self.random.uniform(0.3, 0.8)):.4f}ms@cpu")

    def entries(self, students):
        times = ((one, self.times[one]) for one in students)
        return tuple(LatencyEntry(one, 1, 128, ms, 0.99 * ms, 1.01 * ms, 30, False, 50.0, 10.0) for one, ms in times)

    def problem(self, measurable=True):
        design, finalists = choose_students(STUDENTS), [one for one in STUDENTS if one in self.measured]
        told = map(self.entries, (design, finalists))
        cost = DeviceCost(self.budget, RuntimeSetting(), *told, SPACE.candidates, SHAPE, measurable)
        return SearchProblem(SPACE, SHAPE, (self.budget,), 128, {self.budget.text: cost})

    def losses(self, problem):
        """The larger the better on the whole."""
        flops = problem.table["flops"]
        noise = self.random.normal(size=len(flops))
        return (5 - np.log(flops / flops.min()) + 0.05 * noise).to_dict()


@pytest.fixture
def held(monkeypatch):
    """Runs the rounds on a device."""

    def hold(device, rounds=measuring.ROUNDS):
        losses, begun = device.losses(device.problem()), device.problem()

        def rank(problem):
            return CandidateTable.of(problem).scored({i: losses[i] for i in problem.feasible.index[problem.feasible]})

        def measure(inputs, superlms, problem, chosen, stopwatch):
            device.measured |= {problem.candidates[student_id].config for student_id in chosen}

        monkeypatch.setattr(measuring, "ROUNDS", rounds)
        monkeypatch.setattr(measuring, "_measure", measure)
        monkeypatch.setattr(measuring, "search_problem", lambda inputs, budgets: device.problem())
        config = SimpleNamespace(num_finalists=0, budgets=())
        run = SimpleNamespace(config=config, inputs=None, superlms=None, progress=Progress())
        return *measuring.hold_budgets(run, begun, rank, None), losses

    return hold


def test_the_best_student_that_holds_is_measured(held):
    """A prediction that rules students out by itself throws it away in three of the first twelve: 0, 1 and 6."""
    thrown = 0
    for seed in (0, 1, 2, 6):
        device = Device(seed)
        problem, table, losses = held(device)
        times = {i: 1.01 * device.times[problem.candidates[i].config] for i in problem.candidates}  # upper ends
        best = min((i for i, ms in times.items() if ms <= device.budget.limit), key=losses.get)
        thrown += problem.candidates[best].config not in device.measured
        assert times[best_id(table)] <= device.budget.limit
        assert best_id(table) == best or problem.candidates[best].config not in device.measured
        knee = knee_id(table)
        assert knee is None or problem.candidates[knee].config in device.measured
        assert (table.front_costs[device.budget.text][table.frame["feasible"]] <= device.budget.limit).all()
    assert thrown == 0


def test_without_rounds_enough_a_measured_student_is_the_best(held):
    device = Device(0)
    problem, table, _ = held(device, rounds=1)
    assert problem.candidates[best_id(table)].config in device.measured


def test_predictions_of_a_device_elsewhere_count_as_they_are():
    here, elsewhere = (Device(0).problem(measurable) for measurable in (True, False))
    assert here.possible.feasible.sum() > here.feasible.sum()
    assert (here.feasible <= here.possible.feasible).all()
    assert (elsewhere.possible.feasible == elsewhere.feasible).all()
