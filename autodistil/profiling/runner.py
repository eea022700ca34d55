"""The runner of an emitted ONNX set: one file for a phone or an edge box that needs only ONNX Runtime and NumPy.

`python profile.pyz` beside `set.json` measures the set as `autodistil profile` would, and writes the same `table.json`.
It starts itself once more as the worker. Nothing here or below imports PyTorch.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from pathlib import Path

from autodistil.errors import AutodistilError, ProfileError
from autodistil.profiling.session import Plan, Prepared, measure
from autodistil.profiling.stopwatch import MIN_ROUNDS

SET = "set.json"
"""What the set holds: runtime, shapes, header of the table, students."""


def main(arguments: list[str] | None = None) -> None:
    """Entry point of `profile.pyz`; exit status as that of `autodistil`."""
    arguments = sys.argv[1:] if arguments is None else arguments
    if arguments == ["--worker"]:
        from autodistil.profiling import worker

        worker.main()
        return
    try:
        _run(_parser().parse_args(arguments))
    except AutodistilError as error:
        _fail(str(error), error.exit_code)
    except (ValueError, KeyError, TypeError) as error:
        _fail(f"{SET} is damaged ({error!r}); copy the whole folder again")
    except OSError as error:
        _fail(f"{error.filename!r}: {error.strerror}; run it beside {SET}, in a folder to write to")


def _fail(message: str, status: int = 2) -> None:
    sys.stderr.write(f"profile: {message}\n")
    sys.exit(status)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("profile", description="Measure an ONNX set and write the device's latency table.")
    parser.add_argument("--threads", type=int, help="CPU threads (default: as the set says)")
    parser.add_argument("--rounds", type=int, help=f"timed rounds, at least {MIN_ROUNDS}")
    parser.add_argument("--out", type=Path, default="table.json", help="where the table goes (default: table.json)")
    return parser


def _run(arguments: argparse.Namespace) -> None:
    folder = Path(sys.argv[0]).resolve().parent
    content = json.loads((folder / SET).read_text(encoding="utf-8"))
    rows = [{**row, "path": Path(row["path"]), "cases": Path(row["cases"])} for row in content["students"]]
    students = [Prepared(**row).moved(Path(), folder) for row in rows]
    missing = [student for student in students if not student.path.is_file()]
    if missing:
        raise ProfileError(f"the set has no {missing[0].path}; copy the whole folder")
    plan = Plan(
        runtime=content["runtime"],
        threads=content["threads"] if arguments.threads is None else arguments.threads,
        shapes=tuple((batch, seq_len) for batch, seq_len in content["shapes"]),
        rounds=content["rounds"] if arguments.rounds is None else arguments.rounds,
        memory=content["memory"],
        worker=(sys.executable, os.path.abspath(sys.argv[0]), "--worker"),
    )
    if not arguments.out.parent.is_dir():
        raise ProfileError(f"--out: got {str(arguments.out)!r}; allowed: a file in a folder that is there")
    session = measure(plan, students, content["header"], lambda: os.write(2, b"."))
    arguments.out.write_text(json.dumps(session.table, indent=1) + "\n", encoding="utf-8")
    busy = sum(entry["busy"] for entry in session.table["entries"])
    words = f"; the machine was busy for {busy}: close other programs and run again" if busy else ""
    sys.stderr.write(f"\n{len(session.table['entries'])} entries in {arguments.out}{words}\n")
