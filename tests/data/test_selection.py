"""The contract of choices of text: an order of all sentences, whatever the run's seed; what each one puts first."""

from dataclasses import replace

import numpy as np
import pytest
from autodistil_helpers import END, sentences_of

from autodistil.data.selection import SELECTIONS, Pool, select

TEXTS = [[10 + i, 11 + (i * 7) % 13, 12, 13, 14, *range(15, 15 + i % 4), END] for i in range(40)]
COPIES = {3: 5, 8: 2}
"""Number of a text -> how often it comes again."""


@pytest.fixture
def pool(tmp_path):
    again = [TEXTS[i] for i, times in COPIES.items() for _ in range(times)]
    sentences = sentences_of(tmp_path, [token for text in [*TEXTS, *again] for token in text])
    assert len(sentences) == len(TEXTS)
    generator = np.random.default_rng(0)
    centres = np.eye(4)[np.minimum(np.arange(40) // 4, 3)]  # clusters of 4, 4, 4 and 28
    whole = centres + 0.01 * generator.standard_normal((40, 4))
    half = whole.copy()
    half[[7, 21]] *= -1
    unit = [part / np.linalg.norm(part, axis=1, keepdims=True) for part in (whole, half)]
    return Pool(sentences, lambda: iter([(rows, unit[0][rows], unit[1][rows]) for rows in np.split(np.arange(40), 5)]))


@pytest.mark.parametrize("name", SELECTIONS)
def test_an_order_has_each_sentence_once_and_is_the_same_again(pool, name):
    order = SELECTIONS[name](pool)
    assert sorted(order) == list(range(40))
    assert np.array_equal(SELECTIONS[name](pool), order)


@pytest.mark.parametrize("name", SELECTIONS)
@pytest.mark.parametrize("tokens", [1, 60, 100_000])
def test_what_is_taken_has_the_tokens_asked_for(pool, name, tokens):
    numbers = select(name, pool, tokens)
    assert (np.diff(numbers) > 0).all()
    sizes = np.diff(pool.sentences.spans, axis=1)[:, 0]
    taken = sizes[numbers].sum()
    assert taken <= max(tokens, sizes.max())
    assert len(numbers) == 40 or taken > tokens - sizes.max()
    order = SELECTIONS[name](pool)
    assert set(numbers) == set(order[: len(numbers)]), "those that come first"


def test_what_each_one_puts_first(pool):
    assert set(SELECTIONS["frequent"](pool)[:2]) == set(COPIES)
    assert SELECTIONS["frequent"](pool)[0] == 3
    assert set(SELECTIONS["hard"](pool)[:2]) == {7, 21}
    first = SELECTIONS["diverse"](pool)[:4]
    assert len({min(number // 4, 3) for number in first}) == 4, "one of each cluster, however small"
    orders = {name: order(pool).tolist() for name, order in SELECTIONS.items()}
    assert len({tuple(order) for order in orders.values()}) == 4
    assert orders["random"] != sorted(orders["random"])


def test_only_what_goes_by_embeddings_has_the_teacher_read(pool):
    blind = Pool(pool.sentences, lambda: pytest.fail("read"))
    assert select("random", blind, 50).size
    assert select("frequent", blind, 50).size


def test_chosen_sentences_are_a_part_of_all(pool):
    numbers = np.array([2, 3, 30])
    part = replace(pool.sentences, chosen=numbers)
    assert len(part) == 3
    assert np.array_equal(part.spans, pool.sentences.spans[numbers])
    assert part.counts.tolist() == [1, 1 + COPIES[3], 1]
    assert part.mean_length == pytest.approx(np.diff(part.spans, axis=1).mean() + 2)
