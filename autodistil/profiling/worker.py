"""The process that measures: `python -m autodistil.profiling.worker`, one JSON object in, JSON lines out.

It is started anew for each measurement, with its threads set in the environment before any library is loaded.
In: `{"task": "probe"|"latency"|"memory", "runtime", "device", "threads", "students", "shapes", "rounds"}`, a student
being `{"path", "cases", "reads"}`. Out: `{"round": n}` while it measures, then `{"answer": ...}` or
`{"error": one line, "exit_code": n}`.
"""

from __future__ import annotations

import json
import os
import platform
import sys
from collections.abc import Callable, Mapping
from dataclasses import asdict
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from autodistil.errors import AutodistilError
from autodistil.formats import FORMATS
from autodistil.formats.format import Runtime
from autodistil.formats.inputs import kind_from_dict
from autodistil.formats.parity import agreement, check_agreement, load_cases
from autodistil.formats.setting import check_runtime, check_whole
from autodistil.profiling.fingerprint import this_device
from autodistil.profiling.memory import peak_memory_mb
from autodistil.profiling.stopwatch import Call, Stopwatch, call_of, reference_kernel

Job = Mapping[str, Any]
Send = Callable[[Mapping[str, Any]], None]


def main() -> None:
    """Read a job from stdin, do it, and answer on stdout, which nothing else may write to meanwhile."""
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)

    def send(message: Mapping[str, Any]) -> None:
        answers.write(json.dumps(message) + "\n")
        answers.flush()

    job = json.load(sys.stdin)
    try:
        send({"answer": TASKS[job["task"]](job, send)})
    except AutodistilError as error:
        send({"error": str(error), "exit_code": error.exit_code})
    except MemoryError:
        send({"error": "the students do not fit into memory; measure smaller batches or lengths", "exit_code": 2})


def probe(job: Job, send: Send) -> Mapping[str, Any]:
    """Whether the runtime is there; the device and the versions."""
    runtime = FORMATS[check_runtime(job["runtime"])]
    runtime.check(job["device"])
    device = this_device(import_module("torch").cuda.get_device_name() if job["device"] == "cuda" else None)
    check_whole("threads", job["threads"], device.cores)
    versions = {"python": platform.python_version(), "os": platform.release(), "numpy": np.__version__}
    return {"device": {**asdict(device), "id": device.id}, "versions": {**versions, **runtime.versions()}}


def latency(job: Job, send: Send) -> Mapping[str, Any]:
    """Check each student's outputs, then time all of them at all shapes beside each other."""
    students = [(student, _load(job, student)) for student in job["students"]]
    cosines = [_checked_cosine(job, *student) for student in students]
    calls = [_call(job, *student, *shape) for student in students for shape in job["shapes"]]
    rounds = iter(range(1, job["rounds"] + 1))
    stopwatch = Stopwatch(
        reference_kernel(job["device"]), job["rounds"], on_round=lambda: send({"round": next(rounds)})
    )
    return {**asdict(stopwatch.measure(calls)), "mean_cosine": min(cosines)}


def memory(job: Job, send: Send) -> list[float | None]:
    """Peak memory of the one student at each shape."""
    (student,) = job["students"]
    FORMATS[job["runtime"]].check(job["device"])  # imports the libraries, which are no part of a student
    shapes = [(batch, seq_len) for batch, seq_len in job["shapes"]]
    return peak_memory_mb(job["device"], lambda: partial(_call, job, student, _load(job, student)), shapes)


TASKS: Mapping[str, Callable[[Job, Send], Any]] = {"probe": probe, "latency": latency, "memory": memory}


def _load(job: Job, student: Mapping[str, Any]) -> Runtime:
    return FORMATS[job["runtime"]].load(Path(student["path"]), job["threads"], job["device"])


def _checked_cosine(job: Job, student: Mapping[str, Any], loaded: Runtime) -> float:
    """The mean cosine with PyTorch, of a student whose outputs are close enough."""
    found = agreement(loaded.run, load_cases(Path(student["cases"])))
    name = f"{job['runtime']} of {student['name']}"
    return check_agreement(found, name, FORMATS[job["runtime"]].min_cosine).mean_cosine


def _call(job: Job, student: Mapping[str, Any], loaded: Runtime, batch: int, seq_len: int) -> Call:
    """One forward of random inputs without padding."""
    inputs = kind_from_dict(student["reads"]).random(batch, seq_len)
    return call_of(loaded.work(inputs), events=loaded.queued and job["device"] == "cuda")


if __name__ == "__main__":
    main()
