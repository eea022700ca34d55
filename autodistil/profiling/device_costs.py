"""What all students of a space take on the device of a budget: measured where they were, else predicted, kept apart.

A budget means this machine or a latency table that is given along (`resolve_target`). Students measured by design are
stand-ins with untrained weights; a model is fitted to them. Finalists are measured again as they are exported; they
correct the model for those that are not measured yet. A budget counts as met only by such a measurement (`measured`),
never by a prediction, and before it as broken only by the lower end of the interval (`lowest`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import pandas as pd

from autodistil.costs.budget import DeviceBudget
from autodistil.errors import BudgetError, ConfigError, ProfileError, suggest
from autodistil.formats import FORMATS
from autodistil.formats.setting import DEVICES, RuntimeSetting
from autodistil.profiling.fingerprint import DeviceFingerprint
from autodistil.profiling.latency_model import Accuracy, CostModel, Workload, accuracy, fit_cost_model, workload
from autodistil.profiling.latency_table import LatencyEntry, LatencyTable, check_device
from autodistil.space.shape import EncoderShape
from autodistil.space.student import Candidate, StudentConfig
from autodistil.utils import short


def measured_values(entries: Iterable[LatencyEntry], cost: str, upper: bool = False) -> dict[StudentConfig, float]:
    """What the students took whose cost was measured: the median of a time, or the upper end of its interval."""
    column = {"ms": "high_ms" if upper else "median_ms", "ram_mb": "peak_memory_mb", "file_mb": "file_mb"}[cost]
    known = {entry.student: getattr(entry, column) for entry in entries}
    return {student: value for student, value in known.items() if value is not None}


@dataclass(frozen=True)
class DeviceCost:
    """One budgeted cost of all students on one device."""

    budget: DeviceBudget
    setting: RuntimeSetting
    design: tuple[LatencyEntry, ...]
    """Measured for the model, at the setting's batch and length."""
    finalists: tuple[LatencyEntry, ...]
    """Measured as exported."""
    candidates: tuple[Candidate, ...]
    shape: EncoderShape
    measurable: bool = True
    """This machine is the device."""

    def having(self, students: Iterable[Candidate]) -> DeviceCost:
        """The cost of these students as well, predicted by the models of now."""
        result = replace(self, candidates=(*self.candidates, *students))
        fitted = {name: value for name, value in vars(self).items() if isinstance(value, CostModel)}
        vars(result).update(fitted)
        return result

    @cached_property
    def load(self) -> Workload:
        """All students at this batch and length."""
        return self._workload(candidate.config for candidate in self.candidates)

    @cached_property
    def model(self) -> CostModel:
        """Fitted to the students measured by design alone.

        Raises:
            ProfileError: they are too few.
        """
        return self._fit(self.design)

    @cached_property
    def corrected(self) -> CostModel:
        """Fitted to the finalists too, which count instead of their stand-ins."""
        ours = {entry.student for entry in self.finalists}
        return self._fit([*(entry for entry in self.design if entry.student not in ours), *self.finalists])

    @cached_property
    def table(self) -> pd.DataFrame:
        """One row a student, by id.

        `cost` is what is held against the budget: the measurement, else the corrected prediction. `predicted`, `low`
        and `high` are the model's before any finalist was measured; `measured` is NaN where it was not.
        """
        predicted = self.model.predict(self.load).rename(columns={"value": "predicted"})
        known = measured_values(self.finalists, self.budget.cost, upper=True)  # what is held against a budget
        values = pd.Series([known.get(candidate.config) for candidate in self.candidates], dtype=float)
        cost = values.fillna(self.corrected.predict(self.load)["value"])
        table = pd.DataFrame({"cost": cost, **predicted, "measured": values})
        return table.set_index(pd.Index([candidate.id for candidate in self.candidates]))

    @cached_property
    def lowest(self) -> pd.Series:
        """What each student may take at best, by id: the measurement, else the lower end of the corrected interval."""
        low = self.corrected.predict(self.load)["low"].to_numpy()
        return self.table["measured"].fillna(pd.Series(low, index=self.table.index))

    @property
    def columns(self) -> pd.DataFrame:
        """The table as columns of `candidates.csv`: `ms@laptop` (what counts), `ms@laptop predicted`, ..."""
        return self.table.add_prefix(f"{self.budget.column} ").rename(columns=lambda name: name.removesuffix(" cost"))

    @property
    def shares(self) -> pd.DataFrame:
        """(students, layer types), by id: where the predicted cost goes."""
        return self.model.shares(self.load).set_index(self.table.index)

    @property
    def unseen(self) -> tuple[LatencyEntry, ...]:
        """Measurements of finalists that the model was not fitted to."""
        return tuple(entry for entry in self.finalists if entry not in self.design)

    @property
    def busy(self) -> bool:
        """Whether the machine did something else during some measurement of a time."""
        return self.budget.cost == "ms" and any(entry.busy for entry in (*self.design, *self.finalists))

    @property
    def on_finalists(self) -> Accuracy | None:
        """How well finalists were predicted before they were measured; None where none was."""
        known = measured_values(self.unseen, self.budget.cost)
        unseen = [candidate for candidate in self.candidates if candidate.config in known]
        predicted = self.table.loc[[candidate.id for candidate in unseen], "predicted"].to_numpy()
        return accuracy(predicted, [known[candidate.config] for candidate in unseen]) if unseen else None

    def _fit(self, entries: Iterable[LatencyEntry]) -> CostModel:
        values = measured_values(entries, self.budget.cost)
        return fit_cost_model(self.budget.cost, self._workload(values), list(values.values()))

    def _workload(self, students: Iterable[StudentConfig]) -> Workload:
        seen = (as_run(student, self.setting) for student in students)
        return workload(seen, self.shape, self.setting.batch, self.setting.seq_len)


def as_run(student: StudentConfig, setting: RuntimeSetting) -> StudentConfig:
    """A student as a runtime sees it: of floats, but where the runtime has weights of the student's own bits."""
    return student if FORMATS[setting.runtime].own_bits else replace(student, embedding_bits=None, layer_bits=None)


def at_setting(entries: Sequence[LatencyEntry], setting: RuntimeSetting) -> tuple[LatencyEntry, ...]:
    """Those entries that were measured at the setting's batch and length."""
    return tuple(entry for entry in entries if (entry.batch, entry.seq_len) == (setting.batch, setting.seq_len))


def check_peak_memory(budget: DeviceBudget, entries: Sequence[LatencyEntry]) -> None:
    """Refuse a memory budget where memory was not measured.

    Raises:
        ProfileError: it was not.
    """
    if budget.cost == "ram_mb" and any(entry.peak_memory_mb is None for entry in entries):
        raise ProfileError(
            f"budget {short(budget.text)}: got a latency table without peak memory; allowed: one with it; "
            "write it anew with: autodistil profile"
        )


Here = Callable[[str], DeviceFingerprint]
"""`cpu` or `cuda` -> the fingerprint of that device of this machine."""

ReadTable = Callable[[Path], LatencyTable]


@dataclass(frozen=True)
class DeviceTarget:
    """A device budget with all that it leaves open filled in."""

    budget: DeviceBudget
    setting: RuntimeSetting
    """`setting.device` is `cpu` or `cuda`."""
    table: LatencyTable | None
    """The one that was given; None: this machine is profiled."""
    here: bool
    """This machine is the device: finalists can be measured."""

    @property
    def key(self) -> str:
        """Name of what is measured for it in the run folder; budgets of one setting share it."""
        s = self.setting
        return f"{s.device}-{s.runtime}-threads{s.threads}-batch{s.batch}-seq{s.seq_len}"


def named_tables(options: Iterable[str]) -> dict[str, Path]:
    """Names and paths as typed, `laptop=table.json`.

    Raises:
        ConfigError: one is no such pair, or a name is taken.
    """
    tables: dict[str, Path] = {}
    for option in options:
        name, equals, path = (part.strip() for part in option.partition("="))
        if not (name and equals and path) or "," in name or name in DEVICES or name in tables:
            raise ConfigError(
                f"latency table: got {short(option)}; allowed: NAME=PATH with a name of its own, such as "
                "laptop=table.json; correct it"
            )
        tables[name] = Path(path).expanduser()
    return tables


def resolve_target(
    budget: DeviceBudget, tables: Mapping[str, Path], seq_len: int, here: Here, read: ReadTable, force: bool = False
) -> DeviceTarget:
    """Fill in what a budget leaves open.

    Args:
        budget: the budget.
        tables: names of tables, see `named_tables`.
        seq_len: the run's length.
        here: the devices of this machine.
        read: reads a table of the teacher's students.
        force: also take a table of another device.

    Raises:
        BudgetError: it names no device and no table, or a setting that the table has not.
        ProfileError: the table cannot be read, is of other students, or of another device and not forced.
    """
    if budget.measured_here:
        return DeviceTarget(budget, budget.setting(seq_len), None, here=True)
    table = read(_path(budget, tables))
    device = here(table.device.kind)
    check_device(table, device, force)
    return DeviceTarget(budget, _setting(budget, table, seq_len), table, here=table.device.id == device.id)


def _path(budget: DeviceBudget, tables: Mapping[str, Path]) -> Path:
    path = tables.get(budget.device, Path(budget.device).expanduser())
    if budget.device not in tables and not path.is_file():
        names = (*DEVICES, *tables)
        raise BudgetError(
            f"budget {short(budget.text)}: got the device {budget.device!r}{suggest(budget.device, names)}; "
            f"allowed: {', '.join(names)}, or the path of a latency table; "
            f"name one with --latency-table {budget.device}=table.json"
        )
    return path


def _setting(budget: DeviceBudget, table: LatencyTable, seq_len: int) -> RuntimeSetting:
    """The table's runtime and threads; its only length where it has neither the budget's nor the run's."""
    for name, asked, got in (("runtime", budget.runtime, table.runtime), ("threads", budget.threads, table.threads)):
        if asked not in (None, got):
            raise BudgetError(
                f"budget {short(budget.text)}: got {name}={asked}; allowed: {got}, which its latency table was "
                f"measured with; leave {name} out, or give another table"
            )
    lengths = sorted({entry.seq_len for entry in table.entries})
    length = budget.seq_len or (lengths[0] if len(lengths) == 1 else seq_len)
    setting = RuntimeSetting(table.device.kind, table.runtime, table.threads, budget.batch, length)
    if not at_setting(table.entries, setting):
        there = sorted({(entry.batch, entry.seq_len) for entry in table.entries})
        pairs = ", ".join(f"batch={batch},seq={length}" for batch, length in there[:8])
        raise BudgetError(
            f"budget {short(budget.text)}: got batch={budget.batch},seq={length}; allowed: {pairs or 'none'}, which "
            "its latency table has; correct it, or profile with more"
        )
    return setting
