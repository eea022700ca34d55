"""What students cost: closed forms, and for budgets in milliseconds, MB of memory and MB of a file, devices.

latency/<setting>.json              students of the space, measured by design on this machine before anything is trained
latency/<setting>-finalists.json    finalists of the search, measured as exported
latency/<setting>-teacher.json      the teacher, measured in turns with the students by design, then with finalists

Untrained slices of the teacher stand in for students while the model is fitted: weights do not change the time. A table
that is given along takes the place of the first file. Nothing is measured twice; removing a file measures anew.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Protocol

from autodistil.config import RunConfig
from autodistil.costs.budget import Budget, DeviceBudget, read_budget
from autodistil.costs.closed_form import budget_cost
from autodistil.errors import BudgetError, RunError
from autodistil.formats.setting import RuntimeSetting
from autodistil.models.superlm import SuperLM
from autodistil.models.teacher import Teacher
from autodistil.objectives import TERMS
from autodistil.objectives.next_token import NAME as NEXT_TOKEN
from autodistil.profiling.device_costs import (
    DeviceCost,
    DeviceTarget,
    as_run,
    at_setting,
    check_peak_memory,
    measured_values,
    named_tables,
    resolve_target,
)
from autodistil.profiling.fingerprint import DeviceFingerprint, this_device
from autodistil.profiling.latency_model import choose_students
from autodistil.profiling.latency_table import (
    LatencyEntry,
    LatencyTable,
    check_device,
    of_teacher,
    read_table,
    write_table,
)
from autodistil.profiling.profile import StudentSource, profile_students, table_header
from autodistil.profiling.session import Plan
from autodistil.run.facts import teacher_costs
from autodistil.run.folder import FINALISTS, TEACHER, RunFolder
from autodistil.run.inputs import RunInputs
from autodistil.space.axes import axis_of
from autodistil.space.space import OneStudent
from autodistil.space.student import SIZES, Candidate
from autodistil.student_search.problem import SearchProblem
from autodistil.student_search.teacher_row import TeacherRow
from autodistil.utils import Progress, short


def search_problem(inputs: RunInputs, budgets: Iterable[str]) -> SearchProblem:
    """Students, costs and budgets of a run.

    Returns:
        The problem in which students meet the budget of a device by their measurement or prediction; `possible` is the
        one to search.

    Raises:
        BudgetError: a budget cannot be read, or no student may meet them all.
        RunError: this machine was not profiled for one of them.
        ProfileError: a table is damaged, or says too little.
    """
    parsed = {budget.text: _at_run_length(budget, inputs.seq_len) for budget in map(read_budget, budgets)}
    targets = targets_of(inputs.teacher, inputs.config, parsed.values())
    on_devices = {target.budget.text: _device_cost(inputs, target) for target in targets}
    shape, limits = inputs.teacher.encoder_shape, tuple(parsed.values())
    teacher = _teacher_row(inputs, limits, targets)
    problem = SearchProblem(inputs.space, shape, limits, inputs.seq_len, on_devices, teacher=teacher)
    problem.possible.check_feasible()
    return problem


def _teacher_row(inputs: RunInputs, budgets: Sequence[Budget], targets: Sequence[DeviceTarget]) -> TeacherRow:
    """The teacher with its costs, on devices where it was measured; its loss on what comes next is not known yet."""
    dims, shape = inputs.teacher.dims, inputs.teacher.encoder_shape
    forms = [budget for budget in budgets if not isinstance(budget, DeviceBudget)]
    costs = {budget.column: float(budget_cost(budget, [dims], shape, inputs.seq_len)[0]) for budget in forms}
    for target in targets:
        path = inputs.folder.latency_table(target.key, TEACHER)
        table = target.table or (read_table(path) if path.is_file() else None)
        entries = at_setting(table.entries, target.setting) if table else ()
        measured = measured_values(entries, target.budget.cost, upper=True).get(dims)
        costs |= {target.budget.column: measured} if measured is not None else {}
    axes = {size: axis_of(size).of(dims, shape) for size in SIZES}
    own = any(term == NEXT_TOKEN or not TERMS[term].vanishes_on_the_teacher for _, term in inputs.measure.terms)
    loss = math.nan if own else 0.0
    return TeacherRow(inputs.teacher_name, dims, axes, {**teacher_costs(inputs), **costs}, loss)


def _at_run_length(budget: Budget, seq_len: int) -> Budget:
    """The budget without a length where that is the run's: it limits a cost that every student has a column of."""
    own = budget.seq_len == seq_len and not isinstance(budget, DeviceBudget)
    return replace(budget, seq_len=None) if own else budget


class Measure(Protocol):
    """The stopwatch of this machine."""

    def __call__(self, sources: Sequence[StudentSource], setting: RuntimeSetting, memory: bool) -> LatencyTable:
        """Students, how to run them, and whether to measure their peak memory too -> their measurements."""


def targets_of(teacher: Teacher, config: RunConfig, budgets: Iterable[Budget]) -> tuple[DeviceTarget, ...]:
    """The devices that budgets mean, all tables read and checked; budgets in closed form mean none.

    Raises:
        BudgetError: one means no device and no table, or another length than that of the teacher's images.
        ProfileError: a table cannot be read, is of other students, or of another device and not forced.
    """
    tables, fixed = named_tables(config.latency_tables), teacher.encoder_shape.fixed_length

    def read(path: Path) -> LatencyTable:
        return of_teacher(read_table(path), teacher.model.config.model_type, teacher.encoder_shape.vocab_size)

    def resolve(budget: DeviceBudget) -> DeviceTarget:
        target = resolve_target(budget, tables, fixed or config.seq_len, device_here, read, config.force_table)
        if fixed not in (None, target.setting.seq_len):
            raise BudgetError(
                f"budget {short(budget.text)}: got seq={target.setting.seq_len}; allowed: {fixed}, the tokens of an "
                "image; leave it out, or give a latency table of images of this size"
            )
        return target

    return tuple(resolve(budget) for budget in budgets if isinstance(budget, DeviceBudget))


def device_here(kind: str) -> DeviceFingerprint:
    """The fingerprint of this machine's processor or accelerator."""
    if kind == "cpu":
        return this_device()
    import torch

    return this_device(torch.cuda.get_device_name() if torch.cuda.is_available() else None)


# ---- before the search


def profile_devices(inputs: RunInputs, measure: Measure) -> None:
    """Measure what the run's budgets need and the run folder lacks, by design.

    Raises:
        BudgetError: a budget cannot be read or means no device.
        ProfileError: a runtime is missing, a table is not of the device, or one that no budget names is not there.
    """
    for target, memory in by_setting(_to_profile(inputs)):
        _profile(inputs, target, memory, measure)


def budgets_to_profile(inputs: RunInputs) -> list[Budget]:
    """The budgets of the run that `profile_devices` would measure something for.

    Raises:
        BudgetError: as there.
        ProfileError: as there.
    """
    return [target.budget for target in _to_profile(inputs)]


def _to_profile(inputs: RunInputs) -> list[DeviceTarget]:
    """What the run's budgets mean on this machine, and the run folder lacks."""
    config = inputs.config
    targets = targets_of(inputs.teacher, config, map(read_budget, config.budgets))
    named = {target.budget.device for target in targets}
    for name, path in named_tables(config.latency_tables).items():
        if name not in named:
            read_table(path)
    here = [target for target in targets if target.table is None]
    lacking = {
        target.key
        for target, memory in by_setting(here)
        if not _is_profiled(inputs.folder.latency_table(target.key), target, memory, config.force_table)
    }
    return [target for target in here if target.key in lacking]


def by_setting(targets: Iterable[DeviceTarget]) -> list[tuple[DeviceTarget, bool]]:
    """A target for each setting, and whether some budget of that setting is one of memory, which takes longer."""
    targets = list(targets)
    in_memory = {target.key for target in targets if target.budget.cost == "ram_mb"}
    return [(target, key in in_memory) for key, target in {target.key: target for target in targets}.items()]


def _is_profiled(path: Path, target: DeviceTarget, memory: bool, force: bool) -> bool:
    if not path.is_file():
        return False
    table = read_table(path)
    check_device(table, device_here(target.setting.device), force)
    return not memory or all(entry.peak_memory_mb is not None for entry in table.entries)


def _profile(inputs: RunInputs, target: DeviceTarget, memory: bool, measure: Measure) -> None:
    homes = {as_run(one.config, target.setting): one.sub_space for one in reversed(inputs.space.candidates)}
    students, teacher = list(homes), inputs.teacher
    chosen = choose_students(students)
    inputs.progress.say(
        f"measuring the teacher and {len(chosen)} of {len(students)} students by design: {target.setting}"
    )
    with inputs.folder.locked():
        inputs.write_record()
        sources = _stand_ins(inputs, [Candidate(homes[student], student) for student in chosen])
        if teacher.dims not in chosen:
            sources.append(source_of_teacher(teacher))
        table = measure(sources, target.setting, memory)
        parts = {"": set(chosen), TEACHER: {teacher.dims}}
        for part, those in parts.items():
            entries = tuple(entry for entry in table.entries if entry.student in those)
            write_table(replace(table, entries=entries), inputs.folder.latency_table(target.key, part), summed=True)


def _stand_ins(inputs: RunInputs, students: Sequence[Candidate]) -> list[StudentSource]:
    """Students cut from the teacher as it is."""
    superlms: dict[str, SuperLM] = {}
    for name in dict.fromkeys(student.sub_space for student in students):
        sub_space = inputs.space.sub_space(name)
        superlms[name] = SuperLM.from_teacher(inputs.teacher, sub_space, vocabulary=inputs.vocabulary_of(sub_space))
    return [source_of(inputs.teacher, superlms[one.sub_space], one) for one in students]


def source_of(teacher: Teacher, superlm: SuperLM, candidate: Candidate) -> StudentSource:
    """A student to measure, extracted from a SuperLM when its turn comes."""
    student, fixed = candidate.config, teacher.images is not None
    return StudentSource(candidate.id, student, teacher.max_length, lambda: superlm.extract(student), fixed)


def source_of_teacher(teacher: Teacher) -> StudentSource:
    """The teacher, to measure as its students are."""
    alone = OneStudent("teacher", teacher.dims)
    return source_of(teacher, SuperLM.from_teacher(teacher, alone), Candidate("teacher", teacher.dims))


# ---- what is known


def _device_cost(inputs: RunInputs, target: DeviceTarget) -> DeviceCost:
    """What all students take on a device, by what was measured so far."""
    table = target.table or _kept_table(inputs.folder, target)
    design = at_setting(table.entries, target.setting)
    check_peak_memory(target.budget, design)
    # Of a device elsewhere, what its table holds is all that can be measured.
    finalists = read_finalists(inputs.folder, target) if target.here else design
    candidates, shape = inputs.space.candidates, inputs.teacher.encoder_shape
    return DeviceCost(target.budget, target.setting, design, finalists, candidates, shape, target.here)


def _kept_table(folder: RunFolder, target: DeviceTarget) -> LatencyTable:
    path = folder.latency_table(target.key)
    if not path.is_file():
        raise RunError(
            f"run {str(folder.path)!r} was not profiled for {target.budget.text!r}; search with that budget: "
            f"autodistil search --run {folder.path} --budget {target.budget.text}"
        )
    return read_table(path)


# ---- finalists


def read_finalists(folder: RunFolder, target: DeviceTarget) -> tuple[LatencyEntry, ...]:
    """The finalists that were measured at a target."""
    path = folder.latency_table(target.key, FINALISTS)
    return at_setting(read_table(path).entries, target.setting) if path.is_file() else ()


def add_measured(folder: RunFolder, target: DeviceTarget, part: str, measured: LatencyTable) -> None:
    """Keep measurements of finalists, or the teacher's, beside those of earlier rounds; a model's last one counts.

    Raises:
        ProfileError: earlier ones are of another device.
    """
    path = folder.latency_table(target.key, part)
    if path.is_file():
        earlier = read_table(path)
        check_device(earlier, measured.device)
        ours = {entry.student for entry in measured.entries}
        kept = (entry for entry in earlier.entries if entry.student not in ours)
        measured = replace(measured, entries=(*kept, *measured.entries))
    write_table(measured, path, summed=True)


# ---- this machine's stopwatch


def measure_here(teacher: Teacher, progress: Progress) -> Measure:
    """Measure students of a teacher in fresh processes of this machine."""
    header = table_header(teacher.model.config.model_type, teacher.encoder_shape.vocab_size)

    def measure(sources: Sequence[StudentSource], setting: RuntimeSetting, memory: bool) -> LatencyTable:
        shapes = ((setting.batch, setting.seq_len),)
        plan = Plan(setting.runtime, setting.device, setting.threads, shapes, memory=memory)
        return profile_students(sources, plan, header, progress).table

    return measure
