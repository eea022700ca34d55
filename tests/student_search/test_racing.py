"""Races: the front is scored on all text, the pick stays, what is stopped is above a cheaper student."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from autodistil.student_search.pareto import pareto_mask
from autodistil.student_search.racing import FRONT, NONE, PICK, Race

BLOCKS = (16, 16, 16, 16, 16, 16, 16, 16)


def made_up(seed, students=40, texts=128):
    """Costs (students,) and losses (students, texts): dearer is better on the whole, texts differ in difficulty."""
    random = np.random.default_rng(seed)
    costs = np.sort(random.uniform(1, 10, students))
    quality = 3 / costs + random.exponential(0.3, students)
    difficulty = random.lognormal(0, 0.5, texts)
    return costs, quality[:, None] * difficulty + random.normal(0, 0.1, (students, texts))


def run(costs, losses, kept=FRONT):
    race = Race(BLOCKS, {str(i): (cost,) for i, cost in enumerate(costs)}, kept)
    parts = np.split(losses, np.cumsum(BLOCKS)[:-1], axis=1)
    order = range(len(costs))[:: -1 if kept == PICK else 1]
    return [race.score(str(i), lambda number, i=i: parts[number][i]) for i in order]


@given(st.integers(0, 10_000))
@settings(max_examples=25, deadline=None)
def test_only_whole_scores_are_on_the_front(seed):
    costs, losses = made_up(seed)
    scores = run(costs, losses)
    front = pareto_mask(np.column_stack([[score.loss for score in scores], costs]))
    for score, on_front, row in zip(scores, front, losses, strict=True):
        assert len(score.texts) in np.cumsum(BLOCKS)
        assert score.texts == tuple(row[: len(score.texts)])
        if on_front:
            assert len(score.texts) == 128
            assert score.loss == pytest.approx(row.mean())


def test_the_front_is_found_with_a_part_of_the_text():
    lost = kept = used = 0
    for seed in range(20):
        costs, losses = made_up(seed)
        true = pareto_mask(np.column_stack([losses.mean(1), costs]))
        scores = run(costs, losses)
        kept += int(true.sum())
        lost += int((true & np.array([len(score.texts) < 128 for score in scores])).sum())
        used += sum(len(score.texts) for score in scores)
    assert lost <= 0.05 * kept
    assert used < 0.6 * 20 * losses.size


def test_the_pick_is_found_with_less():
    found = used = 0
    for seed in range(20):
        costs, losses = made_up(seed)
        scores = run(costs, losses, PICK)[::-1]
        best = min(range(len(scores)), key=lambda i: scores[i].loss)
        found += best == losses.mean(1).argmin()
        used += sum(len(score.texts) for score in scores)
        assert len(scores[best].texts) == 128
    assert found >= 19
    assert used < 0.3 * 20 * losses.size


def test_without_racing_all_is_scored():
    costs, losses = made_up(0)
    for score, row in zip(run(costs, losses, NONE), losses, strict=True):
        assert score.loss == pytest.approx(row.mean())
        assert len(score.texts) == 128


def test_a_student_that_costs_less_in_something_is_never_stopped():
    race = Race((16, 16), {"a": (1.0, 2.0), "b": (2.0, 1.0)})
    texts = np.random.default_rng(0).normal(size=16)
    race.score("a", lambda number: texts)
    assert len(race.score("b", lambda number: texts + 9).texts) == 32


def test_what_is_known_is_not_scored_again():
    race = Race((16, 16), {"a": (1.0,), "b": (2.0,)}, NONE)
    texts = np.random.default_rng(0).normal(size=32)
    asked = []
    score = race.score("b", lambda number: asked.append(number) or texts[16:], tuple(texts[:16]))
    assert asked == [1]
    assert score.texts == tuple(texts)
    assert race.score("b", None, score.texts) == score


def test_diverged_students_are_no_rivals():
    race = Race((16, 16), {"a": (1.0,), "b": (2.0,)})
    race.score("a", lambda number: np.full(16, np.nan))
    assert len(race.score("b", lambda number: np.ones(16)).texts) == 32
