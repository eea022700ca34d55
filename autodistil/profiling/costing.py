"""What all students of a space take on one device: measured where they were, else predicted, with both kept apart.

Students measured by design are stand-ins with untrained weights; a model is fitted to them. Finalists are measured
again as they are exported; they correct the model for those that are not measured yet. A budget counts as met only by
such a measurement (`measured`), never by a prediction.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from types import MappingProxyType

import pandas as pd

from autodistil.axes import short
from autodistil.costs import EncoderShape
from autodistil.costs.latency_model import Accuracy, CostModel, accuracy, fit_cost_model
from autodistil.costs.layer_features import Workload, workload
from autodistil.errors import ProfileError
from autodistil.profiling.budgets import DeviceBudget
from autodistil.profiling.setting import RuntimeSetting
from autodistil.profiling.table import LatencyEntry
from autodistil.spaces import Candidate, StudentConfig

UNITS: Mapping[str, str] = MappingProxyType({"ms": "ms", "ram_mb": "MB", "file_mb": "MB"})
"""Of the costs that are measured."""


def judged_value(entry: LatencyEntry, cost: str) -> float | None:
    """What a measurement counts as against a budget: of a time the upper end of its interval. None: not measured."""
    return {"ms": entry.high_ms, "ram_mb": entry.peak_memory_mb, "file_mb": entry.file_mb}[cost]


def typical_value(entry: LatencyEntry, cost: str) -> float | None:
    """What a model is fitted to: of a time the median. None: not measured."""
    return {"ms": entry.median_ms, "ram_mb": entry.peak_memory_mb, "file_mb": entry.file_mb}[cost]


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

    @cached_property
    def load(self) -> Workload:
        """All students at this batch and length."""
        return self._workload([candidate.config for candidate in self.candidates])

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
        known = {entry.student: judged_value(entry, self.budget.cost) for entry in self.finalists}
        measured = [known.get(candidate.config) for candidate in self.candidates]
        values = pd.Series(measured, dtype=float)
        cost = values.fillna(self.corrected.predict(self.load)["value"])
        table = pd.DataFrame({"cost": cost, **predicted, "measured": values})
        return table.set_index(pd.Index([candidate.id for candidate in self.candidates]))

    @property
    def columns(self) -> pd.DataFrame:
        """As columns of `candidates.csv`: `ms@laptop` (what counts), `ms@laptop predicted`, ..."""
        names = {name: f"{self.budget.column} {name}" for name in self.table if name != "cost"}
        return self.table.rename(columns={"cost": self.budget.column, **names})

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
        known = {entry.student: typical_value(entry, self.budget.cost) for entry in self.unseen}
        pairs = [
            (float(self.table.loc[candidate.id, "predicted"]), value)
            for candidate in self.candidates
            if (value := known.get(candidate.config)) is not None
        ]
        return accuracy(*zip(*pairs, strict=True)) if pairs else None

    def _fit(self, entries: Sequence[LatencyEntry]) -> CostModel:
        known = {entry.student: typical_value(entry, self.budget.cost) for entry in entries}
        values = {student: value for student, value in known.items() if value is not None}
        return fit_cost_model(self.budget.cost, self._workload(list(values)), list(values.values()))

    def _workload(self, students: Sequence[StudentConfig]) -> Workload:
        return workload(students, self.shape, self.setting.batch, self.setting.seq_len)


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
