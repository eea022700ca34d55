"""An ONNX set to carry to a phone or an edge box: the students, what their outputs must be, and a one-file runner.

The runner is a zip of this package's own measuring modules (Python runs such a file), so that a device far away is
measured by the code that measures here.
"""

from __future__ import annotations

import json
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from autodistil.errors import ProfileError
from autodistil.formats import FORMATS
from autodistil.profiling.profile import StudentSource, check_lengths, prepare_students
from autodistil.profiling.runner import SET
from autodistil.profiling.session import Plan, Prepared
from autodistil.utils import Progress, atomic_path, make_folder, write_text

RUNNER = "profile.pyz"
_PACKAGE = Path(__file__).parents[1]
_MEASURING = ("__init__", "fingerprint", "memory", "runner", "session", "stopwatch", "worker")
RUNNER_MODULES = (
    *("errors.py", "utils.py"),
    *(f"formats/{path.name}" for path in sorted((_PACKAGE / "formats").glob("*.py"))),
    *(f"profiling/{name}.py" for name in _MEASURING),
)
"""What the runner is made of; they import nothing else of this package."""


def emit_set(
    sources: Sequence[StudentSource], plan: Plan, header: Mapping[str, Any], to: Path, progress: Progress | None = None
) -> Path:
    """Write the ONNX set of students; returns the path of the runner.

    Args:
        sources: the students.
        plan: its runtime (`onnx` or `onnx-int8`), threads, shapes, rounds and memory are what the runner takes.
        header: `table_header` of where they come from.
        to: a folder that does not exist yet, or is empty.
        progress: told what happens.

    Raises:
        ProfileError: the runtime needs more than ONNX Runtime, a length does not fit, or the folder is taken.
        RunError: the disk refuses.
    """
    check_lengths(sources, plan)
    if FORMATS[plan.runtime].libraries != ("onnxruntime",):
        raise ProfileError(f"runtime: got {plan.runtime!r} with --emit; allowed: onnx, onnx-int8; choose one")
    if plan.device != "cpu":
        raise ProfileError(
            f"device: got {plan.device!r} with --emit; allowed: cpu, which the runner measures; choose it"
        )
    if to.exists() and (not to.is_dir() or any(to.iterdir())):
        raise ProfileError(f"emit target {str(to)!r} exists and is not an empty folder; give --emit a new folder")
    make_folder(to)
    return write_set(prepare_students(sources, plan.runtime, to / "students", progress), plan, header, to)


def write_set(students: Sequence[Prepared], plan: Plan, header: Mapping[str, Any], to: Path) -> Path:
    """Make a set of students that lie below `to`; returns the path of the runner."""
    runner = to / RUNNER
    with atomic_path(runner) as temporary, zipfile.ZipFile(temporary, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("__main__.py", "from autodistil.profiling.runner import main\n\nmain()\n")
        archive.writestr("autodistil/__init__.py", '"""The measuring part of autodistil."""\n')
        for module in RUNNER_MODULES:
            archive.write(_PACKAGE / module, f"autodistil/{module}")
    content = {
        "header": dict(header),
        **{name: getattr(plan, name) for name in ("runtime", "threads", "shapes", "rounds", "memory")},
        "students": [vars(student.moved(to, Path())) for student in students],
    }
    write_text(to / SET, json.dumps(content, indent=1, default=Path.as_posix) + "\n")  # last: without it, no set
    return runner
