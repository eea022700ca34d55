"""How well a latency model predicts students that it never saw: measured for real, several runs, on this machine.

Each run measures a tenth of the space by design and, beside them in the same rounds, held-out students drawn at random;
fits the model to the first and judges it by the second. Beside it: the same number of students drawn at random instead
of by design, FLOPs alone (time in proportion), and how far two measurements of the held-out students agree, which is
the best that any model could do.

    python benchmarks/latency_model.py                  a quick look: one run, three held-out students
    python benchmarks/latency_model.py --size real      what the goals are about: three runs, sixteen; on idle cores
"""

from __future__ import annotations

import argparse
import random
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from bench_common.options import arguments, common_settings, parse, record_path
from bench_common.record import Row, print_table, write_record
from bench_common.timing import Spread
from numpy.typing import NDArray

from autodistil.costs.closed_form import flops
from autodistil.formats import FORMATS
from autodistil.models.packaged import DEFAULT_TEACHER
from autodistil.models.superlm import SuperLM
from autodistil.models.teacher import Teacher, load_teacher
from autodistil.profiling.latency_model import Accuracy, CostModel, Workload, accuracy, choose_students, fit_cost_model
from autodistil.profiling.latency_table import LatencyEntry, LatencyTable
from autodistil.profiling.profile import StudentSource, profile_students, table_header
from autodistil.profiling.session import Plan
from autodistil.space.files import load_space
from autodistil.space.student import StudentConfig

GOAL_ERROR, GOAL_TAU, GOAL_SHARE = 5.0, 0.95, 10.0
"""Percent, Kendall's tau, percent of the space."""
SIZES = {"quick": {"runs": 1, "held_out": 3}, "real": {"runs": 3, "held_out": 16}}
Entries = dict[StudentConfig, LatencyEntry]


@dataclass(frozen=True)
class Run:
    """One run's figures."""

    ours: Accuracy
    random_design: Accuracy
    flops_only: Accuracy
    inside: float
    """Share of the held-out students whose time lies in the interval."""
    busy: int
    """Students that the stopwatch marks."""
    seconds: float
    """Of measuring the design and the held-out students."""


def main(options: argparse.Namespace) -> None:
    """Measure, print a table, and keep it."""
    size = SIZES[options.size]
    teacher, sub_space = load_teacher(options.teacher), load_space(options.space).sub_space(options.sub_space)
    students = sorted(set(sub_space.students))
    design = choose_students(students)
    rest = [student for student in students if student not in design]
    held_out = random.Random(0).sample(rest, min(size["held_out"], len(rest)))
    print(f"{len(students)} students, {len(design)} measured by design, {len(held_out)} held out")
    superlm, runs = SuperLM.from_teacher(teacher, sub_space), []
    for number in range(size["runs"]):
        start = time.perf_counter()
        table = _measured(teacher, superlm, [*design, *held_out], options)
        runs.append(judged(teacher, table, design, held_out, time.perf_counter() - start))
        print(f"run {number + 1}: {runs[-1]}", flush=True)
    rows = rows_of(runs, 100 * len(design) / len(students))
    print_table(rows)
    settings = common_settings(options) | size | {"runtime": options.runtime, "sub_space": options.sub_space}
    settings |= {"batch": options.batch, "length": options.seq_len}
    print(write_record(record_path(options, "latency_model"), rows, settings))


def rows_of(runs: Sequence[Run], measured: float) -> list[Row]:
    """A row a figure; `measured` is the percentage of the space that was."""
    errors = {"by design": "ours", "the same number at random": "random_design", "FLOPs alone": "flops_only"}
    rows: list[Row] = []
    for name, field in errors.items():
        judged = [getattr(run, field) for run in runs]
        goals = [{"goal": GOAL_ERROR}, {"goal": GOAL_TAU}] if field == "ours" else [{}, {}]
        rows.append({"what": f"error, {name}", "error %": Spread.of([100 * one.mape for one in judged]), **goals[0]})
        rows.append({"what": f"rank, {name}", "Kendall tau": Spread.of([one.tau for one in judged]), **goals[1]})
    rows.append({"what": "students measured", "% of the space": measured, "goal": GOAL_SHARE})
    rows.append({"what": "held-out students in their interval", "share": Spread.of([run.inside for run in runs])})
    rows.append({"what": "students marked as busy", "count": Spread.of([float(run.busy) for run in runs])})
    rows.append({"what": "design and held-out students", "seconds": Spread.of([run.seconds for run in runs])})
    return rows


def judged(
    teacher: Teacher,
    table: LatencyTable,
    design: Sequence[StudentConfig],
    held_out: Sequence[StudentConfig],
    took: float,
) -> Run:
    """A model fitted to the design against the held-out students, beside simpler ones."""
    entries = {entry.student: entry for entry in table.entries}
    truth = np.array([entries[student].median_ms for student in held_out])
    model = _fitted(teacher, entries, design)
    predicted = model.predict(_load(teacher, entries, held_out))
    at_random = random.Random(1).sample(list(entries), len(design))
    others = [student for student in entries if student not in at_random]
    guesses = _fitted(teacher, entries, at_random).predict(_load(teacher, entries, others))["value"]
    inside = ((predicted["low"] <= truth) & (truth <= predicted["high"])).mean()
    return Run(
        accuracy(predicted["value"], truth),
        accuracy(guesses, [entries[student].median_ms for student in others]),
        accuracy(_by_flops(teacher, entries, design, held_out), truth),
        float(inside),
        sum(entry.busy for entry in table.entries),
        took,
    )


def _by_flops(
    teacher: Teacher, entries: Entries, design: Sequence[StudentConfig], held_out: Sequence[StudentConfig]
) -> NDArray[np.float64]:
    """Times in proportion to FLOPs, by the mean of the design."""
    length = next(iter(entries.values())).seq_len
    known, wanted = (flops(list(part), teacher.encoder_shape, length) for part in (design, held_out))
    return np.asarray(wanted * np.mean([entries[student].median_ms for student in design] / known))


def _load(teacher: Teacher, entries: Entries, students: Sequence[StudentConfig]) -> Workload:
    entry = entries[students[0]]
    return Workload(tuple(students), teacher.encoder_shape, entry.batch, entry.seq_len)


def _fitted(teacher: Teacher, entries: Entries, students: Sequence[StudentConfig]) -> CostModel:
    return fit_cost_model("ms", _load(teacher, entries, students), [entries[one].median_ms for one in students])


def _measured(
    teacher: Teacher, superlm: SuperLM, students: Sequence[StudentConfig], options: argparse.Namespace
) -> LatencyTable:
    config = teacher.model.config
    sources = [StudentSource(one.label, one, teacher.max_length, partial(superlm.extract, one)) for one in students]
    shapes = ((options.batch, options.seq_len),)
    plan = Plan(options.runtime, "cpu", options.threads, shapes, options.rounds, memory=False)
    return profile_students(sources, plan, table_header(config.model_type, config.vocab_size)).table


def _options() -> argparse.Namespace:
    parser = arguments(__doc__)
    parser.set_defaults(rounds=30, threads=1)
    add = parser.add_argument
    add("--teacher", default=DEFAULT_TEACHER, help="name or folder [%(default)s]")
    add("--space", default="minilm-l6-h384", help="[%(default)s]")
    add("--sub-space", default="small", help="[%(default)s]")
    add("--runtime", choices=FORMATS, default="onnx", help="[%(default)s]")
    add("--batch", type=int, default=1, help="[%(default)s]")
    add("--seq-len", type=int, default=128, help="[%(default)s]")
    return parse(parser)


if __name__ == "__main__":
    main(_options())
