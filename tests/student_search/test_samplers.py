"""The contract of samplers: feasible students, none that is known or asked; the same for the same seed and history."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from autodistil.costs.budget import read_budget
from autodistil.space.shape import EncoderShape
from autodistil.space.space import SearchSpace, SubSpace
from autodistil.student_search.problem import SearchProblem
from autodistil.student_search.racing import Score
from autodistil.student_search.samplers import SAMPLERS
from autodistil.student_search.samplers.exhaustive import halving
from autodistil.student_search.samplers.optuna_samplers import OptunaSampler
from autodistil.student_search.study import Search

SHAPE = EncoderShape(vocab_size=1000, other_embedding_rows=66, embedding_size=None, pooler=True)
TINY = {"num_layers": (1, 2, 3), "hidden_size": (32, 64), "head_size": (16,), "mlp_ratio": (1.0, 2.0)}
BASE = {"num_layers": (2, 3, 4), "hidden_size": (64, 96, 128), "num_heads": (2, 4, 5), "mlp_ratio": (2.0, 4.0)}
SPACE = SearchSpace("test", "", (SubSpace("tiny", TINY), SubSpace("base", BASE)))
PROBLEM = SearchProblem(SPACE, SHAPE, (read_budget("20MFLOPs"),), 64)
FEASIBLE = set(PROBLEM.table.index[PROBLEM.feasible])


def score(students):
    return (Score(float(candidate.config.num_layers), (1.0,)) for candidate, _ in students)


def proposals(sampler, path, seed, trials=6):
    """All that a sampler proposes in a search, each with what was known and asked before."""
    found = []

    class Watched(SAMPLERS[sampler]):
        def propose(self, view):
            proposed = super().propose(view)
            found.append((sorted(view.losses), sorted(view.claimed), proposed))
            return proposed

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("autodistil.student_search.study.SAMPLERS", {sampler: Watched})
        patch.setattr("autodistil.student_search.study._MAX_MISSES", 20)
        search = Search(PROBLEM, f"sqlite:///{path}", "study")
        search.run(
            lambda students: (Score(float(c.config.num_layers), (1.0,)) for c, _ in students), sampler, trials, seed
        )
        search.close()
    return found


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_proposals_are_feasible_new_and_decided_by_the_seed(sampler, tmp_path):
    found = proposals(sampler, tmp_path / "a.db", seed=1)
    assert 0 < len(FEASIBLE) < len(PROBLEM.table)
    for known, claimed, proposed in found:
        assert set(proposed) <= FEASIBLE
        assert len(set(proposed)) == len(proposed)
        if issubclass(SAMPLERS[sampler], OptunaSampler):  # they may draw one again, which is told what it scored
            assert len(proposed) <= 1
        else:
            assert not set(proposed) & {*known, *claimed}
    assert found == proposals(sampler, tmp_path / "b.db", seed=1)
    if sampler != "exhaustive":
        assert found != proposals(sampler, tmp_path / "c.db", seed=2)


@pytest.mark.parametrize("sampler", ["nsga2", "tpe", "random"])
def test_any_seed_will_do(sampler, tmp_path):
    assert proposals(sampler, tmp_path / "a.db", seed=4_295, trials=1)  # times 1,000,003 it has more than 32 bits


NOTHING = type("View", (), {"losses": {}, "claimed": set()})


def test_an_enumeration_cut_short_covers_the_costs_and_goes_on_from_there():
    costs = PROBLEM.budget_costs.loc[sorted(FEASIBLE), "20MFLOPs"]
    every = [SAMPLERS["exhaustive"](PROBLEM, wanted, 0).propose(NOTHING) for wanted in range(1, len(FEASIBLE) + 1)]
    for wanted, chosen in enumerate(every, start=1):
        assert chosen == every[-1][:wanted], "more go on from fewer"
        assert costs[chosen].max() == costs.max()
        if wanted > 1:
            assert costs[chosen].min() == costs.min()
            ranks = np.sort(costs.rank(method="first")[chosen])
            assert np.diff(ranks).max() <= 2 * len(costs) / (wanted - 1) + 1, "no part of the costs is left out"
    assert set(every[-1]) == FEASIBLE


def test_where_races_stop_many_the_most_expensive_come_first():
    spread, first = (SAMPLERS["exhaustive"](PROBLEM, 10, 0, first).propose(NOTHING) for first in (False, True))
    assert sorted(spread) == sorted(first)
    assert PROBLEM.budget_costs.loc[first, "20MFLOPs"].is_monotonic_decreasing


@given(st.integers(1, 300))
def test_halving_names_each_number_once(count):
    assert sorted(halving(count)) == list(range(count))
