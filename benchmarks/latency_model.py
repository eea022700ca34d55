"""How well a latency model predicts students that it never saw: measured for real, several runs, on this machine.

Each run measures a tenth of the space by design and, beside them in the same rounds, held-out students drawn at random;
fits the model to the first and judges it by the second. Beside it: the same number of students drawn at random instead
of by design, FLOPs alone (time in proportion), and how far two measurements of the held-out students agree, which is
the best that any model could do.

    python benchmarks/latency_model.py                               a quick look: two minutes
    python benchmarks/latency_model.py --runs 3 --held-out 16        what the goals are about, on idle cores
"""

from __future__ import annotations

import argparse
import json
import random
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from autodistil.costs import flops
from autodistil.costs.latency_model import Accuracy, accuracy, fit_cost_model
from autodistil.costs.layer_features import Workload
from autodistil.packaged import DEFAULT_TEACHER
from autodistil.profiling.design import choose_students
from autodistil.profiling.profile import Source, profile_students, table_header
from autodistil.profiling.session import Plan
from autodistil.profiling.setting import RUNTIME_NAMES
from autodistil.profiling.table import LatencyEntry, LatencyTable
from autodistil.space_files import load_space
from autodistil.spaces import StudentConfig
from autodistil.superlm import SuperLM
from autodistil.teacher import Teacher, load_teacher

GOAL_MAPE, GOAL_TAU, GOAL_SHARE = 0.05, 0.95, 0.1


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


def main() -> None:
    """Measure, print a table, and leave the figures as JSON if asked."""
    options = _options()
    teacher, sub_space = load_teacher(options.teacher), load_space(options.space).sub_space(options.sub_space)
    students = sorted(set(sub_space.students))
    design = choose_students(students)
    rest = [student for student in students if student not in design]
    held_out = random.Random(0).sample(rest, min(options.held_out, len(rest)))
    print(f"{len(students)} students, {len(design)} measured by design, {len(held_out)} held out")
    superlm, runs = SuperLM.from_teacher(teacher, sub_space), []
    for number in range(options.runs):
        start = time.perf_counter()
        table = _measured(teacher, superlm, [*design, *held_out], options)
        runs.append(judged(teacher, table, design, held_out, time.perf_counter() - start))
        print(f"run {number + 1}: {runs[-1]}", flush=True)
    _print_goals(runs, len(design) / len(students))
    if options.out:
        options.out.write_text(json.dumps([vars(run) for run in runs], default=vars, indent=1) + "\n")


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


def _by_flops(teacher: Teacher, entries: dict, design: Sequence, held_out: Sequence) -> np.ndarray:
    """Times in proportion to FLOPs, by the mean of the design."""
    length = next(iter(entries.values())).seq_len
    known, wanted = (flops(list(part), teacher.encoder_shape, length) for part in (design, held_out))
    return wanted * np.mean([entries[student].median_ms for student in design] / known)


def _load(teacher: Teacher, entries: dict[StudentConfig, LatencyEntry], students: Sequence[StudentConfig]) -> Workload:
    entry = entries[students[0]]
    return Workload(tuple(students), teacher.encoder_shape, entry.batch, entry.seq_len)


def _fitted(teacher: Teacher, entries: dict, students: Sequence):  # noqa: ANN202
    return fit_cost_model("ms", _load(teacher, entries, students), [entries[one].median_ms for one in students])


def _measured(teacher: Teacher, superlm: SuperLM, students: Sequence[StudentConfig], options: argparse.Namespace):  # noqa: ANN202
    config = teacher.model.config
    sources = [
        Source(one.label, one, config.vocab_size, teacher.max_length, lambda one=one: superlm.extract(one))
        for one in students
    ]
    shapes = ((options.batch, options.seq_len),)
    plan = Plan(options.runtime, "cpu", options.threads, shapes, options.rounds, memory=False)
    return profile_students(sources, plan, table_header(config.model_type, config.vocab_size)).table


def _print_goals(runs: Sequence[Run], share: float) -> None:
    mape, tau = (np.mean([getattr(run.ours, name) for run in runs]) for name in ("mape", "tau"))
    print(f"mean error {100 * mape:.1f} % (goal {100 * GOAL_MAPE:.0f}), tau {tau:.2f} (goal {GOAL_TAU})")
    print(f"measured {100 * share:.0f} % of the space (goal {100 * GOAL_SHARE:.0f})")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--teacher", default=DEFAULT_TEACHER, help="name or folder [default: %(default)s]")
    parser.add_argument("--space", default="minilm-l6-h384")
    parser.add_argument("--sub-space", default="small")
    parser.add_argument("--held-out", type=int, default=3)
    parser.add_argument("--runs", type=int, default=1)
    parser.add_argument("--runtime", choices=RUNTIME_NAMES, default="onnx")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--seq-len", type=int, default=128)
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--out", type=Path)
    return parser.parse_args()


if __name__ == "__main__":
    main()
