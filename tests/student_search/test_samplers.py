"""The contract of samplers: feasible students, none that is known or asked; the same for the same seed and history."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from variants import slow_but

from autodistil.costs.budget import read_budget
from autodistil.space.per_layer import PerLayerSubSpace
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


@pytest.mark.parametrize("sampler", slow_but(["exhaustive", "evolution", "tpe"], SAMPLERS))
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


# ---- students that nobody lists

AXES = {"num_layers": tuple(range(1, 9)), "hidden_size": (32, 64), "head_size": (8,), "num_heads": tuple(range(9))}
LAYERED = SearchSpace("layers", "", (PerLayerSubSpace("base", {**AXES, "mlp_ratio": tuple(range(9))}),))
UNLISTED = SearchProblem(LAYERED, SHAPE, (read_budget("20MFLOPs"),), 64)


def true_loss(candidate):
    """A layer in the middle is worth nothing, the last one most, and pairs of neighbours a little more."""
    worth = [0.5, 0.2, 0.0, 0.0, 0.0, 0.3, 1.0, 2.0]
    layers = [np.log1p(heads) + np.log1p(units / 16) for heads, units in candidate.config.layers]
    alone = sum(map(np.multiply, worth, layers))
    return float(np.exp(-(alone + 0.05 * sum(map(np.multiply, layers, layers[1:]))) / 10) * 10)


def searched(sampler, path, seed, trials, problem=UNLISTED):
    search = Search(problem, f"sqlite:///{path}", "study")
    scores = search.run(lambda students: (Score(true_loss(c), (1.0,)) for c, _ in students), sampler, trials, seed)
    search.close()
    return search.problem, {student_id: score.loss for student_id, score in scores.items()}


@pytest.mark.parametrize("sampler", slow_but(["evolution", "tpe"], ["evolution", "nsga2", "tpe", "random"]))
def test_students_that_nobody_lists_are_searched_within_the_budgets(sampler, tmp_path):
    problem, losses = searched(sampler, tmp_path / "a.db", 0, 12)
    assert len(losses) == 12
    assert problem.feasible[list(losses)].all()
    assert set(losses) <= set(problem.candidates)
    assert not set(losses) <= set(UNLISTED.candidates)
    assert all(LAYERED.candidate(student_id) == problem.candidates[student_id] for student_id in losses)


def test_a_search_goes_on_with_the_students_that_it_found(tmp_path):
    before, first = searched("evolution", tmp_path / "a.db", 0, 36)
    after, more = searched("evolution", tmp_path / "a.db", 0, 42)
    whole = searched("evolution", tmp_path / "b.db", 0, 42)[1]
    assert list(more)[:36] == list(first)
    assert more == whole
    assert set(before.candidates) <= set(after.candidates)


@pytest.mark.slow
def test_evolution_finds_what_random_draws_do_not(tmp_path):
    found = {name: searched(name, tmp_path / f"{name}.db", 0, 96)[1].values() for name in ("evolution", "random")}
    assert min(found["evolution"]) < 0.97 * min(found["random"])


@pytest.mark.parametrize("budgets", [("20MFLOPs", "100kparams"), ()])
def test_evolution_minds_all_budgets_or_none(budgets, tmp_path):
    problem = SearchProblem(LAYERED, SHAPE, tuple(map(read_budget, budgets)), 64)
    found, losses = searched("evolution", tmp_path / "a.db", 0, 40, problem)
    assert found.feasible[list(losses)].all()
