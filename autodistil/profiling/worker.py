"""The process that measures: `python -m autodistil.profiling.worker`, one JSON object in, JSON lines out.

It is started anew for each measurement, with its threads set in the environment before any library is loaded.
In: `{"task": "probe"|"latency"|"memory", "runtime", "device", "threads", "students", "shapes", "rounds"}`, a student
being `{"path", "cases", "vocab_size"}`. Out: `{"round": n}` while it measures, then `{"answer": ...}` or
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
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np

from autodistil.errors import AutodistilError
from autodistil.formats import FORMATS
from autodistil.formats.format import Runtime
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

    send(_done(json.load(sys.stdin), send))


def _done(job: Job, send: Send) -> Mapping[str, Any]:
    try:
        return {"answer": TASKS[job["task"]](job, send)}
    except AutodistilError as error:
        return {"error": str(error), "exit_code": error.exit_code}
    except MemoryError:
        return {"error": "the students do not fit into memory; measure smaller batches or lengths", "exit_code": 2}


def probe(job: Job, send: Send) -> Mapping[str, Any]:
    """Whether the runtime is there; the device and the versions."""
    runtime = FORMATS[check_runtime(job["runtime"])]
    runtime.check(job["device"])
    device = this_device(_gpu_name() if job["device"] == "cuda" else None)
    check_whole("threads", job["threads"], device.cores)
    versions = {"python": platform.python_version(), "os": platform.release(), "numpy": np.__version__}
    return {"device": {**asdict(device), "id": device.id}, "versions": {**versions, **runtime.versions()}}


def latency(job: Job, send: Send) -> Mapping[str, Any]:
    """Check each student's outputs, then time all of them at all shapes beside each other."""
    students = [_load(job, student) for student in job["students"]]
    found = [_agreement(job, student, loaded) for student, loaded in zip(job["students"], students, strict=True)]
    calls = [
        _call(job, student, loaded, *shape)
        for student, loaded in zip(job["students"], students, strict=True)
        for shape in job["shapes"]
    ]
    rounds = iter(range(1, job["rounds"] + 1))
    stopwatch = Stopwatch(
        reference_kernel(job["device"]), job["rounds"], on_round=lambda: send({"round": next(rounds)})
    )
    measured = stopwatch.measure(calls)
    return {
        "timings": [asdict(timing) for timing in measured.timings],
        "reference_ms": measured.reference_ms,
        "agreements": [asdict(close) for close in found],
    }


def memory(job: Job, send: Send) -> list[float | None]:
    """Peak memory of the one student at each shape."""
    (student,) = job["students"]
    FORMATS[job["runtime"]].check(job["device"])  # imports the libraries, which are no part of a student

    def load() -> Callable[[int, int], Call]:
        loaded = _load(job, student)
        return partial(_call, job, student, loaded)

    return peak_memory_mb(job["device"], load, [(batch, seq_len) for batch, seq_len in job["shapes"]])


TASKS: Mapping[str, Callable[[Job, Send], Any]] = MappingProxyType(
    {"probe": probe, "latency": latency, "memory": memory}
)


def _load(job: Job, student: Mapping[str, Any]) -> Runtime:
    return FORMATS[job["runtime"]].load(Path(student["path"]), job["threads"], job["device"])


def _agreement(job: Job, student: Mapping[str, Any], loaded: Runtime) -> Any:
    found = agreement(loaded.run, load_cases(Path(student["cases"])))
    return check_agreement(found, f"{job['runtime']} of {student['name']}", FORMATS[job["runtime"]].min_cosine)


def _call(job: Job, student: Mapping[str, Any], loaded: Runtime, batch: int, seq_len: int) -> Call:
    """One forward of random ids without padding."""
    ids = np.random.default_rng(0).integers(0, student["vocab_size"], (batch, seq_len), dtype=np.int64)
    return call_of(loaded.work(ids, np.ones_like(ids)), events=loaded.queued and job["device"] == "cuda")


def _gpu_name() -> str:
    import torch

    return torch.cuda.get_device_name()


if __name__ == "__main__":
    main()
