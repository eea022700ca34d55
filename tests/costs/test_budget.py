"""The budget grammar: what it means, that spelling does not matter, and that anything else is one clear line."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from autodistil.costs.budget import parse_budget
from autodistil.errors import BudgetError

NUMBERS = st.decimals(min_value="0.001", max_value="9999", places=3)
PREFIXES = {"": 1, "K": 1e3, "M": 1e6, "G": 1e9, "T": 1e12}
UNITS = {"FLOPs": ("flops", 1), "MACs": ("flops", 1), "params": ("params", 1), "parameters": ("params", 1)}
SPACES = st.sampled_from(["", " ", "\t "])
CASES = st.sampled_from([str, str.lower, str.upper, str.title])


@given(NUMBERS, st.sampled_from(sorted(PREFIXES)), st.sampled_from(sorted(UNITS)), SPACES, SPACES, CASES)
def test_spelling_does_not_matter(number, prefix, unit, space, inner, case):
    budget = parse_budget(f"{space}{number}{space}{case(prefix + (inner if prefix else '') + unit)}{space}")
    cost, scale = UNITS[unit]
    assert (budget.cost, budget.column, budget.seq_len) == (cost, cost, None)
    assert budget.limit == pytest.approx(float(number) * PREFIXES[prefix] * scale)


@given(st.integers(1, 100_000), SPACES)
def test_flops_may_state_their_length(length, space):
    assert parse_budget(f"300MFLOPs{space}@{space}{length}").seq_len == length


@pytest.mark.parametrize(("text", "mb"), [("25MB", 25), ("500KB", 0.5), ("1.5gb", 1500), (".5TB", 500_000)])
def test_sizes_are_in_decimal_megabytes(text, mb):
    assert parse_budget(text).limit == pytest.approx(mb)


def test_the_text_is_kept_as_typed_on_one_line():
    assert parse_budget("  5 GFLOPs\n@ 64 ").text == "5 GFLOPs @ 64"
    assert parse_budget("5e9flops").limit == 5e9


@pytest.mark.parametrize(
    "text",
    [
        "", " ", "@", "5", "5 0MB", "1,000MB", "1_000MB", "+-5MB", "-1GFLOPs", "0MB", "0.0GFLOPs", "nanGFLOPs", "infMB",
        "1e999MB", "1e-999MB", "1e1e1MB", "0x10MB", "5 parsecs", "5MiB", "7B", "5G", "5XFLOPs", "5MFLOPsMFLOPs",
        "GFLOPs", "5GFLOPs@", "5GFLOPs@0", "5GFLOPs@x", "5GFLOPs@-1", "5GFLOPs@12.5", "5GFLOPs@1e3", "5GFLOPs@100001",
        "5GFLOPs@128@128", "5GFLOPs@" + "9" * 5000, "12Mparams@128", "25MB@128", "٥GFLOPs", "5GFLOPs@٣", "5MB\x00",
        "5GFLOPs; rm -rf /", "9" * 100_000 + "!", "5g" + " " * 100_000 + "!", "0" * 100_000 + "5MB",
    ],
)  # fmt: skip
def test_anything_else_is_refused_on_one_bounded_line(text):
    with pytest.raises(BudgetError, match=r"^budget: got .*allowed: .*; .*") as caught:
        parse_budget(text)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 1000


@pytest.mark.parametrize("value", [None, 5, 5.0, b"5MB", ["5MB"], {"flops": 5}])
def test_what_is_no_text_is_refused(value):
    with pytest.raises(BudgetError, match="such as 5GFLOPs"):
        parse_budget(value)


@pytest.mark.parametrize(("text", "meant"), [("5GFLPs", "gflops"), ("5Mparms", "mparams"), ("5MBs", "mb")])
def test_a_near_miss_gets_a_hint(text, meant):
    with pytest.raises(BudgetError, match=f"did you mean '{meant}'"):
        parse_budget(text)


def test_excess_is_relative_and_works_on_whole_columns():
    budget = parse_budget("200MFLOPs")
    assert budget.excess(1e8) == -0.5
    assert budget.excess(budget.limit) == 0
    np.testing.assert_allclose(budget.excess(np.array([1e8, 2e8, 3e8])), [-0.5, 0, 0.5])
