"""The teacher beside its students: a row of their tables, and the answer to a budget that it meets itself.

It is no student: nothing picks it, and it takes no rank. Its held-out loss is what it is measured against itself, 0 of
every distillation loss by definition; a perplexity is its own.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from autodistil.costs.budget import Budget
from autodistil.costs.units import cost_of, is_of_device, share
from autodistil.space.student import StudentConfig


@dataclass(frozen=True)
class TeacherRow:
    """The teacher as tables of students show it."""

    name: str
    config: StudentConfig | None = None
    """Its dimensions, where known."""
    axes: Mapping[str, int] = field(default_factory=dict)
    """Its sizes, those that are optional in a student among them."""
    costs: Mapping[str, float] = field(default_factory=dict)
    """By the columns of the candidates: closed forms, and those of budgets; of a device only where it was measured."""
    loss: float = 0.0
    """Held-out; NaN where it is not known."""

    def value(self, column: str) -> float:
        """A cost; NaN where it is not known."""
        return float(self.costs.get(column, math.nan))

    @property
    def loss_text(self) -> str:
        """The loss in a cell: `0` where it is that by definition."""
        return "–" if math.isnan(self.loss) else f"{self.loss:.4f}" if self.loss else "0"

    @property
    def row(self) -> dict[str, object]:
        """What it has of the columns of the candidates; its name in the place of an id, and no sub-space."""
        return {"id": self.name, **self.axes, **self.costs, "loss": self.loss}

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON: name, costs, and loss where it is known."""
        return {"name": self.name, "costs": dict(self.costs), "loss": None if math.isnan(self.loss) else self.loss}

    @classmethod
    def of_dict(cls, known: Mapping[str, Any]) -> TeacherRow:
        """From what `to_dict` gave."""
        return cls(known["name"], costs=known["costs"], loss=math.nan if known["loss"] is None else known["loss"])

    def meets(self, budgets: Sequence[Budget]) -> bool:
        """Whether it is known to meet all of them; no budget is no question that it could answer."""
        return bool(budgets) and all(self.value(budget.column) <= budget.limit for budget in budgets)

    def answer(self, budgets: Sequence[Budget]) -> str | None:
        """What to say of a search whose budgets it meets itself; None where it does not, or may not."""
        if not self.meets(budgets):
            return None
        costs = dict.fromkeys(cost_of(budget.column).text(self.value(budget.column)) for budget in budgets)
        return f"{self.name} meets {' and '.join(b.text for b in budgets)} already: {', '.join(costs)}."

    def not_measured(self, budgets: Sequence[Budget]) -> str | None:
        """What to say where it meets all budgets but those of devices that it was not measured on; else None."""
        unknown = [budget for budget in budgets if math.isnan(self.value(budget.column))]
        if not unknown or any(self.value(budget.column) > budget.limit for budget in budgets):
            return None
        return f"Whether {self.name} meets {' and '.join(b.text for b in unknown)} itself was not measured."

    def shares(self, costs: Mapping[str, float | None]) -> str:
        """A student's costs as shares of its own, such as `33 % of its FLOPs, 54 % of its parameters`.

        Args:
            costs: the student's, by column; of devices those count that were measured of both.
        """
        further = (c for c in costs if c in self.costs and (c == "kv_bytes" or "@" in c) and not c.startswith("flops"))
        columns = ["flops", "params", *further]
        parts = {column: share(costs.get(column) or math.nan, self.costs.get(column)) for column in columns}
        known = [c for c in columns if not is_of_device(c) or costs.get(f"{c} measured") is not None]
        return ", ".join(f"{parts[c]} of its {cost_of(c).words}" for c in known if parts[c] is not None)

    def saved_by(self, costs: pd.DataFrame, configs: Sequence[StudentConfig]) -> pd.Series:
        """Which students save anything of the costs that are looked at; those of its own dimensions never do.

        Args:
            costs: students (rows) by the columns of those costs.
            configs: the students.
        """
        more = pd.DataFrame({column: costs[column] >= self.value(column) for column in costs}, index=costs.index)
        return ~more.all(axis=1) & np.array([config != self.config for config in configs], dtype=bool)
