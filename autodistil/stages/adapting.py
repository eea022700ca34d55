"""A classifier, or scorer of pairs, from a student: fine-tuned on labelled rows, taught by a fine-tuned teacher.

TO              the fine-tuned student: an ordinary `AutoModelForSequenceClassification`, with its figures on the card
TO-teacher      the teacher, where none that was fine-tuned is given and one is fine-tuned first
.TO.work        trainings that are done, until the student is: the same command goes on from there
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from autodistil.errors import ConfigError, ExportError, TeacherError
from autodistil.evaluation.standard_error import standard_errors
from autodistil.export.adapted_folder import Adaptation, write_adapted
from autodistil.formats.writing import check_formats
from autodistil.models.hf_folder import EvaluatedModel
from autodistil.tasks.adapting import Adapted, Lesson, adapted, reported, taught_answers
from autodistil.tasks.catalogue import SPLITS, TaskData, load_task
from autodistil.tasks.finetune import EvaluationSettings, Pupil, Scores
from autodistil.tasks.labelled_rows import read_texts
from autodistil.utils import Progress, disk_errors

_PLAIN = "cross-entropy"


def adapt(
    student: str,
    task: str,
    to: Path,
    data_dir: Path | None = None,
    teacher: str | None = None,
    settings: EvaluationSettings | None = None,
    objective: str = "auto",
    unlabelled: Sequence[Path] = (),
    balanced: bool = False,
    seed: int = 0,
    plain: bool = True,
    formats: Sequence[str] = (),
    progress: Progress | None = None,
) -> Adaptation:
    """Fine-tune a student, and leave an ordinary Hugging Face classifier at `to`, whole and checked or not at all.

    Args:
        student: a folder, an id on the Hub or a packaged name of an encoder.
        task: a name (`tasks.catalogue.load_task`), or a folder with `train.tsv` and `dev.tsv` or `test.tsv`.
        to: a folder that does not exist yet.
        data_dir: local folder of tasks.
        teacher: a fine-tuned model of the task, or an encoder to fine-tune first; None: labels alone teach.
        settings: learning rates, epochs, rows, length, device.
        objective: as `tasks.adapt.read_method` takes it.
        unlabelled: files of further texts of the task, which the teacher labels.
        balanced: classes weigh alike.
        seed: decides new heads and the order of rows.
        plain: also fine-tune on labels alone, to show beside; not where that is what is done anyway.
        formats: keys of `formats.FORMATS`, written beside.
        progress: told what happens.

    Raises:
        AutodistilError: wrong input; trainings that are done are kept, and the same call goes on from there.
    """
    settings, progress = settings or EvaluationSettings(device="auto"), progress or Progress()
    check_formats(formats)
    with disk_errors(to):
        if to.exists() and (not to.is_dir() or any(to.iterdir())):
            raise ExportError(f"target {str(to)!r} exists and is not an empty folder; give --to a new folder")
    data, model = load_labelled(task, data_dir), EvaluatedModel.open(student)
    if unlabelled and teacher is None:
        raise ConfigError("unlabelled texts are for a teacher, which labels them; give --teacher too")
    further = [row for path in unlabelled for row in read_texts(path, data.task.pairs)]
    lesson = Lesson.of(data, settings, unlabelled=tuple(further), objective=objective, balanced=balanced, seed=seed)
    work = to.with_name(f".{to.name}.work")
    with disk_errors(work):
        work.mkdir(parents=True, exist_ok=True)
        taught = None if teacher is None else _teacher(teacher, lesson, settings, to, work, progress)
        order = [] if taught is None else _order(taught[1], data)
        answers = None if taught is None else taught_answers(taught[1], lesson)[:, order]
        best = adapted(model, lesson, settings, work / "student", progress, answers)
        figures = {"student": reported(_opened(best.folder, settings), data)}
        if plain and objective != _PLAIN and taught is not None:
            labels = replace(lesson, unlabelled=(), objective=_PLAIN)
            untaught = adapted(model, labels, settings, work / _PLAIN, progress)
            figures["plain"] = reported(_opened(untaught.folder, settings), data)
        if taught is not None:
            figures["teacher"] = reported(taught[1], data, order)
        found = _found(to, data, lesson, best, figures, None if taught is None else taught[0], objective)
        found = write_adapted(best.folder, model, found, formats, work / "out")
        shutil.rmtree(work, ignore_errors=True)
        return found


def load_labelled(task: str, data_dir: Path | None) -> TaskData:
    """A task by name, or a folder that holds one."""
    path = Path(task).expanduser()
    if data_dir is None and path.is_dir() and any((path / f"{split}.tsv").is_file() for split in SPLITS):
        return load_task(path.resolve().name, path.resolve().parent)
    return load_task(task, data_dir)


# ---- teacher


def _teacher(
    source: str, lesson: Lesson, settings: EvaluationSettings, to: Path, work: Path, progress: Progress
) -> tuple[str, Pupil]:
    """A fine-tuned teacher and where it is; one that is an encoder is fine-tuned first, and kept."""
    model, kept = EvaluatedModel.open(source), to.with_name(f"{to.name}-teacher")
    if model.has_head:
        return source, _opened(source, settings)
    if not (kept / "model.safetensors").is_file():
        progress.say(f"teacher {source!r} has no classification head: it is fine-tuned first, and kept at {kept}")
        labels = replace(lesson, unlabelled=(), objective=_PLAIN)
        best = adapted(model, labels, settings, work / "teacher", progress)
        shutil.copytree(best.folder, kept, ignore=shutil.ignore_patterns(".*"))
    return str(kept), _opened(kept, settings)


def _opened(source: str | Path, settings: EvaluationSettings) -> Pupil:
    """A fine-tuned model with its own head."""
    return Pupil.of(EvaluatedModel.open(str(source)), None, settings)


def _order(teacher: Pupil, data: TaskData) -> list[int]:
    """Where each class of the task stands among a teacher's: by its name, or by its number where names differ.

    Raises:
        TeacherError: it knows other classes.
    """
    outputs, names = len(data.classes) or 1, dict(teacher.network.config.id2label or {})
    theirs = [str(name) for _, name in sorted(names.items())]
    if teacher.outputs != outputs:
        raise TeacherError(
            f"the teacher tells {teacher.outputs} classes apart ({', '.join(theirs)[:100]}), task {data.name!r} has "
            f"{outputs}: {', '.join(data.classes)[:100]}; give one that was fine-tuned on this task"
        )
    if data.classes and set(theirs) == set(data.classes):
        return [theirs.index(name) for name in data.classes]
    return list(range(outputs))


# ---- what comes out


def _found(
    to: Path,
    data: TaskData,
    lesson: Lesson,
    best: Adapted,
    figures: Mapping[str, Scores],
    teacher: str | None,
    objective: str,
) -> Adaptation:
    rows = len(data.evaluated)
    errors = standard_errors({name: (value,) for name, value in figures["student"].items()}, rows)
    said = ("soft-targets" if teacher else _PLAIN) if objective == "auto" else objective
    return Adaptation(
        path=to,
        task=data.name,
        pairs=data.task.pairs,
        classes=data.classes,
        origin=data.origin,
        split=data.evaluated_name,
        rows=rows,
        train_rows=len(lesson.train),
        unlabelled=len(lesson.unlabelled),
        metrics=dict(figures),
        standard_error=errors,
        objective=said,
        learning_rate=best.learning_rate,
        epoch=best.epoch,
        teacher=teacher,
    )
