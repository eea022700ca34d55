"""Extracted students become a latency table: export what a runtime loads, check it, measure it in fresh processes."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from transformers import PreTrainedModel

from autodistil.errors import ProfileError
from autodistil.formats import FORMATS
from autodistil.formats.format import Origin
from autodistil.formats.inputs import inputs_of
from autodistil.formats.parity import parity_cases, save_cases
from autodistil.profiling.latency_table import FORMAT, LatencyTable, student_dict, table_from_dict
from autodistil.profiling.session import Plan, Prepared, measure, probe
from autodistil.space.student import StudentConfig
from autodistil.utils import Progress, installed_versions


@dataclass(frozen=True)
class StudentSource:
    """A student to measure, extracted when its turn comes."""

    name: str
    config: StudentConfig
    max_length: int
    """Tokens of the longest sequence that it takes."""
    load: Callable[[], PreTrainedModel] = field(repr=False)
    """The ordinary Hugging Face model, on the CPU, in eval mode, with scaled-dot-product attention."""
    fixed_length: bool = False
    """It takes no shorter ones: an image always has as many."""


@dataclass(frozen=True)
class Profile:
    """A measured table and how close its runtime came to PyTorch."""

    table: LatencyTable
    mean_cosine: float
    """Mean cosine of tokens with PyTorch's, the smallest of all students; 1 up to rounding except in `onnx-int8`."""


def profile_students(
    sources: Sequence[StudentSource],
    plan: Plan,
    header: Mapping[str, Any],
    progress: Progress | None = None,
    run: Callable[..., Any] = measure,
) -> Profile:
    """Export students, check their outputs, and measure them in fresh processes.

    Args:
        sources: the students.
        plan: runtime, device, threads, shapes, rounds.
        header: `table_header` of where they come from.
        progress: told what happens.
        run: measures what is prepared: `session.measure`, or the same elsewhere (`remote.measure_on`).

    Raises:
        ProfileError: a library or the device is not there, a length does not fit, or the measuring failed.
        IntegrityError: outputs differ from PyTorch's.
    """
    progress = progress or Progress()
    check_lengths(sources, plan)
    if run is measure:
        probe(plan)  # before the students are exported
    with tempfile.TemporaryDirectory(prefix="autodistil-profile-") as folder:
        students = prepare_students(sources, plan.runtime, Path(folder), progress)
        with progress.track("measuring", plan.rounds) as advance:
            session = run(plan, students, header, on_round=lambda: advance(1))
    return Profile(table_from_dict(session.table), session.mean_cosine)


def table_header(family: str, vocab_size: int) -> dict[str, Any]:
    """What a table says of the students beside their dimensions."""
    own = installed_versions(["autodistil"])
    return {"version": FORMAT, "family": family, "vocab_size": vocab_size, "versions": own}


def check_lengths(sources: Sequence[StudentSource], plan: Plan) -> None:
    """Refuse lengths that a student does not take.

    Raises:
        ProfileError: one is too long, or not that of an image, or there are no students or no lengths.
    """
    if not sources or not plan.shapes:
        raise ProfileError("profile: got no students, batches or lengths; give at least one of each")
    lengths = {seq_len for _, seq_len in plan.shapes}
    for source in sources:
        if source.fixed_length and (others := lengths - {source.max_length}):
            raise ProfileError(
                f"sequence length: got {min(others)}; allowed: {source.max_length}, the tokens of an image of "
                f"{source.name}; leave it out"
            )
    longest, most = max(lengths), min(source.max_length for source in sources)
    if longest > most:
        raise ProfileError(f"sequence length: got {longest}; allowed: at most the students' {most} positions; lower it")


def prepare_students(
    sources: Sequence[StudentSource], runtime: str, folder: Path, progress: Progress | None = None
) -> list[Prepared]:
    """Write what a runtime loads of each student into `folder`, with cases to check it by."""
    entry = FORMATS[runtime]
    made = entry.measured or entry
    prepared = []
    with (progress or Progress()).track(f"exporting for {runtime}", len(sources)) as advance:
        for number, source in enumerate(sources):
            own = folder / f"{number:03d}"
            own.mkdir(parents=True)
            model, path = source.load(), own / Path(made.file or "model").name
            cases = parity_cases(model)
            with tempfile.TemporaryDirectory(prefix="autodistil-formats-") as scratch:
                made.write(Origin(model, cases, Path(scratch)), path)
            saved = save_cases(cases, own / "cases.npz")
            prepared.append(Prepared(source.name, student_dict(source.config), path, saved, asdict(inputs_of(model))))
            advance(1, source.name)
    return prepared
