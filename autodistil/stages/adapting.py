"""A classifier of texts, words or images, scorer or finder of answers from a student: fine-tuned, and taught.

TO              the fine-tuned student: an ordinary `AutoModelForSequenceClassification`, or `...ForTokenClassification`
                where words have classes, `...ForImageClassification` of images, `...ForQuestionAnswering` where
                answers are spans of texts, with its figures on the card
TO-teacher      the teacher, where none that was fine-tuned is given and one is fine-tuned first
.TO.work        trainings that are done, until the student is: the same command goes on from there
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from autodistil.costs.closed_form import BYTES_PER_PARAMETER
from autodistil.costs.fvcore_check import count_flops
from autodistil.data.images import IMAGES
from autodistil.data.readers import corpus_file_errors
from autodistil.data.sources import files_of
from autodistil.errors import ConfigError, ExportError, TaskError, TeacherError
from autodistil.evaluation.embedding import check_reads
from autodistil.evaluation.standard_error import standard_errors
from autodistil.export.adapted_folder import Adaptation, write_adapted
from autodistil.formats.writing import CALIBRATION_TEXTS, check_formats
from autodistil.models.hf_folder import EvaluatedModel
from autodistil.tasks.adapt.method_sum import PLAIN, read_methods
from autodistil.tasks.adapting import Adapted, Lesson, adapted
from autodistil.tasks.calibration import Abstention, doubt, probabilities
from autodistil.tasks.catalogue import SPLITS, Split, TaskData, load_task
from autodistil.tasks.classification import Classification
from autodistil.tasks.finetune import EvaluationSettings, Pupil, scored
from autodistil.tasks.image_batching import read_image
from autodistil.tasks.labelled_rows import read_texts
from autodistil.tasks.mixed_teachers import MixedTeachers, check_weights
from autodistil.tasks.own_head import answers_to, class_order
from autodistil.tasks.span_finder import SpanFinder
from autodistil.tasks.span_teacher import SpanTeacher, check_same_tokens
from autodistil.tasks.squad import question_scores, squad_file
from autodistil.utils import Progress, disk_errors


def adapt(
    student: str,
    task: str,
    to: Path,
    data_dir: Path | None = None,
    teacher: str | Sequence[str] | None = None,
    settings: EvaluationSettings | None = None,
    objective: str = "auto",
    teacher_weights: Sequence[float] = (),
    unlabelled: Sequence[Path] = (),
    balanced: bool = False,
    seed: int = 0,
    plain: bool = True,
    abstain: float | None = None,
    formats: Sequence[str] = (),
    progress: Progress | None = None,
) -> Adaptation:
    """Fine-tune a student, and leave an ordinary Hugging Face classifier at `to`, whole and checked or not at all.

    Args:
        student: a folder, an id on the Hub or a packaged name of an encoder.
        task: a name (`tasks.catalogue.load_task`), or a folder with `train.tsv` and `dev.tsv` or `test.tsv`, or
            `.json`, or of images with `train/CLASS/` and `dev/` or `test/`.
        to: a folder that does not exist yet.
        data_dir: local folder of tasks.
        teacher: a fine-tuned model of the task, or an encoder to fine-tune first, or several; None: labels alone teach.
        settings: learning rates, epochs, rows, length, device.
        objective: as `tasks.adapt.method_sum.read_methods` takes it.
        teacher_weights: of several teachers, one each; by how well each one fits the task unless given.
        unlabelled: files of further texts of the task, or folders or files of images, which the teacher labels.
        balanced: classes weigh alike.
        seed: decides new heads and the order of rows.
        plain: also fine-tune on labels alone, to show beside; not where that is what is done anyway.
        abstain: share of errors among the answers, from which the confidence is chosen below which it does not answer.
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
    images = data.task.images
    check_reads(f"model {student!r}", model.reads_images, f"task {task!r}", images)
    _check_abstain(abstain, data)
    if images:
        _check_decoded(data, model)
    else:
        _check_texts(data, progress)
    names = () if teacher is None else (teacher,) if isinstance(teacher, str) else tuple(teacher)
    sources = [EvaluatedModel.open(name) for name in names]
    for one in sources:
        check_reads(f"teacher {one.source!r}", one.reads_images, f"task {task!r}", images)
    if unlabelled and not sources:
        raise ConfigError("unlabelled rows are for a teacher, which labels them; give --teacher too")
    check_weights(teacher_weights, len(sources))
    task_kinds = (data.task.pairs, images, data.task.spans)
    said = read_methods(objective, bool(sources), len(data.classes) or 1, *task_kinds)
    further = [row for path in unlabelled for row in _unlabelled(path, data)]
    lesson = Lesson.of(data, settings, unlabelled=tuple(further), objective=said.name, balanced=balanced, seed=seed)
    if data.task.spans:
        _check_spans(model, sources, lesson, settings, formats)
    work = to.with_name(f".{to.name}.work")
    with disk_errors(work):
        work.mkdir(parents=True, exist_ok=True)
        named = {f"teacher-{number}" if number > 1 else "teacher": one for number, one in enumerate(sources, start=1)}
        tuned = [_fine_tuned(name, one, lesson, settings, to, work, progress) for name, one in named.items()]
        teachers = _teachers(tuned, lesson, settings, teacher_weights)
        taught = None if teachers is None else teachers.taught(lesson)
        best = adapted(model, lesson, settings, work / "student", progress, taught, "student")
        pupil = _opened(best.folder, settings)
        answers, costs = {"student": answers_to(pupil, data.evaluated)}, {"student": _costs(pupil)}
        if plain and said.name != PLAIN:
            labels = replace(lesson, unlabelled=(), objective=PLAIN)
            untaught = adapted(model, labels, settings, work / PLAIN, progress, what="student on labels alone")
            answers["plain"] = answers_to(_opened(untaught.folder, settings), data.evaluated)
        if teachers is not None:
            each = [_costs(one.pupil) for one in teachers.teachers]
            answers["teacher"], costs["teacher"] = teachers.answers(data), _together(each)
        found = _found(to, data, lesson, best, answers, teachers, pupil.length if data.task.spans else None)
        abstention = None if abstain is None else _abstention(abstain, pupil, lesson, answers["student"])
        found = replace(found, costs=costs, abstention=abstention)
        rows = lesson.train
        texts = rows.text_a if rows.text_b is None else tuple(zip(rows.text_a, rows.text_b, strict=True))
        samples = _samples(pupil, rows) if formats else None
        found = write_adapted(best.folder, model, found, formats, work / "out", () if images else texts, samples)
        shutil.rmtree(work, ignore_errors=True)
        return found


def load_labelled(task: str, data_dir: Path | None) -> TaskData:
    """A task by name, or a folder that holds one.

    Raises:
        TaskError: it is unknown, or its data are missing or damaged.
    """
    path = Path(task).expanduser()
    if data_dir is None and path.is_dir() and any(_holds(path, split) for split in SPLITS):
        return load_task(path.resolve().name, path.resolve().parent)
    return load_task(task, data_dir)


def _holds(folder: Path, split: str) -> bool:
    """Whether a folder has a split of a task: a table, questions or images."""
    return (folder / f"{split}.tsv").is_file() or (folder / split).is_dir() or squad_file(folder, split) is not None


def _unlabelled(path: Path, data: TaskData) -> list[tuple[str, str | None]]:
    """Texts or pairs of a file, or images of a file or folder.

    Raises:
        TaskError: it cannot be read, or holds none.
        CorpusError: the same of images.
    """
    if not data.task.images:
        return list(read_texts(path, data.task.pairs))
    with corpus_file_errors(path):
        return [(str(file), None) for file in files_of(path, str(path), IMAGES)]


# ---- teacher


def _teachers(
    tuned: Sequence[EvaluatedModel], lesson: Lesson, settings: EvaluationSettings, weights: Sequence[float]
) -> MixedTeachers | SpanTeacher | None:
    """Fine-tuned models as teachers, None where there are none."""
    if not tuned:
        return None
    if lesson.data.task.spans:
        return SpanTeacher.of(tuned[0], lesson, settings)
    return MixedTeachers.of(tuned, lesson, settings, weights)


def _fine_tuned(
    name: str,
    model: EvaluatedModel,
    lesson: Lesson,
    settings: EvaluationSettings,
    to: Path,
    work: Path,
    progress: Progress,
) -> EvaluatedModel:
    """A fine-tuned teacher; one that is an encoder is fine-tuned first, and kept."""
    if model.has_head:
        return model
    source, kept = model.source, to.with_name(f"{to.name}-{name}")
    if (kept / "model.safetensors").is_file():
        progress.say(f"teacher {source!r} was fine-tuned before: {kept}")
    else:
        progress.say(f"teacher {source!r} has no classification head: it is fine-tuned first, and kept at {kept}")
        labels = replace(lesson.privileged, unlabelled=(), objective=PLAIN)
        best = adapted(model, labels, settings, work / name, progress, what=name)
        shutil.copytree(best.folder, kept, ignore=shutil.ignore_patterns(".*"))
    return EvaluatedModel.open(str(kept))


def _opened(source: str | Path, settings: EvaluationSettings) -> Pupil | SpanFinder:
    """A fine-tuned model with its own head."""
    model = EvaluatedModel.open(str(source))
    return SpanFinder.of(model, settings, new_head=False) if model.finds_spans else Pupil.of(model, None, settings)


# ---- what comes out


def _check_abstain(risk: float | None, data: TaskData) -> None:
    """Refuse a risk that is none, or of a task whose answers have no one confidence.

    Raises:
        ConfigError: it is.
    """
    if risk is not None and not 0 <= risk < 1:
        raise ConfigError(f"abstain = {risk:g}; allowed: a share of errors, 0 or more and below 1, such as 0.05")
    if risk is not None and (data.task.regression or data.task.words or data.task.spans):
        what = "words, of which each has a confidence" if data.task.words else "scores, which have no confidence"
        what = "spans, which have no classes" if data.task.spans else what
        raise ConfigError(f"task {data.name!r} is of {what}; abstain is for classes of texts")


def _check_decoded(data: TaskData, model: EvaluatedModel) -> None:
    """Refuse images of the reported split that cannot be read: it is looked at when all trainings are done.

    Raises:
        CorpusError: one cannot.
    """
    for file in data.evaluated.text_a:
        read_image(file, model.config.num_channels)


def _check_spans(
    model: EvaluatedModel,
    sources: Sequence[EvaluatedModel],
    lesson: Lesson,
    settings: EvaluationSettings,
    formats: Sequence[str],
) -> None:
    """Refuse what is not for spans of texts.

    Raises:
        ConfigError: it is asked for.
        TeacherError: the student's family has no head for them, or a teacher reads other tokens.
    """
    task = f"task {lesson.data.name!r} is of spans"
    if lesson.balanced:
        raise ConfigError(f"{task}, which have no classes to balance; leave --balanced out")
    if formats:
        raise ConfigError(f"{task}; --format is for classes and scores, leave it out")
    if len(sources) > 1:
        raise ConfigError(f"{task}; several teachers are for classes and scores, give one")
    model.check_finds_spans()
    for source in sources:
        check_same_tokens(model, source, lesson, settings)
        if source.has_head:
            class_order(source.config, lesson.data, "the teacher", TeacherError)
        else:
            source.check_finds_spans()


def _check_texts(data: TaskData, progress: Progress) -> None:
    """Say how many rows have no text, which are kept: a model in use may be asked such.

    Raises:
        TaskError: none of a split has any.
    """
    for name, split in data.splits.items():
        texts = zip(split.text_a, split.text_b or split.text_a, strict=True)
        empty = sum(not (one + other).strip() for one, other in texts)
        if empty == len(split):
            raise TaskError(f"no row of {name} of task {data.name!r} has a text; correct its files")
        if empty:
            progress.say(f"{empty:,} of {len(split):,} rows of {name} have no text")


def _samples(pupil: Pupil | SpanFinder, rows: Split) -> NDArray[np.float32] | None:
    """Training images, (images, channels, height, width), of which ranges of activations are taken; None of texts."""
    images = pupil.images if isinstance(pupil, Pupil) else None
    return None if images is None else images.sample(rows.text_a, CALIBRATION_TEXTS)


def _abstention(risk: float, pupil: Pupil | SpanFinder, lesson: Lesson, reported: np.ndarray) -> dict[str, Any]:
    """The threshold that the rows that choose give, and what it comes to on the reported ones, as plain values."""
    choosing, scored_rows = lesson.chosen_by, lesson.data.evaluated
    chosen = choosing.labels, probabilities(answers_to(pupil, choosing))
    return asdict(Abstention.of(risk, chosen, (scored_rows.labels, probabilities(reported))))


def _costs(pupil: Pupil | SpanFinder) -> dict[str, float]:
    """Parameters, MB of float32, and multiply-adds of the encoder at the length that was scored, where they count."""
    config, params = pupil.network.config, int(pupil.network.num_parameters())
    found: dict[str, float] = {"params": params, "size_mb": BYTES_PER_PARAMETER * params / 1e6}
    try:
        return {**found, "flops": count_flops(config, pupil.length), "tokens": pupil.length}
    except Exception:  # whatever tracing a foreign architecture raises; a training is worth more than this figure
        return found


def _together(each: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Costs of several models that all answer, where each has them."""
    common = [name for name in each[0] if all(name in costs for costs in each)]
    if len({costs.get("tokens") for costs in each}) > 1:  # multiply-adds of other lengths do not add up
        common = [name for name in common if name not in ("flops", "tokens")]
    return {name: each[0][name] if name == "tokens" else sum(costs[name] for costs in each) for name in common}


def _found(
    to: Path,
    data: TaskData,
    lesson: Lesson,
    best: Adapted,
    given: Mapping[str, np.ndarray],
    teachers: MixedTeachers | SpanTeacher | None,
    max_length: int | None,
) -> Adaptation:
    rows, labels = len(data.evaluated), data.evaluated.labels
    figures = {who: scored(data, data.evaluated, answers) for who, answers in given.items()}
    by_class = given if data.classes else {}
    right = data.evaluated.answers
    questions = {} if right is None else question_scores(right, given["student"].tolist())
    errors = standard_errors({name: (value,) for name, value in figures["student"].items()}, rows, questions)
    return Adaptation(
        path=to,
        task=data.name,
        pairs=data.task.pairs,
        words=data.task.words,
        images=data.task.images,
        spans=data.task.spans,
        unanswerable=data.evaluated.unanswerable,
        max_length=max_length,
        classes=data.classes,
        origin=data.origin,
        split=data.evaluated_name,
        rows=rows,
        train_rows=len(lesson.train),
        unlabelled=len(lesson.unlabelled),
        metrics=dict(figures),
        standard_error=errors,
        objective=lesson.objective,
        learning_rate=best.learning_rate,
        epoch=best.epoch,
        teacher=None if teachers is None else teachers.name,
        scored_rows=data.fingerprint if data.task.images else data.evaluated.fingerprint,
        doubt=doubt(labels, probabilities(given["student"])) if data.classes else None,
        classification={who: Classification.of(labels, of, data.classes).to_dict() for who, of in by_class.items()},
    )
