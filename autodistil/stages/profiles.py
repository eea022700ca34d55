"""What students take on devices, for budgets in milliseconds, MB of memory and MB of a file.

latency/<setting>.json              students of the space, measured by design on this machine before anything is trained
latency/<setting>-finalists.json    finalists of the search, measured as exported

Untrained slices of the teacher stand in for students while the model is fitted: weights do not change the time. A table
that is given along takes the place of the first file. Nothing is measured twice; removing a file measures anew.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

from autodistil.context import RunContext
from autodistil.errors import ProfileError, RunError
from autodistil.profiling.budgets import DeviceBudget, read_budget
from autodistil.profiling.costing import DeviceCost, at_setting, check_peak_memory
from autodistil.profiling.design import choose_students, design_size
from autodistil.profiling.fingerprint import DeviceFingerprint, this_device
from autodistil.profiling.setting import RuntimeSetting
from autodistil.profiling.table import LatencyEntry, LatencyTable, check_device, read_table, write_table
from autodistil.profiling.targets import Target, named_tables, resolve_target
from autodistil.spaces import StudentConfig, SubSpace
from autodistil.superlm import SuperLM

Measure = Callable[[Mapping[StudentConfig, Path], RuntimeSetting], LatencyTable]
"""Exported students in their folders, and how to run them -> their measurements on this machine."""


def targets_of(context: RunContext, budgets: Iterable[DeviceBudget]) -> tuple[Target, ...]:
    """The devices that budgets mean, all tables read and checked.

    Raises:
        BudgetError: one means no device and no table.
        ProfileError: a table cannot be read, or is of another device and not forced.
    """
    config = context.config
    tables = named_tables(config.latency_tables)
    return tuple(resolve_target(budget, tables, config.seq_len, device_here, config.force_table) for budget in budgets)


def device_here(kind: str) -> DeviceFingerprint:
    """The fingerprint of this machine's processor or accelerator."""
    if kind == "cpu":
        return this_device()
    import torch

    return this_device(torch.cuda.get_device_name() if torch.cuda.is_available() else None)


# ---- before the search


def profile_devices(context: RunContext, measure: Measure) -> None:
    """Measure what the run's budgets need and the run folder lacks, by design.

    Raises:
        BudgetError: a budget cannot be read or means no device.
        ProfileError: a runtime is missing, or a table is not of the device.
    """
    parsed = [read_budget(text) for text in context.config.budgets]
    targets = targets_of(context, [budget for budget in parsed if isinstance(budget, DeviceBudget)])
    for target in _distinct(target for target in targets if target.table is None):
        path = _table_path(context, target)
        if path.is_file():
            check_device(read_table(path), device_here(target.setting.device), context.config.force_table)
            context.progress.say(f"latency: reusing {path.name}")
        else:
            _profile(context, target, measure, path)


def _distinct(targets: Iterable[Target]) -> list[Target]:
    """One target a setting: budgets of time and memory share it."""
    return list({target.key: target for target in targets}.values())


def _profile(context: RunContext, target: Target, measure: Measure, path: Path) -> None:
    total = len({candidate.config for candidate in context.space.candidates})
    context.progress.say(f"latency: measuring {design_size(total)} of {total} students by design ({target.setting})")
    with context.folder.locked(), _stand_ins(context) as folders:
        context.record()
        write_table(measure(folders, target.setting), path)


@contextmanager
def _stand_ins(context: RunContext) -> Iterator[dict[StudentConfig, Path]]:
    """The students of the design, exported from the teacher's own slices into a folder that goes away."""
    homes: dict[StudentConfig, SubSpace] = {}
    for sub in context.space.sub_spaces:
        homes |= dict.fromkeys((student for student in sub.students if student not in homes), sub)
    chosen = choose_students(list(homes))
    superlms = {home.name: _untrained(context, home) for home in homes.values() if home in {homes[s] for s in chosen}}
    with exported_students({student: superlms[homes[student].name] for student in chosen}) as folders:
        yield folders


def _untrained(context: RunContext, sub_space: SubSpace) -> SuperLM:
    vocabulary = context.vocabulary if sub_space.vocab_size else None
    return SuperLM.from_teacher(context.teacher, sub_space, vocabulary=vocabulary)


@contextmanager
def exported_students(students: Mapping[StudentConfig, SuperLM]) -> Iterator[dict[StudentConfig, Path]]:
    """Hugging Face folders of students, which go away afterwards."""
    with TemporaryDirectory(prefix="autodistil-") as root:
        folders = {student: Path(root) / str(i) for i, student in enumerate(students)}
        for student, superlm in students.items():
            superlm.extract(student).save_pretrained(folders[student])
        yield folders


# ---- what is known


def device_costs(context: RunContext, budgets: Sequence[DeviceBudget]) -> dict[str, DeviceCost]:
    """Budget text -> what all students take there, by what was measured so far.

    Raises:
        RunError: this machine was not profiled for one of them.
        ProfileError: a table is damaged, or says too little.
    """
    return {target.budget.text: _device_cost(context, target) for target in targets_of(context, budgets)}


def _device_cost(context: RunContext, target: Target) -> DeviceCost:
    table = target.table or _kept_table(context, target)
    design = at_setting(table.entries, target.setting)
    check_peak_memory(target.budget, design)
    # Of a device elsewhere, what its table holds is all that can be measured.
    finalists = read_finalists(context, target) if target.here else design
    candidates, shape = context.space.candidates, context.teacher.encoder_shape
    return DeviceCost(target.budget, target.setting, design, finalists, candidates, shape, target.here)


def _kept_table(context: RunContext, target: Target) -> LatencyTable:
    path = _table_path(context, target)
    if not path.is_file():
        raise RunError(
            f"run {str(context.folder.path)!r} was not profiled for {target.budget.text!r}; search with that budget: "
            f"autodistil search --run {context.folder.path} --budget {target.budget.text}"
        )
    return read_table(path)


# ---- finalists


def read_finalists(context: RunContext, target: Target) -> tuple[LatencyEntry, ...]:
    """The finalists that were measured at a target."""
    path = _finalists_path(context, target)
    return at_setting(read_table(path).entries, target.setting) if path.is_file() else ()


def add_finalists(context: RunContext, target: Target, measured: LatencyTable) -> None:
    """Keep measurements of finalists, beside those of earlier rounds; a student's last one counts.

    Raises:
        ProfileError: earlier ones are of another device.
    """
    path = _finalists_path(context, target)
    if path.is_file():
        earlier = read_table(path)
        check_device(earlier, measured.device)
        ours = {entry.student for entry in measured.entries}
        kept = (entry for entry in earlier.entries if entry.student not in ours)
        measured = replace(measured, entries=(*kept, *measured.entries))
    write_table(measured, path)


def _table_path(context: RunContext, target: Target) -> Path:
    return context.folder.latency_path / f"{target.key}.json"


def _finalists_path(context: RunContext, target: Target) -> Path:
    return context.folder.latency_path / f"{target.key}-finalists.json"


def no_measuring(folders: Mapping[StudentConfig, Path], setting: RuntimeSetting) -> LatencyTable:
    """Where nothing may be measured.

    Raises:
        ProfileError: always.
    """
    raise ProfileError(f"{len(folders)} students are to be measured ({setting}), but nothing here can")
