"""Objectives: what is read, what is refused, what is chosen, and that a sum is the sum of its terms."""

import pytest
import torch
from autodistil_helpers import objective_of, states_of
from hypothesis import given
from hypothesis import strategies as st

from autodistil.errors import ConfigError
from autodistil.objectives.objective import choose_relation_heads, read_cuts, resolve_objective


@given(st.integers(1, 12), st.lists(st.integers(1, 12), min_size=1, max_size=5), st.integers(1, 64))
def test_chosen_relation_heads_divide_every_width(teacher_heads, student_heads, head_size):
    teacher_width, widths = teacher_heads * head_size, [heads * head_size for heads in student_heads]
    heads = resolve_objective("relation-kl", None, teacher_width, widths).options.relation_heads
    assert all(width % heads == 0 for width in (teacher_width, *widths))
    assert heads == 1 or teacher_width // heads >= 16


def test_relation_heads_of_base_models():
    assert choose_relation_heads(768, 768) == 48  # MiniLMv2
    assert resolve_objective("relation-kl", None, 384, [96, 128, 384]).options.relation_heads == 16


@pytest.mark.parametrize(
    ("name", "heads", "expected"), [("relation-kl", 7, "allowed here: 1, 2"), ("relation", None, "relation-")]
)
def test_wrong_objectives_are_refused(name, heads, expected):
    with pytest.raises(ConfigError, match=expected):
        resolve_objective(name, heads, 64, [32, 64])


def test_a_weighted_sum_is_the_sum_of_its_terms():
    generator = torch.Generator().manual_seed(0)
    student, teacher = (states_of(torch.randn(3, 3, 4, 7, 6, generator=generator).unbind()) for _ in range(2))
    whole = objective_of("relation-kl + 2*embedding-similarity+.5 * last-hidden", 4)
    assert whole.name == "relation-kl+2*embedding-similarity+0.5*last-hidden"
    parts = [w * objective_of(name, 4)(student, teacher) for w, name in whole.terms]
    torch.testing.assert_close(whole(student, teacher), sum(parts))


def test_objectives_say_what_they_need():
    assert not objective_of("relation-kl").needs_output
    assert objective_of("embedding-cosine").needs_output
    assert not objective_of("last-hidden").needs_hidden
    assert objective_of("relation-kl+hidden").needs_hidden


def test_auto_adds_the_output_for_sentence_encoders():
    assert not resolve_objective("auto", None, 64, [32]).needs_output
    embedding = resolve_objective("auto", None, 64, [32], "cls")
    assert embedding.needs_output
    assert embedding.options.pooling == "cls"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2*hiden", "did you mean 'hidden'"),
        ("0*hidden", "above 0"),
        ("hidden+2*hidden", "twice"),
        ("x*hidden", "no number"),
        ("", "unknown"),
    ],
)
def test_wrong_sums_are_refused(text, expected):
    with pytest.raises(ConfigError, match=expected):
        resolve_objective(text, None, 64, [32])


def test_cuts_and_their_term_go_together():
    assert resolve_objective("auto", None, 64, [32], "mean", cuts=(32, 8)).name.endswith("+matryoshka")
    assert resolve_objective("matryoshka", None, 64, [32], cuts=(32, 8)).options.cuts == (32, 8)
    assert resolve_objective("auto", None, 64, [32], "mean", exits=True).name.endswith("+20*exits")
    with pytest.raises(ConfigError, match="exits: objective 'relation-kl' has no term of it"):
        resolve_objective("relation-kl", None, 64, [32], exits=True)
    for text, cuts, said in (("matryoshka", (), "needs dimensions"), ("relation-kl", (8,), "no term of cuts")):
        with pytest.raises(ConfigError, match=said):
            resolve_objective(text, None, 64, [32], cuts=cuts)


@pytest.mark.parametrize("text", ["", "64,", "64,64", "0", "-3", "1e3", "99999999", "64;32"])
def test_wrong_cuts_are_refused(text):
    with pytest.raises(ConfigError, match="whole numbers from 1 to 65,536, each once"):
        read_cuts(text)
    assert read_cuts("64, 256,128") == (256, 128, 64)
