"""What is searched: students with their costs, and the hard budgets that they must meet."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

import pandas as pd

from autodistil.costs.budget import Budget
from autodistil.costs.closed_form import budget_cost, cost_table
from autodistil.costs.units import cost_of
from autodistil.errors import BudgetError
from autodistil.profiling.device_costs import DeviceCost
from autodistil.space.shape import EncoderShape
from autodistil.space.space import SearchSpace
from autodistil.space.student import Candidate
from autodistil.student_search.teacher_row import TeacherRow


@dataclass(frozen=True)
class SearchProblem:
    """What is searched: students with their costs, and the budgets they must meet."""

    space: SearchSpace
    shape: EncoderShape
    budgets: tuple[Budget, ...]
    seq_len: int
    """Length at which FLOPs are counted for budgets that name none."""
    device_costs: Mapping[str, DeviceCost] = field(default_factory=dict, compare=False)
    """What students take on the device of each budget that is one of a device, by its text."""
    excluded: frozenset[str] = frozenset()
    """Ids that are out whatever they cost."""
    lenient: bool = False
    """Students not measured yet meet the budget of a device where the lower end of their interval does: a prediction
    rules nobody out who may hold. Not of devices that cannot be measured here."""
    teacher: TeacherRow | None = field(default=None, compare=False)
    """What students are to be cheaper than; None: nobody asks."""
    found: tuple[Candidate, ...] = ()
    """Students that a search came upon in a space that does not list them."""

    @cached_property
    def students(self) -> tuple[Candidate, ...]:
        """Those that the space lists, and those that were found."""
        return (*self.space.candidates, *self.found)

    @cached_property
    def candidates(self) -> dict[str, Candidate]:
        """The students by id."""
        return {candidate.id: candidate for candidate in self.students}

    def including(self, ids: Iterable[str]) -> SearchProblem:
        """The problem with these students as well, where it lacks some.

        Raises:
            SpaceError: the space has no such student.
        """
        return self.having(self.space.candidate(one) for one in ids if one not in self.candidates)

    def having(self, students: Iterable[Candidate]) -> SearchProblem:
        """The problem with these students as well, where it lacks some."""
        found = tuple(one for one in dict.fromkeys(students) if one.id not in self.candidates)
        if not found:
            return self
        devices = {text: device.having(found) for text, device in self.device_costs.items()}
        return replace(self, found=(*self.found, *found), device_costs=devices)

    @cached_property
    def table(self) -> pd.DataFrame:
        """The costs of the students, by id."""
        return self.costs_of(self.students)

    def costs_of(self, students: Sequence[Candidate]) -> pd.DataFrame:
        """The cost table of some students, by id, with what budgets ask of other lengths and devices."""
        costs = cost_table(students, self.shape, self.seq_len).set_index("id", drop=False)
        configs = [candidate.config for candidate in students]
        for budget in self.budgets:
            if budget.column not in costs and budget.text not in self.device_costs:
                costs[budget.column] = budget_cost(budget, configs, self.shape, self.seq_len)
        return pd.concat([costs, *(device.columns.loc[costs.index] for device in self.device_costs.values())], axis=1)

    @cached_property
    def budget_costs(self) -> pd.DataFrame:
        """Per budget (columns: its text) the cost it limits, by id; FLOPs at `seq_len` where there is no budget.

        Columns are sorted: in which order budgets are given changes nothing of a search, nor of what a study holds.
        """
        students = [candidate.config for candidate in self.students]
        known = {text: device.table["cost"].to_numpy() for text, device in self.device_costs.items()}
        costs = {
            b.text: known[b.text] if b.text in known else budget_cost(b, students, self.shape, self.seq_len)
            for b in sorted(self.budgets, key=lambda budget: budget.text)
        }
        return pd.DataFrame(costs or {"flops": self.table["flops"].to_numpy(dtype=float)}, index=self.table.index)

    @cached_property
    def excess(self) -> pd.DataFrame:
        """Relative excess over each budget (columns: its text), feasible at <= 0."""
        measurable = {text: device for text, device in self.device_costs.items() if self.lenient and device.measurable}
        costs = self.budget_costs.assign(**{text: device.lowest for text, device in measurable.items()})
        columns = {budget.text: budget.excess(costs[budget.text]) for budget in self.budgets}
        return pd.DataFrame(columns, index=self.table.index)

    @cached_property
    def feasible(self) -> pd.Series:
        """Which students meet every budget and save something of the teacher's costs, by id."""
        return self._within & ~self._within.index.isin(self.no_gain)

    @property
    def costliest(self) -> Candidate:
        """The feasible student of the most FLOPs, as the best is among these; there is one."""
        return self.candidates[str(self.table.loc[self.feasible, "flops"].idxmax())]

    @cached_property
    def _within(self) -> pd.Series:
        return (self.excess <= 0).all(axis=1) & ~self.excess.index.isin(list(self.excluded))

    @cached_property
    def no_gain(self) -> list[str]:
        """Ids of the students within every budget that save nothing of any budgeted cost against the teacher.

        The teacher itself is to be preferred to them: they are not searched and never picked. None where nobody else
        is left.
        """
        if self.teacher is None:
            return []
        columns = dict.fromkeys(budget.column for budget in self.budgets) or ["flops"]
        configs = [candidate.config for candidate in self.students]
        saves = self.teacher.saved_by(self.table[[*columns]], configs)
        return [] if not (self._within & saves).any() else [str(i) for i in saves.index[self._within & ~saves]]

    @cached_property
    def possible(self) -> SearchProblem:
        """The problem as it is searched, before finalists are measured: who may hold is in (`lenient`)."""
        return replace(self, lenient=True) if self.device_costs else self

    @cached_property
    def unmeasured(self) -> frozenset[str]:
        """Ids of students without a measurement on some device of the budgets that this machine can measure."""
        tables = [device.table["measured"] for device in self.device_costs.values() if device.measurable]
        return frozenset(str(student_id) for table in tables for student_id in table.index[table.isna()])

    def measured_only(self) -> SearchProblem:
        """The problem in which only a measurement meets a budget of a device; the same where none was measured."""
        holding = self.feasible & ~self.feasible.index.isin(list(self.unmeasured))
        return replace(self, excluded=self.unmeasured) if holding.any() else self

    @property
    def revision(self) -> list[str]:
        """Names the device costs, which measurements correct; none where all costs are closed forms."""
        if not self.device_costs:
            return []
        digest = hashlib.sha256(self.budget_costs.to_numpy().tobytes() + repr(sorted(self.excluded)).encode())
        return [digest.hexdigest()[:8]]

    def check_feasible(self) -> None:
        """Refuse budgets that no student meets.

        Raises:
            BudgetError: names the student that comes closest.
        """
        if self.feasible.any():
            return
        closest = self.excess.max(axis=1).idxmin()
        costs = ", ".join(
            f"{text} -> {cost_of(budget.cost).text(float(self.budget_costs.loc[closest, text]), digits=4)}"
            for text, budget in zip(self.excess.columns, self.budgets, strict=True)
        )
        raise BudgetError(
            f"no student of space {self.space.name!r} meets {' and '.join(self.excess.columns)}; "
            f"the cheapest is {closest} ({costs}); raise the budget, or give --space smaller students"
        )

    @property
    def limiting(self) -> str:
        """The column of `budget_costs` that limits the search most: of the budget that keeps most students out."""
        over = (self.excess > 0).sum().sort_index()
        return str(over.idxmax()) if len(over) else str(self.budget_costs.columns[0])

    def binding(self) -> dict[str, bool]:
        """Budget text -> whether it keeps any student out."""
        return {text: bool((self.excess[text] > 0).any()) for text in self.excess.columns}
