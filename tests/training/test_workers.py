"""N workers get the gradient, the losses and the weights of one, whatever the objective and the shares."""

import pytest
import torch
from autodistil_helpers import random_teacher
from hypothesis import given
from hypothesis import strategies as st
from workers_helpers import CASES, TEXTS, all_cases, batches, gradients, in_processes, new_trainer, trained

from autodistil.data.batch import take_rows
from autodistil.errors import ConfigError
from autodistil.training.workers import ALONE, shard


@given(st.integers(1, 400).flatmap(lambda total: st.tuples(st.just(total), st.integers(1, total))))
def test_each_text_has_one_worker(sizes):
    total, workers = sizes
    rows = [row for rank in range(workers) for row in range(total)[shard(total, rank, workers)]]
    assert rows == list(range(total))
    lengths = {len(range(total)[shard(total, rank, workers)]) for rank in range(workers)}
    assert max(lengths) - min(lengths) <= 1
    assert min(lengths) >= 1


def test_more_workers_than_texts_are_refused():
    with pytest.raises(ConfigError, match="5 workers are more than the 4 texts"):
        shard(4, 0, 5)


def test_rows_are_cut_to_their_longest_text():
    mask = torch.tensor([[1, 1, 1], [1, 0, 0], [1, 1, 0]])
    batch = {"input_ids": torch.arange(9).view(3, 3), "attention_mask": mask}
    assert take_rows(batch, slice(1, 2)).keys() == {"input_ids"}
    assert take_rows(batch, slice(1, 3))["input_ids"].tolist() == [[3, 4], [6, 7]]
    assert take_rows(batch, slice(0, 3))["input_ids"].equal(batch["input_ids"])


@pytest.fixture(scope="module")
def of_two():
    return in_processes(all_cases, 2)


@pytest.mark.parametrize("case", CASES)
def test_gradient_of_two_is_that_of_one(of_two, case):
    expected, losses = gradients(case, ALONE)
    for found, found_losses in (result["gradients"][case] for result in of_two):
        torch.testing.assert_close(found_losses, losses, rtol=1e-5, atol=1e-6)
        assert found.keys() == expected.keys()
        scale = max(float(value.abs().max()) for value in expected.values())
        for name, value in expected.items():
            torch.testing.assert_close(found[name], value, rtol=1e-5, atol=1e-5 * scale, msg=name)


def test_the_mean_of_means_is_another_loss():
    """The comparison has teeth: without shares, workers with padded texts would not add up."""
    trainer = new_trainer("relation-kl", accumulate=1)
    batch = next(batches(padded=True, parts=1))
    whole, *halves = (
        trainer.add_gradients(part, random_teacher().states(part))
        for part in (batch, *(take_rows(batch, shard(TEXTS, rank, 2)) for rank in range(2)))
    )
    assert not torch.allclose(torch.stack(halves).mean(0), whole, rtol=1e-3)


def test_training_by_two_ends_where_one_does(of_two):
    weights, rows = trained(ALONE)
    for found, found_rows in (result["trained"] for result in of_two):
        assert [row[:3] for row in found_rows] == [row[:3] for row in rows]
        for row, expected in zip(found_rows, rows, strict=True):
            # Later steps see what AdamW made of gradients that are rounding only, which differs by processor.
            assert row[3:] == pytest.approx(expected[3:], rel=1e-4 if row[1] == rows[0][1] else 1e-3)
        for name, value in weights.items():  # AdamW makes a full step of a gradient that is rounding only
            assert float((found[name] - value).abs().median()) < 1e-5, name
    first, second = (result["trained"][0] for result in of_two)
    assert all(value.equal(second[name]) for name, value in first.items())


def test_flags_of_any_worker_count_for_all(of_two):
    assert [result["any"] for result in of_two] == [[True, False]] * 2
