"""Measuring on a node of a Ray cluster, one profile at a time on each.

A device offers a custom resource of one under its label (`ray start --address=HEAD --resources '{"laptop": 1}'`), and a
profile takes all of it: that finds the node, and keeps a second profile waiting until the first is done.
"""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from autodistil.errors import AutodistilError, IntegrityError, ProfileError
from autodistil.formats.format import files_of
from autodistil.profiling.session import WORKER, Measurements, Plan, Prepared, measure
from autodistil.utils import optional_import, own_sigterm

Files = Mapping[str, bytes]
"""Path inside a folder -> content."""


def measure_on(
    label: str,
    plan: Plan,
    students: Sequence[Prepared],
    header: Mapping[str, Any],
    on_round: Callable[[], None] = lambda: None,
) -> Measurements:
    """Measure as `session.measure` does, on the node with the resource `label`; rounds are not reported from there.

    Raises:
        ProfileError: there is no cluster or no such node, or the measuring failed there.
        IntegrityError: a student's outputs differ from PyTorch's there.
    """
    ray = optional_import("ray", "device: ray:LABEL", "pip install 'ray'", ProfileError)
    if not ray.is_initialized():
        try:
            with own_sigterm(ray):
                ray.init(address="auto", logging_level=logging.ERROR, log_to_driver=False)
        except ConnectionError as error:
            raise ProfileError(
                "device: ray:LABEL found no Ray cluster; start one with: ray start --head, or set RAY_ADDRESS"
            ) from error
    offered = ray.cluster_resources()
    if offered.get(label, 0) < 1:
        own = sorted(name for name in offered if ":" not in name and not name.islower()) or ["none"]
        raise ProfileError(
            f"device: got 'ray:{label}', which no node of the cluster offers (resources: {', '.join(own)}); "
            f"""start one with: ray start --address=HEAD --resources '{{"{label}": 1}}'"""
        )
    task = ray.remote(num_cpus=0, max_retries=0, resources={label: 1})(_measure_here)
    answer = ray.get(task.remote(plan, [(student, _read(student)) for student in students], dict(header)))
    if "error" in answer:
        raise (IntegrityError if answer["exit_code"] == 1 else ProfileError)(f"on {label}: {answer['error']}")
    return Measurements(answer["table"], answer["mean_cosine"])


def _read(student: Prepared) -> Files:
    """The files of a student, by their path beside its cases."""
    root = student.cases.parent
    files = [student.cases, *files_of(student.path)]
    return {file.relative_to(root).as_posix(): file.read_bytes() for file in files if file.is_file()}


def _measure_here(plan: Plan, students: Sequence[tuple[Prepared, Files]], header: Mapping[str, Any]) -> dict[str, Any]:
    """Runs on the node. Errors travel as data: Ray would wrap them in a trace."""
    with tempfile.TemporaryDirectory(prefix="autodistil-profile-") as folder:
        landed = [_write(*student, Path(folder, str(number))) for number, student in enumerate(students)]
        try:
            return vars(measure(replace(plan, worker=WORKER), landed, header))
        except AutodistilError as error:
            return {"error": str(error), "exit_code": error.exit_code}


def _write(student: Prepared, files: Files, folder: Path) -> Prepared:
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    return student.moved(student.cases.parent, folder)
