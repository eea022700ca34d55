"""Every feasible student, in the order of what the budgets limit; the sampler of spaces that are small enough."""

from __future__ import annotations

from functools import cached_property
from typing import ClassVar

from autodistil.student_search.samplers.sampler import Sampler, View


class Exhaustive(Sampler):
    """Those that are wanted, from the cheapest up; expensive ones first where races are to stop many of them."""

    batch: ClassVar[int] = 64
    """So few that other drivers get some as well."""

    @cached_property
    def order(self) -> list[str]:
        """Ids."""
        costs = self.problem.budget_costs.assign(flops=self.problem.table["flops"])
        order = costs[self.problem.feasible].sort_values(list(costs.columns), kind="stable").index[: self.wanted]
        return list(order[::-1] if self.expensive_first else order)

    def propose(self, view: View) -> list[str]:
        """All that are left."""
        return [student_id for student_id in self.order if student_id not in view.losses.keys() | view.claimed]
