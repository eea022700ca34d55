"""Every feasible student; the sampler of spaces that are small enough.

Where fewer are wanted than there are, these are spread over the costs: the dearest one, the cheapest, the one in the
middle, those in the middle between these, and so on. Fewer are a part of more, so that a search that is told to go on
scores nothing for nothing.
"""

from __future__ import annotations

from collections import deque
from functools import cached_property
from typing import ClassVar

import numpy as np

from autodistil.student_search.pareto import scaled
from autodistil.student_search.samplers.sampler import Sampler, View


class Exhaustive(Sampler):
    """Those that are wanted, spread over the costs; from the most expensive down where races are to stop many."""

    batch: ClassVar[int] = 64
    """So few that other drivers get some as well."""
    listed: ClassVar[bool] = True

    @cached_property
    def order(self) -> list[str]:
        """Ids."""
        costs = self.problem.budget_costs[self.problem.feasible]
        by_cost = costs.index[np.argsort(scaled(np.log(costs.to_numpy(dtype=float))).sum(1), kind="stable")]
        chosen = halving(len(by_cost))[: self.wanted]
        return list(by_cost[sorted(chosen, reverse=True) if self.expensive_first else chosen])

    def propose(self, view: View) -> list[str]:
        """All that are left."""
        return [student_id for student_id in self.order if student_id not in view.losses.keys() | view.claimed]


def halving(count: int) -> list[int]:
    """The numbers below `count`: the last, the first, then the middle of each gap that is left, wider ones first."""
    order, gaps = list(dict.fromkeys([count - 1, 0])), deque([(0, count - 1)])
    while gaps:
        low, high = gaps.popleft()
        middle = (low + high) // 2
        if low < middle:
            order.append(middle)
            gaps += [(low, middle), (middle, high)]
    return order
