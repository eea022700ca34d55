"""Cases take turns, ratios are by round, records are whole, a missing peer gives its reason."""

import json

import pytest
from bench_common.memory import peak_of
from bench_common.peers import PeerEnvironment, PeerMissing
from bench_common.picture import figure
from bench_common.record import print_table, write_record
from bench_common.timing import Spread, ratio, take_turns


@pytest.fixture(autouse=True)
def _no_collection(monkeypatch):
    """Between cases, which is slow in a process that has run many other tests."""
    monkeypatch.setattr("bench_common.timing.gc.collect", lambda: 0)


def test_every_round_takes_every_case_once_after_a_warm_up():
    calls = []
    seconds = take_turns({name: lambda name=name: calls.append(name) for name in "abc"}, rounds=4, warm_up=2)
    assert [sorted(calls[i : i + 3]) for i in range(0, 18, 3)] == [list("abc")] * 6
    assert {name: len(values) for name, values in seconds.items()} == {"a": 4, "b": 4, "c": 4}


def test_a_case_with_a_clock_of_its_own_is_believed():
    seconds = take_turns({"own": lambda: 2.0, "other": lambda: 1.0}, rounds=3)
    assert ratio(seconds, "own", "other") == Spread(2.0, 2.0, 2.0, 3)


def test_ratios_are_by_round():
    spread = ratio({"slow": [2.0, 9.0, 4.0], "fast": [1.0, 3.0, 4.0]}, "slow", "fast")
    assert spread == Spread(median=2.0, low=1.0, high=3.0, rounds=3)


def test_a_record_holds_conditions_settings_and_spreads(tmp_path, capsys):
    rows = [{"case": "ours", "ratio": Spread(2.0, 1.0, 3.0, 5), "goal": 2.0}, {"case": "theirs", "why": "missing"}]
    record = json.loads(write_record(tmp_path / "deep" / "r.json", rows, {"batch": 2}, parts={"a": 1}).read_text())
    assert {"machine", "versions", "command", "threads", "commit"} <= record.keys()
    assert record["settings"] == {"batch": 2}
    assert record["parts"] == {"a": 1}
    assert record["rows"][0]["ratio"] == {"median": 2.0, "min": 1.0, "max": 3.0, "rounds": 5}
    print_table(rows)
    assert "2 (1 to 3)" in capsys.readouterr().out
    assert figure(rows[:1], "ratio", "title", None)["data"][0]["x"] == [2.0]


def test_peak_memory_is_that_of_the_work():
    """Of this process the measured one inherits nothing."""
    ballast = b"x" * 200_000_000
    few, many = (peak_of(ballast[:1].ljust, size) for size in (1, 100_000_000))
    assert 80_000_000 < many - few < 150_000_000
    assert few < len(ballast)


def test_a_peer_that_is_not_installed_says_so(tmp_path):
    with pytest.raises(PeerMissing, match="--peers install"):
        PeerEnvironment("nobody", ["nobody==1"]).python(tmp_path, install=False)
