"""The page that puts measured ratios beside their goals."""

import json

import pytest
from goals import goal_lines, records, section

SPREAD = {"median": 2.5, "min": 1.5, "max": 3.0, "rounds": 5}


@pytest.mark.parametrize(
    ("measure", "goal", "verdict"),
    [
        ("times faster", 1.5, "yes"),
        ("times faster", 2.0, "median only"),
        ("times faster", 2.6, "no"),
        ("of random's", 3.0, "yes"),
        ("of random's", 2.9, "median only"),
        ("of random's", 2.4, "no"),
    ],
)
def test_the_verdict_looks_at_median_and_worst_round(measure: str, goal: float, verdict: str) -> None:
    (line,) = goal_lines({"rows": [{"case": "a", measure: SPREAD, "goal": goal}]})
    assert line.endswith(f"| {verdict} |")


def test_rows_without_a_goal_are_left_out_and_what_was_not_reached_is_no_success() -> None:
    rows = [{"case": "a", "times faster": SPREAD, "goal": None}, {"case": "b", "share": "not reached", "goal": 0.2}]
    assert list(goal_lines({"rows": rows})) == ["| b | share | not reached | | at most 0.2 | no |"]


def test_a_quick_record_gives_way_to_a_real_one(tmp_path) -> None:
    machine = {"processor": "x", "cpus": 2, "accelerator": None, "load": 0.1}
    record = {"machine": machine, "versions": {"torch": "2"}, "threads": 1, "commit": "c", "command": "d", "rows": []}
    for name in ("step-quick", "step-fp32-cpu", "costs-quick"):
        (tmp_path / f"{name}.json").write_text(json.dumps(record))
    assert list(records(tmp_path)) == ["costs-quick", "step-fp32-cpu"]
    assert "No row with a goal." in section("costs-quick", record)
