"""Packed sequences and the order of training."""

import subprocess
import sys
from collections import Counter
from itertools import permutations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from autodistil.data.sequences import PackedSequences, batch_indices
from autodistil.data.tokens import TokenStream
from autodistil.errors import CorpusError


@pytest.fixture(scope="session")
def stream_of(tmp_path_factory):
    """A stream of the ids 0, 1, …, length - 1."""
    folder = tmp_path_factory.mktemp("streams")

    def make(length: int) -> TokenStream:
        path = folder / "train.bin"
        np.arange(length, dtype=np.uint16).tofile(path)
        return TokenStream(path, "uint16", length)

    return make


@given(
    length=st.integers(1, 400),
    seq_len=st.integers(1, 40),
    prefix=st.lists(st.integers(0, 70_000), max_size=2),
    suffix=st.lists(st.integers(0, 70_000), max_size=2),
)
def test_contents_one_after_the_other_are_the_stream(stream_of, length, seq_len, prefix, suffix):
    content = seq_len - len(prefix) - len(suffix)
    if content < 1 or length < content:
        with pytest.raises(CorpusError):
            PackedSequences(stream_of(length), seq_len, prefix, suffix)
        return
    packed = PackedSequences(stream_of(length), seq_len, prefix, suffix)
    rows = packed.take(np.arange(len(packed)))
    assert rows.shape == (length // content, seq_len)
    assert rows.dtype == np.int64
    assert rows[:, : len(prefix)].tolist() == [prefix] * len(packed)
    assert rows[:, len(prefix) + content :].tolist() == [suffix] * len(packed)
    assert rows[:, len(prefix) : len(prefix) + content].ravel().tolist() == list(range(len(packed) * content))


def test_taking_in_any_order_and_out_of_range(stream_of):
    packed = PackedSequences(stream_of(100), 12, (7,), [8])
    rows = packed.take(np.arange(10))
    assert np.array_equal(packed.take(np.array([3, 3, 0])), rows[[3, 3, 0]])
    assert packed.take(np.array([], dtype=np.int64)).shape == (0, 12)
    with pytest.raises(IndexError):
        packed.take(np.array([10]))


def test_too_short_for_a_sequence(stream_of):
    with pytest.raises(CorpusError, match="the train text has 100 tokens; a sequence of 128 needs 126"):
        PackedSequences(stream_of(100), 128, [1], [2])
    with pytest.raises(CorpusError, match=r"seq_len = 2 leaves no room .* allowed: 3 or more"):
        PackedSequences(stream_of(100), 2, [1], [2])


@given(
    sequences=st.integers(1, 200),
    batch_size=st.integers(1, 300),
    seed=st.integers(0, 2**70),
    epoch=st.integers(0, 10**6),
)
def test_each_epoch_is_a_permutation_of_whole_batches(sequences, batch_size, seed, epoch):
    size = min(batch_size, sequences)
    steps = sequences // size
    drawn = [batch_indices(sequences, batch_size, epoch * steps + step, seed) for step in range(steps)]
    every = np.concatenate(drawn)
    assert len(set(every.tolist())) == len(every) == steps * size > sequences - size
    assert ((every >= 0) & (every < sequences)).all()
    assert every.dtype == np.int64


@given(sequences=st.integers(1, 10**12), batch_size=st.integers(1, 64), step=st.integers(0, 10**6))
def test_no_batch_has_a_sample_twice(sequences, batch_size, step):
    batch = batch_indices(sequences, batch_size, step, 0)
    assert len(set(batch.tolist())) == len(batch) == min(sequences, batch_size)


def test_what_an_epoch_leaves_over_is_seen_in_others():
    seen = Counter(i for step in range(400) for i in batch_indices(7, 4, step, 0).tolist())
    assert set(seen) == set(range(7))
    assert max(seen.values()) < 1.3 * min(seen.values())


def test_seeds_and_epochs_differ():
    orders = {tuple(batch_indices(50, 50, epoch, seed)) for epoch in range(10) for seed in range(10)}
    assert len(orders) == 100


@pytest.mark.parametrize("sequences", [2, 3, 4])
def test_every_order_of_a_few_sequences_is_about_as_frequent(sequences):
    drawn = Counter(tuple(batch_indices(sequences, sequences, 0, seed).tolist()) for seed in range(1200))
    orders = list(permutations(range(sequences)))
    assert set(drawn) == set(orders)
    expected = 1200 / len(orders)
    chi_squared = sum((drawn[order] - expected) ** 2 / expected for order in orders)
    assert chi_squared < 2 * len(orders) + 15


def test_sequences_are_spread_over_an_epoch():
    """No trend and no correlation between neighbours, as in a random permutation of 4,096 (standard error 0.016)."""
    order = batch_indices(4096, 4096, 0, 0).astype(float)
    assert abs(np.corrcoef(order, np.arange(4096))[0, 1]) < 0.06
    assert abs(np.corrcoef(order[1:], order[:-1])[0, 1]) < 0.06


def test_order_is_the_same_forever():
    """Of a resumed run under another version of NumPy, too."""
    assert batch_indices(1000, 8, 0, 0).tolist() == GOLDEN
    code = "from autodistil.data.sequences import batch_indices; print(batch_indices(10**7, 4, 10**5, 3).tolist())"
    other = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert other.stdout.strip() == str(batch_indices(10**7, 4, 10**5, 3).tolist())


GOLDEN = [162, 778, 291, 749, 453, 549, 383, 132]
