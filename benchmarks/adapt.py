"""Is a student that a fine-tuned teacher teaches better than one on labels alone? Objectives side by side.

Each task: the teacher is fine-tuned once, on `--teacher-rows` training rows; the student sees `--rows` of them, and the
texts of the others without labels where that is said. Learning rate and epoch are chosen on a part of the training
rows, figures are of dev. `shuffled` is soft targets with the teacher's answers given to the wrong rows: what a teacher
brings that knows nothing. Goal: soft targets with unlabelled text 1.5 points over labels alone in the mean, and an
expected calibration error no worse than the teacher's.

What is done is kept in `--work`, and the same command goes on from there.
"""

from __future__ import annotations

import argparse
import json
import shutil
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from bench_common.options import arguments, parse, record_path
from bench_common.record import print_table, write_record
from bench_common.timing import Spread

from autodistil.errors import ConfigError
from autodistil.models.hf_folder import EvaluatedModel
from autodistil.tasks.adapt import METHODS
from autodistil.tasks.adapt.method_sum import PLAIN, read_methods
from autodistil.tasks.adapting import Adapted, Lesson, adapted, taught
from autodistil.tasks.catalogue import Split, TaskData, load_task
from autodistil.tasks.finetune import EvaluationSettings, Pupil, scored
from autodistil.tasks.own_head import answers_to
from autodistil.utils import Progress

UNLABELLED, SHUFFLED = "soft-targets, unlabelled text", "shuffled"
ALL = (*METHODS, UNLABELLED, SHUFFLED)


def cut(data: TaskData, rows: int) -> tuple[TaskData, Sequence[tuple[str, str | None]]]:
    """The task with so many training rows, and the texts of three times as many others."""
    train = data.train()
    order = np.random.default_rng(0).permutation(len(train))
    few, others = train.take(np.sort(order[:rows])), train.take(np.sort(order[rows : 4 * rows]))
    return replace(data, splits={**data.splits, "train": few}), _texts(others)


def _texts(split: Split) -> list[tuple[str, str | None]]:
    return list(zip(split.text_a, split.text_b or [None] * len(split), strict=True))


class Bench:
    """Trainings on one task, each kept as its answers to the reported rows."""

    def __init__(self, data: TaskData, teacher: EvaluatedModel, options: argparse.Namespace) -> None:
        self.data, self.options, self.said = data, options, Progress()
        self.settings = EvaluationSettings(learning_rates=tuple(options.rates), epochs=options.epochs, device="cpu")
        self.work = options.work / data.name
        self.work.mkdir(parents=True, exist_ok=True)
        whole = Lesson.of(data, replace(self.settings, max_train=options.teacher_rows), objective=PLAIN)
        best = adapted(teacher, whole, replace(self.settings, learning_rates=(1e-4,)), self.work / "teacher", self.said)
        self.teacher = EvaluatedModel.open(str(best.folder))
        self.pupil = self._opened(best)
        self.few, self.more = cut(data, options.rows)
        if not (self.work / "teacher.npy").is_file():
            np.save(self.work / "teacher.npy", self._answers(self.pupil))

    def answers(self, student: EvaluatedModel, label: str, name: str, seed: int) -> np.ndarray:
        """What a student says that learnt by an objective, (rows, outputs), trained now or before."""
        kept = self.work / f"{label}-{name}-{seed}.npy"
        if kept.is_file():
            return np.load(kept)
        objective = name if name in METHODS else "soft-targets"
        more = tuple(self.more) if name == UNLABELLED else ()
        lesson = Lesson.of(self.few, self.settings, objective=objective, unlabelled=more, seed=seed)
        says = taught(self.teacher, self.pupil, lesson, range(self.outputs)) if self._is_taught(name) else None
        if name == SHUFFLED and says is not None:
            says = replace(says, answers=says.answers[np.random.default_rng(seed).permutation(len(says.answers))])
        home, start = self.work / "now", time.monotonic()
        best = adapted(student, lesson, self.settings, home, self.said, says)
        found = self._answers(self._opened(best))
        shutil.rmtree(home)
        np.save(kept, found)
        value = 100 * self.scored(found)
        took = time.monotonic() - start
        print(json.dumps([self.data.name, label, name, seed, round(value, 1), best.epoch, round(took)]), flush=True)
        return found

    @property
    def outputs(self) -> int:
        """Classes, or 1."""
        return len(self.data.classes) or 1

    def scored(self, answers: np.ndarray) -> float:
        """The headline metric of answers to the reported rows."""
        return scored(self.data, self.data.evaluated, answers)[self.data.task.headline]

    def fits(self, name: str) -> bool:
        """Whether an objective is for this task."""
        try:
            objective = name if name in METHODS else "soft-targets"
            read_methods(objective, True, self.outputs, self.data.task.pairs)
        except ConfigError:
            return False
        return True

    def _is_taught(self, name: str) -> bool:
        return name not in METHODS or "teacher" in METHODS[name].needs

    def _opened(self, found: Adapted) -> Pupil:
        return Pupil.of(EvaluatedModel.open(str(found.folder)), None, self.settings)

    def _answers(self, pupil: Pupil) -> np.ndarray:
        return answers_to(pupil, self.data.evaluated)


def compared(bench: Bench, students: Sequence[str], options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """A row an objective and student, with the teacher's first."""
    yield {
        "task": bench.data.name,
        "objective": "teacher",
        "score": 100 * bench.scored(np.load(bench.work / "teacher.npy")),
    }
    for label, source in (student.split("=", 1) for student in students):
        student = EvaluatedModel.open(source)
        found: dict[str, list[float]] = {}
        for seed in range(options.seeds):  # so that what is there is comparable when it is interrupted
            for name in filter(bench.fits, options.objectives):
                found.setdefault(name, []).append(100 * bench.scored(bench.answers(student, label, name, seed)))
        for name, values in found.items():
            apart = [ours - theirs for ours, theirs in zip(values, found[PLAIN], strict=True)]
            yield {
                "task": bench.data.name,
                "student": label,
                "objective": name,
                "score": Spread.of(values),
                "over labels alone": Spread.of(apart),
            }


def main() -> None:
    """Run, print and record."""
    parser = arguments(__doc__)
    parser.add_argument("--student", required=True, nargs="+", metavar="NAME=DIR", help="exported students")
    parser.add_argument("--teacher", default="all-MiniLM-L6-v2", metavar="ID|DIR", help="fine-tuned first")
    parser.add_argument("--data", type=Path, required=True, metavar="DIR", help="folder of tasks")
    parser.add_argument("--work", type=Path, required=True, metavar="DIR", help="folder of what is done")
    parser.add_argument("--tasks", default="cr,sst2,snli_small", metavar="NAMES", help="[%(default)s]")
    parser.add_argument(
        "--objectives", nargs="+", default=ALL, choices=ALL, metavar="NAME", help="[all, with two controls]"
    )
    parser.add_argument(
        "--rows", type=int, default=1000, metavar="N", help="labelled rows of the student [%(default)s]"
    )
    parser.add_argument("--teacher-rows", type=int, default=5000, metavar="N", help="of the teacher [%(default)s]")
    parser.add_argument("--rates", type=float, nargs="+", default=[3e-4], metavar="LR", help="[%(default)s]")
    parser.add_argument("--epochs", type=int, default=4, metavar="N", help="[%(default)s]")
    parser.add_argument("--seeds", type=int, default=3, metavar="N", help="[%(default)s]")
    options = parse(parser)
    teacher = EvaluatedModel.open(options.teacher)
    rows: list[dict[str, Any]] = []
    for name in options.tasks.split(","):
        rows += compared(Bench(load_task(name, options.data), teacher, options), options.student, options)
    print_table(rows)
    settings = {name: getattr(options, name) for name in ("rows", "teacher_rows", "rates", "epochs", "seeds")}
    write_record(record_path(options, "adapt"), rows, settings)


if __name__ == "__main__":
    main()
