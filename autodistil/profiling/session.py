"""A session on one device: starts fresh processes that measure students, and puts their answers into a table's JSON.

No PyTorch, since the runner for phones and edge boxes holds this file too; `latency_table` reads the result.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import IO, Any

from autodistil.errors import IntegrityError, ProfileError
from autodistil.formats.format import files_of
from autodistil.formats.setting import RuntimeSetting, check_whole
from autodistil.profiling.stopwatch import MIN_ROUNDS

WORKER = (sys.executable, "-P", "-m", "autodistil.profiling.worker")
"""The command that starts a worker. -P: what lies in the current folder must not stand in for modules."""
MAX_ROUNDS = 10_000
_MB_A_PROCESS, _STUDENTS_A_PROCESS = 1_500.0, 32
"""Students are timed beside each other as far as they fit into memory together."""
_THREAD_VARIABLES = (
    "OMP_NUM_THREADS",
    "MKL_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
    "NUMEXPR_NUM_THREADS",
)


@dataclass(frozen=True)
class Plan:
    """What is measured of each student, and how.

    Raises:
        ProfileError: the runtime is unknown, or a number is out of bounds.
    """

    runtime: str = "onnx"
    device: str = "cpu"
    threads: int = 1
    shapes: tuple[tuple[int, int], ...] = ((1, 128),)
    """(batch, length)"""
    rounds: int = MIN_ROUNDS
    memory: bool = True
    """Also measure peak memory, which takes a process a student."""
    worker: tuple[str, ...] = WORKER

    def __post_init__(self) -> None:
        """Refuse what no process can run."""
        for batch, seq_len in self.shapes:
            RuntimeSetting(self.device, self.runtime, self.threads, batch, seq_len)
        check_whole("rounds", self.rounds, MAX_ROUNDS, MIN_ROUNDS)


@dataclass(frozen=True)
class Prepared:
    """A student on disk, ready to be measured."""

    name: str
    student: Mapping[str, int]
    """The student's `StudentConfig` as JSON."""
    path: Path
    """The artefact that the runtime loads."""
    cases: Path
    """Inputs and PyTorch's answers (`parity`)."""
    reads: Mapping[str, int]
    """The fields of what it reads (`formats.inputs`)."""

    @property
    def file_mb(self) -> float:
        """Size of the file with the weights, in 1e6 bytes, and of the one that says what to do with them, if any."""
        files = [self.path / "model.safetensors"] if self.path.is_dir() else files_of(self.path)
        return sum(file.stat().st_size for file in files) / 1e6

    def moved(self, old: Path, new: Path) -> Prepared:
        """The same student where its files lie below another folder."""
        return replace(self, path=new / self.path.relative_to(old), cases=new / self.cases.relative_to(old))


@dataclass(frozen=True)
class Measurements:
    """What a session measured."""

    table: dict[str, Any]
    """As `latency_table.table_from_dict` reads it."""
    mean_cosine: float
    """The smallest of all students, with PyTorch."""


def probe(plan: Plan) -> dict[str, Any]:
    """The `device` and the `versions`, asked of a worker: before anything is prepared for it.

    Raises:
        ProfileError: the runtime or the device is not there.
    """
    answer: dict[str, Any] = _ask(plan, "probe", [])
    return answer


def measure(
    plan: Plan, students: Sequence[Prepared], header: Mapping[str, Any], on_round: Callable[[], object] = lambda: None
) -> Measurements:
    """Measure students in fresh processes.

    Args:
        plan: how.
        students: at least one.
        header: `version`, `family`, `vocab_size` and `versions` of the table.
        on_round: told after each round of each process.

    Raises:
        ProfileError: the runtime is not there, or a process failed.
        IntegrityError: a student's outputs differ from PyTorch's.
    """
    facts = probe(plan)
    answers = [_ask(plan, "latency", part, on_round) for part in portions(students)]
    timings = [timing for answer in answers for timing in answer["timings"]]
    nothing = [None for _ in plan.shapes]
    peaks = [peak for one in students for peak in (_ask(plan, "memory", [one]) if plan.memory else nothing)]
    keys = [(student, shape) for student in students for shape in plan.shapes]
    entries = [
        {"student": dict(student.student), "batch": batch, "seq_len": seq_len}
        | {**timing, "peak_memory_mb": peak, "file_mb": student.file_mb}
        for (student, (batch, seq_len)), timing, peak in zip(keys, timings, peaks, strict=True)
    ]
    table = {
        **header,
        "device": facts["device"],
        "runtime": plan.runtime,
        "threads": plan.threads,
        "versions": {**facts["versions"], **header["versions"]},
        "reference_ms": min(answer["reference_ms"] for answer in answers),
        "entries": entries,
    }
    return Measurements(table, min(answer["mean_cosine"] for answer in answers))


def portions(students: Sequence[Prepared]) -> Iterator[list[Prepared]]:
    """The students in groups that fit into memory together."""
    part: list[Prepared] = []
    for student in students:
        full = len(part) == _STUDENTS_A_PROCESS or sum(s.file_mb for s in [*part, student]) > _MB_A_PROCESS
        if part and full:
            yield part
            part = []
        part.append(student)
    if part:
        yield part


def _ask(plan: Plan, task: str, students: Sequence[Prepared], on_round: Callable[[], object] = lambda: None) -> Any:
    """Start a worker, give it a job, and return its answer."""
    scratch = partial(tempfile.TemporaryFile, "w+", encoding="utf-8", errors="replace")
    with scratch() as job, scratch() as said:
        json.dump({"task": task, **vars(plan), "students": [vars(one) for one in students]}, job, default=str)
        job.seek(0)
        worker = subprocess.Popen(
            plan.worker, stdin=job, stdout=subprocess.PIPE, stderr=said, env=_environment(plan), text=True
        )
        try:
            return _answer(worker, said, on_round)
        finally:
            worker.kill()
            worker.communicate()


def _environment(plan: Plan) -> dict[str, str]:
    """The worker's: threads fixed before a library reads them, no network, and these modules to import."""
    quiet = {"TRANSFORMERS_VERBOSITY": "error", "HF_HUB_OFFLINE": "1", "HF_HUB_DISABLE_PROGRESS_BARS": "1"}
    paths = [str(Path(__file__).parents[2]), *filter(None, [os.environ.get("PYTHONPATH")])]
    threads = dict.fromkeys(_THREAD_VARIABLES, str(plan.threads))
    return {**os.environ, **quiet, **threads, "PYTHONPATH": os.pathsep.join(paths)}


def _answer(worker: subprocess.Popen[str], said: IO[str], on_round: Callable[[], object]) -> Any:
    """The last of a worker's messages, or why it ended without one."""
    assert worker.stdout is not None
    for line in worker.stdout:
        message = json.loads(line)
        if "answer" in message:
            return message["answer"]
        if "error" in message:
            raise (IntegrityError if message["exit_code"] == 1 else ProfileError)(message["error"])
        on_round()
    status = worker.wait()
    if status == -9:
        raise ProfileError(
            "the measuring process was killed, perhaps for memory; measure fewer or smaller batches or lengths"
        )
    said.seek(0)
    last = " ".join((said.read().strip().splitlines() or ["nothing"])[-1].split())
    raise ProfileError(f"the measuring process ended with status {status} and said: {last[:300]}")
