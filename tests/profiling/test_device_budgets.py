"""Budgets of devices: what they mean, and that anything else is one clear line."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from autodistil.costs.budget import DeviceBudget, read_budget
from autodistil.errors import AutodistilError, BudgetError
from autodistil.formats import FORMATS
from autodistil.formats.setting import RuntimeSetting

LONG = "8ms@cpu,threads=1,runtime=onnx,seq=128"
SPACES = st.sampled_from(["", " ", "  "])


@given(
    st.decimals("0.001", 9999, places=3),
    st.integers(1, 64),
    st.sampled_from(list(FORMATS)),
    st.integers(1, 512),
    SPACES,
)
def test_settings_come_in_any_order_and_spacing(number, threads, runtime, length, space):
    parts = [f"threads={threads}", f"runtime={runtime}", f"seq = {length}"]
    for order in (parts, parts[::-1]):
        budget = read_budget(f"{space}{number}{space}MS@{space}cpu{space},{space}{f'{space},'.join(order)}")
        assert budget.limit == pytest.approx(float(number))
        assert budget.setting(99) == RuntimeSetting("cpu", runtime, threads, 1, length)
        assert budget.column == f"ms@cpu,{','.join(order)}".replace(" ", "")


def test_what_is_left_out_has_defaults():
    assert read_budget("8ms@cpu").setting(64) == RuntimeSetting("cpu", "onnx", 1, 1, 64)
    assert read_budget("200MBram").setting(64) == RuntimeSetting("cpu", "onnx", 1, 1, 64)
    assert read_budget("25MBfile@cuda,batch=8").setting(64) == RuntimeSetting("cuda", "onnx", 1, 8, 64)
    assert (read_budget("8ms@laptop").device, read_budget("8ms@a/table.json").measured_here) == ("laptop", False)


@pytest.mark.parametrize(
    ("text", "cost", "limit"), [("1.5s@cpu", "ms", 1500), ("2GBram", "ram_mb", 2000), ("500KBfile", "file_mb", 0.5)]
)
def test_units_are_decimal(text, cost, limit):
    budget = read_budget(text)
    assert (budget.cost, budget.limit) == (cost, pytest.approx(limit))


@pytest.mark.parametrize(("text", "cost"), [("25MB", "size_mb"), ("5GFLOPs", "flops"), ("5GFLOPs@64", "flops")])
def test_other_budgets_are_what_they_were(text, cost):
    budget = read_budget(text)
    assert budget.cost == cost
    assert not isinstance(budget, DeviceBudget)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("-8ms@cpu", "above zero"), ("0ms@cpu", "above zero"), ("1e999ms@cpu", "finite"), ("8ms", "without a device"),
        ("8ms@", "without a device"), ("8ms@cpu,", "the setting"), ("8ms@cpu,thread=1", "did you mean 'threads'"),
        ("8ms@cpu,threads=0", "1 to"), ("8ms@cpu,threads=-1", "whole numbers"), ("8ms@cpu,threads=1.5", "whole"),
        ("8ms@cpu,threads=" + "9" * 200, "whole numbers"), ("8ms@cpu,runtime=onxx", "did you mean 'onnx'"),
        ("8ms@cpu,runtime=", "allowed: torch"), ("8ms@cpu,seq=100001", "1 to 100,000"), ("8ms@cpu,batch=x", "whole"),
        ("8ms@cpu,seq=٣", "whole numbers"), ("eightms@cpu", "allowed"), ("8mss@cpu", "allowed"),
        ("8ms@" + "x" * 100_000, "allowed"), ("8ms@cpu\nthreads=1", "allowed"), ("ms@cpu", "allowed"),
    ],
)  # fmt: skip
def test_anything_else_is_refused_on_one_bounded_line(text, words):
    with pytest.raises(BudgetError, match=words) as caught:
        read_budget(text)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 1000


@given(st.text(max_size=30) | st.from_regex(r"[0-9]{1,3} ?[a-z]{1,5}@[a-z=,0-9]{0,30}", fullmatch=True))
def test_no_text_is_more_than_an_error_line(text):
    assert "\n" not in _error_of(text)


def _error_of(text):
    """What reading says; nothing where it reads a budget."""
    try:
        return "" if read_budget(text).limit > 0 else "no limit\n"
    except AutodistilError as error:
        return str(error)


def test_a_limit_holds_up_to_itself():
    budget = read_budget(LONG)
    assert budget.excess(8.0) == 0
    assert budget.excess(4.0) == -0.5
