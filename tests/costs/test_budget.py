"""The budget grammar: what it means, that spelling does not matter, and that anything else is one clear line."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from autodistil.costs.budget import read_budget
from autodistil.errors import BudgetError

NUMBERS = st.decimals(min_value="0.001", max_value="9999", places=3)
PREFIXES = {"": 1, "K": 1e3, "M": 1e6, "G": 1e9, "T": 1e12}
UNITS = {"FLOPs": ("flops", 1), "MACs": ("flops", 1), "params": ("params", 1), "parameters": ("params", 1)}
SPACES = st.sampled_from(["", " ", "\t "])
CASES = st.sampled_from([str, str.lower, str.upper, str.title])


@given(NUMBERS, st.sampled_from(sorted(PREFIXES)), st.sampled_from(sorted(UNITS)), SPACES, SPACES, CASES)
def test_spelling_does_not_matter(number, prefix, unit, space, inner, case):
    budget = read_budget(f"{space}{number}{space}{case(prefix + (inner if prefix else '') + unit)}{space}")
    cost, scale = UNITS[unit]
    assert (budget.cost, budget.column, budget.seq_len) == (cost, cost, None)
    assert budget.limit == pytest.approx(float(number) * PREFIXES[prefix] * scale)


@given(st.integers(1, 100_000), SPACES)
def test_flops_may_state_their_length(length, space):
    assert read_budget(f"300MFLOPs{space}@{space}{length}").seq_len == length


@pytest.mark.parametrize(("text", "mb"), [("25MB", 25), ("500KB", 0.5), ("1.5gb", 1500), (".5TB", 500_000)])
def test_sizes_are_in_decimal_megabytes(text, mb):
    assert read_budget(text).limit == pytest.approx(mb)


def test_the_text_is_kept_as_typed_on_one_line():
    assert read_budget("  5 GFLOPs\n@ 64 ").text == "5 GFLOPs @ 64"
    assert read_budget("5e9flops").limit == 5e9


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
        read_budget(text)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 1000


@pytest.mark.parametrize("value", [None, 5, 5.0, b"5MB", ["5MB"], {"flops": 5}])
def test_what_is_no_text_is_refused(value):
    with pytest.raises(BudgetError, match="such as 5GFLOPs"):
        read_budget(value)


@pytest.mark.parametrize(("text", "meant"), [("5GFLPs", "gflops"), ("5Mparms", "mparams"), ("5MBs", "mb")])
def test_a_near_miss_gets_a_hint(text, meant):
    with pytest.raises(BudgetError, match=f"did you mean '{meant}'"):
        read_budget(text)


def test_excess_is_relative_and_works_on_whole_columns():
    budget = read_budget("200MFLOPs")
    assert budget.excess(1e8) == -0.5
    assert budget.excess(budget.limit) == 0
    np.testing.assert_allclose(budget.excess(np.array([1e8, 2e8, 3e8])), [-0.5, 0, 0.5])


@pytest.mark.parametrize(
    ("text", "cost", "limit", "seq_len", "device"),
    [
        (" 12 kbKV ", "kv_bytes", 12000.0, None, None),
        (".5TB", "size_mb", 500000.0, None, None),
        ("0.45MB", "size_mb", 0.45, None, None),
        ("0.13MFLOPs", "flops", 130000.0, None, None),
        ("1.00 GFLOPs", "flops", 1e9, None, None),
        ("1.5gb", "size_mb", 1500.0, None, None),
        ("10KFLOPs", "flops", 10000.0, None, None),
        ("10MFLOPs@256", "flops", 1e7, 256, None),
        ("1FLOPs", "flops", 1.0, None, None),
        ("200Bkv", "kv_bytes", 200.0, None, None),
        ("22.7 M parameters", "params", 2.27e7, None, None),
        ("300Kparams", "params", 300000.0, None, None),
        ("4KBkv", "kv_bytes", 4000.0, None, None),
        ("42.0 FLOPs", "flops", 42.0, None, None),
        ("5 GFLOPs @ 64", "flops", 5e9, 64, None),
        ("500KB", "size_mb", 0.5, None, None),
        ("5e9flops", "flops", 5e9, None, None),
        ("5 t macs", "flops", 5e12, None, None),
        ("3 mac", "flops", 3.0, None, None),
        ("80GB", "size_mb", 80000.0, None, None),
        ("0.08MBfile@cpu", "file_mb", 0.08, None, ("file_mb@cpu", "cpu", None, None, 1)),
        ("0.9ms@cpu,seq=8", "ms", 0.9, 8, ("ms@cpu,seq=8", "cpu", None, None, 1)),
        ("1.5s@cpu", "ms", 1500.0, None, ("ms@cpu", "cpu", None, None, 1)),
        ("200MBram", "ram_mb", 200.0, None, ("ram_mb@cpu", "cpu", None, None, 1)),
        ("2GBram", "ram_mb", 2000.0, None, ("ram_mb@cpu", "cpu", None, None, 1)),
        ("25MBfile@cuda,batch=8", "file_mb", 25.0, None, ("file_mb@cuda,batch=8", "cuda", None, None, 8)),
        ("30.6MBram", "ram_mb", 30.6, None, ("ram_mb@cpu", "cpu", None, None, 1)),
        ("500KBfile", "file_mb", 0.5, None, ("file_mb@cpu", "cpu", None, None, 1)),
        ("5ms@cpu,threads=1,runtime=torch,seq=17", "ms", 5.0, 17,
            ("ms@cpu,threads=1,runtime=torch,seq=17", "cpu", "torch", 1, 1)),
        ("8 MS@ cpu , runtime = onnx-int8 , batch = 2", "ms", 8.0, None,
            ("ms@cpu,runtime=onnx-int8,batch=2", "cpu", "onnx-int8", None, 2)),
        ("8ms@a/Table.json", "ms", 8.0, None, ("ms@a/Table.json", "a/Table.json", None, None, 1)),
        ("+8ms@laptop,threads=2", "ms", 8.0, None, ("ms@laptop,threads=2", "laptop", None, 2, 1)),
        ("9ms@<b>laptop</b>", "ms", 9.0, None, ("ms@<b>laptop</b>", "<b>laptop</b>", None, None, 1)),
    ],
)  # fmt: skip
def test_budgets_mean_what_they_always_meant(text, cost, limit, seq_len, device):
    budget = read_budget(text)
    assert (budget.cost, budget.limit, budget.seq_len) == (cost, limit, seq_len)
    names = ("column", "device", "runtime", "threads", "batch")
    assert (tuple(getattr(budget, name) for name in names) if device else None) == device
