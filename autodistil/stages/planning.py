"""Before a search: what it would be, from steps and scores that are timed and thrown away (trying.py).

The run folder is only read (`Run.only_read`). Not timed is what comes beside: least-squares fits, a proxy task,
measurements on devices, the export and the report.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from autodistil.costs.budget import Budget, read_budget
from autodistil.costs.closed_form import BYTES_PER_PARAMETER
from autodistil.run.run import Run
from autodistil.run.tracking import check_tracker
from autodistil.space.space import SubSpace
from autodistil.stages.costing import budgets_to_profile, search_problem
from autodistil.stages.ranking_by_task import NONE, open_proxy
from autodistil.stages.refining import refining_recipe
from autodistil.stages.searching import budget_notes, skipped_notes, teacher_notes
from autodistil.stages.training import DEFAULT_STEPS, known_steps
from autodistil.stages.training_length import StepTimes, look_notes, text_notes
from autodistil.stages.trying import Trial, state_bytes, weight_bytes
from autodistil.student_search.candidates import CandidateTable
from autodistil.student_search.certificate.measured import read_measured
from autodistil.student_search.problem import SearchProblem
from autodistil.student_search.study import choose_sampler, num_evaluations
from autodistil.student_search.study_storage import study_storage
from autodistil.student_search.teacher_row import TeacherRow
from autodistil.training.checkpoint import CHECKPOINT, WEIGHTS, steps_saved

State = Literal["trained", "begun", "to train", "not needed"]


@dataclass(frozen=True)
class PlannedSubSpace:
    """A sub-space and its SuperLM, as a search would find them."""

    name: str
    students: int
    feasible: int
    """Students within the budgets."""
    state: State
    """`begun`: there is a checkpoint to go on from; `not needed`: not trained, as no budget admits any student."""
    steps_done: int
    """Steps of its SuperLM that the run folder holds."""


@dataclass(frozen=True)
class Work:
    """Like pieces of work, one after the other."""

    count: int
    seconds_each: float | None
    """Measured; None where there is no work, or this process does not do it."""

    @property
    def seconds(self) -> float | None:
        """Seconds of all; None where they are not known."""
        if not self.count:
            return 0.0
        return None if self.seconds_each is None else self.count * self.seconds_each


@dataclass(frozen=True)
class DiskUse:
    """Bytes that come into the run folder, without headers (some kB a file) and small files."""

    checkpoints: int
    """While SuperLMs are trained: weights and moments. A file is there twice while it is replaced."""
    superlms: int
    """Once they are trained, in the place of checkpoints: weights."""
    refined: int
    """Weights of the students refined alone, were they as large as the costliest."""
    student: int
    """`model.safetensors` of the largest student within the budgets, and `onnx/model_bits.onnx` where it has few bits:
    those of the best are no larger."""


@dataclass(frozen=True)
class Plan:
    """What a search would be. Times are those of this machine as it was just now: no promise."""

    run: Path
    """The run folder that it would work in."""
    is_new: bool
    """Whether no run was begun there yet."""
    budgets: tuple[str, ...]
    unmeasured: tuple[str, ...]
    """Those of devices that the search measures first; the students counted here need not meet them."""
    teacher: TeacherRow
    teacher_meets: bool | None
    """Whether the teacher meets all budgets itself; None where only a measurement can say."""
    sub_spaces: tuple[PlannedSubSpace, ...]
    steps: int
    """Of each SuperLM."""
    steps_from: str
    """Where they come from, in words."""
    training: Work
    """Steps that are left, of all SuperLMs side by side."""
    writing: Work
    """Steps whose texts the teacher writes in part, of the training and a refinement; none where it writes none."""
    sampler: str
    scoring: Work
    """Students that are left to be scored."""
    finalists: int
    """Students that are refined alone."""
    refining: Work
    """Their steps, one student after the other; side by side they share the teacher's forwards and take less."""
    disk: DiskUse
    memory: int
    """Bytes of weights, moments and a gradient in training, and of the teacher: it takes more than that."""
    notes: tuple[str, ...]

    @property
    def feasible(self) -> int:
        """Students within the budgets."""
        return sum(sub.feasible for sub in self.sub_spaces)

    @property
    def students(self) -> int:
        """Students of all sub-spaces."""
        return sum(sub.students for sub in self.sub_spaces)

    @property
    def seconds(self) -> float | None:
        """Seconds of training, the teacher's writing, scoring and refining; None where some are not known."""
        parts = [work.seconds for work in (self.training, self.writing, self.scoring, self.refining)]
        known = [seconds for seconds in parts if seconds is not None]
        return sum(known) if len(known) == len(parts) else None


def plan_search(run: Run) -> Plan:
    """What a search would be.

    Args:
        run: one of `Run.only_read`.

    Raises:
        AutodistilError: wrong input, as in a search.
    """
    config = run.config
    unmeasured = budgets_to_profile(run.inputs)
    problem = _problem(run, unmeasured)
    _check(run)
    trial = Trial(run, problem.possible)
    assert problem.teacher is not None, "a problem of a run has its teacher"
    steps, steps_from = _steps(run, trial)
    step_seconds = _each(trial.step_times)
    sampler = choose_sampler(config.sampler, len(trial.by_cost), config.trials, problem.space.is_listed)
    steps_left = max((steps - _steps_done(run, sub) for sub in trial.missing), default=0)
    alone_each = refining_recipe(config, {"train_steps": steps}).steps if config.num_finalists else 0
    return Plan(
        run=run.folder.path,
        is_new=not run.folder.exists(),
        budgets=tuple(read_budget(text).text for text in config.budgets),
        unmeasured=tuple(budget.text for budget in unmeasured),
        teacher=problem.teacher,
        teacher_meets=_meets(problem.teacher, (*problem.budgets, *unmeasured)),
        sub_spaces=_sub_spaces(run, trial),
        steps=steps,
        steps_from=steps_from,
        training=Work(steps_left, step_seconds),
        writing=Work(steps_left + alone_each if config.teacher_text else 0, trial.writing_seconds),
        sampler=sampler,
        scoring=Work(_to_score(run, trial, sampler), trial.score_seconds),
        finalists=config.num_finalists,
        refining=Work(config.num_finalists * alone_each, _each(trial.alone_times)),
        disk=_disk(trial),
        memory=_memory(trial),
        notes=(
            *teacher_notes(problem, unmeasured),
            *budget_notes(problem),
            *skipped_notes(run.superlms, trial.needed),
            *(text_notes(run.inputs.text, steps) if trial.missing else ()),
            *(look_notes(steps, step_seconds or 0.0) if trial.missing else ()),
            *_notes_beside(run, trial, unmeasured),
        ),
    )


def _problem(run: Run, unmeasured: Sequence[Budget]) -> SearchProblem:
    """The problem under the budgets whose costs are known."""
    left_out = {budget.text for budget in unmeasured}
    return search_problem(run.inputs, [text for text in run.config.budgets if read_budget(text).text not in left_out])


def _check(run: Run) -> None:
    """Refuse what a search would refuse, without asking others: a study that several drivers share is not opened."""
    check_tracker(run.config.track)
    if run.config.study_storage is not None:
        study_storage(run.config.study_storage)
    _ = read_measured(run.folder.certificate_path)
    _ = open_proxy(run.folder, run.config, run.inputs.teacher)


def _meets(teacher: TeacherRow, budgets: Sequence[Budget]) -> bool | None:
    return None if teacher.not_measured(budgets) else teacher.meets(budgets)


def _each(times: StepTimes | None) -> float | None:
    return None if times is None else times.each


def _steps(run: Run, trial: Trial) -> tuple[int, str]:
    """Steps of each SuperLM, and where they come from."""
    steps, minutes = known_steps(run.inputs), run.config.train_minutes
    if steps is not None:
        return steps, "those of the run" if "train_steps" in run.folder.resolved() else "as given"
    if minutes is not None and trial.step_times is not None:
        config = run.config
        steps = trial.step_times.steps_in(60 * minutes, trial.alone_times, config.num_finalists, config.refine_steps)
        return steps, f"what fits into {minutes:g} minutes"
    return DEFAULT_STEPS, "the default"


def _sub_spaces(run: Run, trial: Trial) -> tuple[PlannedSubSpace, ...]:
    feasible = trial.problem.feasible.groupby(trial.problem.table["sub_space"]).sum()
    return tuple(
        PlannedSubSpace(
            sub.name, len(sub.students), int(feasible[sub.name]), _state(run, trial, sub), _steps_done(run, sub)
        )
        for sub in run.inputs.space.sub_spaces
    )


def _state(run: Run, trial: Trial, sub_space: SubSpace) -> State:
    if run.superlms.is_trained(sub_space):
        return "trained"
    if sub_space not in trial.missing:
        return "not needed"
    return "begun" if (run.folder.superlm_folder(sub_space.name) / CHECKPOINT).is_file() else "to train"


def _steps_done(run: Run, sub_space: SubSpace) -> int:
    return steps_saved(run.folder.superlm_folder(sub_space.name))


def _to_score(run: Run, trial: Trial, sampler: str) -> int:
    """Students that are left to score: of an enumeration those that the last search has no loss of."""
    wanted, path = num_evaluations(trial.problem, sampler, run.config.trials), run.folder.candidates_path
    if sampler != "exhaustive" or not path.is_file():
        return wanted
    scored = set(CandidateTable.read(path).known("loss")) & set(trial.by_cost)
    return max(0, wanted - len(scored))


def _disk(trial: Trial) -> DiskUse:
    trainers, costs = list(trial.trainers.values()), trial.problem.table[trial.problem.feasible]
    floats, served = BYTES_PER_PARAMETER * costs["params"], 1e6 * costs["size_mb"]
    files = served.where(served >= floats, served + floats)
    return DiskUse(
        checkpoints=sum(map(state_bytes, trainers)),
        superlms=sum(map(weight_bytes, trainers)),
        refined=0 if trial.alone is None else trial.run.config.num_finalists * weight_bytes(trial.alone),
        student=round(files.max()),
    )


def _memory(trial: Trial) -> int:
    """Bytes that are held at once at least: by the training, or where nothing is to be trained by the scoring.

    The largest SuperLM counts with a gradient, which is as large as a moment: with one batch a step no two are held.
    """
    inputs, folder, trainers = trial.run.inputs, trial.run.folder, list(trial.trainers.values())
    gradients = [(state_bytes(trainer) - weight_bytes(trainer)) // 2 for trainer in trainers]
    training = sum(map(state_bytes, trainers)) + max(gradients, default=0)
    scoring = sum((folder.superlm_folder(sub.name) / WEIGHTS).stat().st_size for sub in trial.needed if not trainers)
    teachers = {id(teacher): teacher for teacher in (inputs.teacher, inputs.ordered_teacher)}.values()
    return training + scoring + sum(value.nbytes for one in teachers for _, value in one.named_parameters())


def _notes_beside(run: Run, trial: Trial, unmeasured: Sequence[Budget]) -> list[str]:
    """What to say of what is not counted here, and of what the search will ask for."""
    config, notes = run.config, []
    if unmeasured:
        texts = " and ".join(budget.text for budget in unmeasured)
        notes.append(f"{texts}: measured in the search; the students counted here are those within all other budgets")
    if begun := [sub.name for sub in trial.missing if _state(run, trial, sub) == "begun"]:
        notes.append(f"training of {', '.join(begun)} was interrupted: it goes on with --resume")
    if config.proxy not in (None, NONE):
        most = min(config.proxy_top or len(trial.by_cost), len(trial.by_cost))
        notes.append(f"task {config.proxy} scores up to {most} students as well, which is not timed here")
    if config.workers:
        notes.append(f"nothing is timed: {config.workers} Ray workers train and score, not this process")
    return notes
