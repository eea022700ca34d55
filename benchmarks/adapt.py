"""Is a student that a fine-tuned teacher teaches better than one on labels alone? Objectives side by side.

Each task: the teacher is fine-tuned once, on all training rows; the student sees `--rows` of them, and the texts of the
others without labels where that is said. Learning rate and epoch are chosen on a part of the training rows, figures are
of dev. `shuffled` is soft targets with the teacher's answers given to the wrong rows: what a teacher brings that knows
nothing. Goal: soft targets with unlabelled text 1.5 points over labels alone in the mean.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from bench_common.options import arguments, parse, record_path
from bench_common.record import print_table, write_record
from bench_common.timing import Spread

from autodistil.models.hf_folder import EvaluatedModel
from autodistil.tasks.adapting import Adapted, Lesson, adapted, reported, taught_answers
from autodistil.tasks.catalogue import Split, TaskData, load_task
from autodistil.tasks.finetune import EvaluationSettings, Pupil
from autodistil.utils import Progress

OBJECTIVES = ("cross-entropy", "soft-targets", "ps-kd", "self-kd")
ALL = (*OBJECTIVES, "soft-targets, unlabelled text", "shuffled")


def cut(data: TaskData, rows: int) -> tuple[TaskData, Sequence[tuple[str, str | None]]]:
    """The task with so many training rows, and the texts of the others."""
    train = data.train()
    order = np.random.default_rng(0).permutation(len(train))
    few, others = train.take(np.sort(order[:rows])), train.take(np.sort(order[rows : 4 * rows]))
    return replace(data, splits={**data.splits, "train": few}), _texts(others)


def _texts(split: Split) -> list[tuple[str, str | None]]:
    return list(zip(split.text_a, split.text_b or [None] * len(split), strict=True))


def opened(found: Adapted, settings: EvaluationSettings) -> Pupil:
    """What was fine-tuned."""
    return Pupil.of(EvaluatedModel.open(str(found.folder)), None, settings)


def compared(
    data: TaskData, student: EvaluatedModel, teacher: EvaluatedModel, options: argparse.Namespace, home: Path
) -> list[dict[str, Any]]:
    """A row an objective, with the teacher's first."""
    settings = EvaluationSettings(learning_rates=tuple(options.rates), epochs=options.epochs, device="cpu")
    headline, said = data.task.headline, Said()
    whole = Lesson.of(data, replace(settings, max_train=options.teacher_rows), objective="cross-entropy")
    taught = adapted(teacher, whole, replace(settings, learning_rates=(1e-4,)), home / "teacher", said)
    pupil = opened(taught, settings)
    rows = [{"task": data.name, "objective": "teacher", headline: 100 * reported(pupil, data)[headline]}]
    few, more = cut(data, options.rows)
    found: dict[str, list[float]] = {name: [] for name in ALL}
    for seed in range(options.seeds):
        for name in ALL:
            objective = name if name in OBJECTIVES else "soft-targets"
            unlabelled = tuple(more) if "unlabelled" in name else ()
            lesson = Lesson.of(few, settings, objective=objective, unlabelled=unlabelled, seed=seed)
            answers = taught_answers(pupil, lesson) if objective == "soft-targets" else None
            if name == "shuffled" and answers is not None:
                answers = answers[np.random.default_rng(seed).permutation(len(answers))]
            best = adapted(student, lesson, settings, home / f"{name}-{seed}", said, answers)
            found[name].append(100 * reported(opened(best, settings), few)[headline])
            print(f"   {data.name} seed {seed} {name}: {found[name][-1]:.1f}", flush=True)
    plain = found["cross-entropy"]
    for name, values in found.items():
        apart = [ours - theirs for ours, theirs in zip(values, plain, strict=True)]
        rows.append(
            {"task": data.name, "objective": name, headline: Spread.of(values), "over labels alone": Spread.of(apart)}
        )
    return [{**row, "score": row.pop(headline)} for row in rows]


class Said(Progress):
    """Progress that says nothing."""


def main() -> None:
    """Run, print and record."""
    parser = arguments(__doc__)
    parser.add_argument("--student", required=True, metavar="DIR", help="an exported student")
    parser.add_argument("--teacher", default="all-MiniLM-L6-v2", metavar="ID|DIR", help="fine-tuned first")
    parser.add_argument("--data", type=Path, required=True, metavar="DIR", help="folder of tasks")
    parser.add_argument("--tasks", default="cr,sst2,snli_small", metavar="NAMES", help="[%(default)s]")
    parser.add_argument(
        "--rows", type=int, default=1000, metavar="N", help="labelled rows of the student [%(default)s]"
    )
    parser.add_argument("--teacher-rows", type=int, default=5000, metavar="N", help="of the teacher [%(default)s]")
    parser.add_argument("--rates", type=float, nargs="+", default=[3e-4], metavar="LR", help="[%(default)s]")
    parser.add_argument("--epochs", type=int, default=4, metavar="N", help="[%(default)s]")
    parser.add_argument("--seeds", type=int, default=2, metavar="N", help="[%(default)s]")
    options = parse(parser)
    student, teacher = EvaluatedModel.open(options.student), EvaluatedModel.open(options.teacher)
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as home:
        for name in options.tasks.split(","):
            rows += compared(load_task(name, options.data), student, teacher, options, Path(home) / name)
    print_table(rows)
    settings = {name: getattr(options, name) for name in ("rows", "teacher_rows", "rates", "epochs", "seeds")}
    write_record(record_path(options, "adapt"), rows, settings)


if __name__ == "__main__":
    main()
