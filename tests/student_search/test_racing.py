"""Races for the pick: it is scored on all text, and what is stopped is above it. Without one all is scored."""

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from autodistil.stages.searching import texts_note
from autodistil.student_search.racing import Race

BLOCKS = (16, 16, 16, 16, 16, 16, 16, 16)


def made_up(seed, students=40, texts=128):
    """Costs (students,) and losses (students, texts): dearer is better on the whole, texts differ in difficulty."""
    random = np.random.default_rng(seed)
    costs = np.sort(random.uniform(1, 10, students))
    quality = 3 / costs + random.exponential(0.3, students)
    difficulty = random.lognormal(0, 0.5, texts)
    return costs, quality[:, None] * difficulty + random.normal(0, 0.1, (students, texts))


def run(costs, losses, kept="pick"):
    race = Race(BLOCKS, kept)
    parts = np.split(losses, np.cumsum(BLOCKS)[:-1], axis=1)
    order = range(len(costs))[:: -1 if kept == "pick" else 1]
    return [race.score(lambda number, i=i: parts[number][i]) for i in order][:: -1 if kept == "pick" else 1]


@given(st.integers(0, 10_000))
@settings(max_examples=25, deadline=None)
def test_the_best_score_is_a_whole_one(seed):
    costs, losses = made_up(seed)
    scores = run(costs, losses)
    for score, row in zip(scores, losses, strict=True):
        assert len(score.texts) in np.cumsum(BLOCKS)
        assert score.texts == tuple(row[: len(score.texts)])
        if len(score.texts) == 128:
            assert score.loss == pytest.approx(row.mean())
    assert len(min(scores, key=lambda score: score.loss).texts) == 128


def test_the_pick_is_found_with_less():
    found = used = 0
    for seed in range(20):
        costs, losses = made_up(seed)
        scores = run(costs, losses)
        best = min(range(len(scores)), key=lambda i: scores[i].loss)
        found += best == losses.mean(1).argmin()
        used += sum(len(score.texts) for score in scores)
        assert len(scores[best].texts) == 128
    assert found >= 19
    assert used < 0.5 * 20 * losses.size


def dependent(seed, blocks):
    """Losses (2, texts) of the best student and of its rival: what tells them apart is alike within a block, as of
    objectives that compare the texts of a block with each other."""
    random = np.random.default_rng(seed)
    differences = random.normal(0, 1, blocks)
    differences += 0.05 - differences.mean()
    best = random.normal(5, 1, (blocks, 16))
    rival = best + differences[:, None] + random.normal(0, 0.02, (blocks, 16))
    return np.stack([best.ravel(), rival.ravel()])


@pytest.mark.parametrize("blocks", [8, 32])
def test_the_best_is_rarely_lost_where_the_texts_of_a_block_hang_together(blocks):
    lost = 0
    for seed in range(400):
        best, rival = (row.reshape(blocks, 16) for row in dependent(seed, blocks))
        assert best.mean() < rival.mean()
        race = Race((16,) * blocks, "pick")
        race.score(rival.__getitem__)
        lost += len(race.score(best.__getitem__).texts) < 16 * blocks
    assert lost <= 0.05 * 400


def test_without_racing_all_is_scored():
    costs, losses = made_up(0)
    for score, row in zip(run(costs, losses, "none"), losses, strict=True):
        assert score.loss == pytest.approx(row.mean())
        assert len(score.texts) == 128


def test_what_is_known_is_not_scored_again():
    race = Race((16, 16))
    texts = np.random.default_rng(0).normal(size=32)
    asked = []
    score = race.score(lambda number: asked.append(number) or texts[16:], tuple(texts[:16]))
    assert asked == [1]
    assert score.texts == tuple(texts)
    assert race.score(None, score.texts) == score


def test_diverged_students_are_no_rivals():
    race = Race((16, 16), "pick")
    race.score(lambda number: np.full(16, np.nan))
    assert len(race.score(lambda number: np.ones(16)).texts) == 32


@pytest.mark.parametrize(
    ("texts", "said"),
    [([8, None, 8], "all held-out texts"), ([8, 2, None], "62% of the held-out texts on average")],
)
def test_what_races_saved_is_said(texts, said):
    inputs = SimpleNamespace(heldout_texts=range(8), samples="texts")
    table = SimpleNamespace(frame=pd.DataFrame({"texts": pd.array(texts, dtype="Int64")}))
    assert texts_note(inputs, table) == f"scored on {said}"
