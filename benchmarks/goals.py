"""Measured ratios beside their goals: reports/benchmarks/README.md, made of the records that the other scripts left.

    python benchmarks/goals.py

Every row of a record that has a goal is shown with its median and its worst round; quick records, which are there to
see that a script runs, only where there is no real one. Run it after the scripts whose results it shows.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

from bench_common.options import REPORTS

from autodistil.utils import write_text

AT_LEAST, AT_MOST = "at least", "at most"
MEASURES: Mapping[str, str] = MappingProxyType(
    {
        "times faster": AT_LEAST,
        "times fewer tokens": AT_LEAST,
        "% of stated peak": AT_LEAST,
        "Kendall tau": AT_LEAST,
        "error %": AT_MOST,
        "% of the space": AT_MOST,
        "of random's": AT_MOST,
        "share": AT_MOST,
    }
)
"""Column that a row's goal is about -> which side of the goal is good."""
_SUFFIX = "-quick"
_HEAD = """# Benchmarks beside their goals

Written by `python benchmarks/goals.py`; what was tried is in [../LOG.md](../LOG.md).
"""

Record = Mapping[str, Any]


def records(folder: Path) -> dict[str, Record]:
    """Records by name, a quick one only where there is no real one of its script."""
    paths = {path.stem: path for path in sorted(folder.glob("*.json"))}
    real = {name for name in paths if not name.endswith(_SUFFIX)}
    shown = [n for n in paths if n in real or not any(other.startswith(n.removesuffix(_SUFFIX)) for other in real)]
    return {name: json.loads(paths[name].read_text(encoding="utf-8")) for name in shown}


def goal_lines(record: Record) -> Iterator[str]:
    """A line of the table for each row that has a goal."""
    for row in record["rows"]:
        measure = next((name for name in MEASURES if name in row), None)
        goal = row.get("goal", row.get("goal %"))
        if measure is not None and goal is not None:
            yield _line(_name(row), measure, row[measure], goal)


def _name(row: Mapping[str, Any]) -> str:
    """What the row is about: its first column, which names it, and what else tells the rows of a sampler apart."""
    first = str(next(iter(row.values())))
    return f"{first}, {row['share of the volume']:.0%} on {row['cost']}" if "share of the volume" in row else first


def _line(name: str, measure: str, value: Any, goal: float) -> str:
    side = MEASURES[measure]
    if not isinstance(value, Mapping):
        value = {"median": value, "min": value, "max": value}
    if isinstance(value["median"], str):
        return f"| {name} | {measure} | {value['median']} | | {side} {goal:.3g} | no |"
    worst = value["min" if side == AT_LEAST else "max"]
    met = [number >= goal if side == AT_LEAST else number <= goal for number in (value["median"], worst)]
    verdict = "yes" if all(met) else "median only" if met[0] else "no"
    return f"| {name} | {measure} | {value['median']:.4g} | {worst:.4g} | {side} {goal:.3g} | {verdict} |"


def section(name: str, record: Record) -> str:
    """Heading, how it was measured, table."""
    lines = list(goal_lines(record))
    machine, versions = record["machine"], record["versions"]
    device = machine.get("accelerator") or f"{machine['processor']}, {machine['cpus']} cores"
    how = (
        f"`{record['command']}`\n\n{device}, {record['threads']} thread{'s' * (record['threads'] != 1)}, torch "
        f"{versions['torch']}, load {machine['load']} at the end, commit {record['commit']}; "
        f"record: [{name}.json]({name}.json)"
    )
    head = "| what | measure | median | worst round | goal | met |\n| --- | --- | ---: | ---: | --- | --- |"
    table = "\n".join([head, *lines]) if lines else "No row with a goal."
    return f"## {name}\n\n{how}\n\n{table}\n"


def main() -> None:
    """Write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=REPORTS, metavar="DIR", help="folder of the records [%(default)s]")
    folder = parser.parse_args().out
    sections = [section(name, record) for name, record in records(folder).items()]
    print(write_text(folder / "README.md", "\n".join([_HEAD, *sections])))


if __name__ == "__main__":
    main()
