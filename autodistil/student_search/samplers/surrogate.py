"""Search of large spaces by a surrogate: Bayesian optimisation where every cost is known beforehand.

Only the loss of a student must be found out; its costs are closed forms. A Gaussian process (Matern 5/2, a length scale
for each axis) predicts the losses of all students from those evaluated, and the next one is that with the largest
expected gain in hypervolume (EHVI; Emmerich et al. 2006). With costs known, that is a mean over cost limits: with f(x)
the lowest loss so far among students that cost at most x, and N(m, s) the prediction for a student of costs c,

    gain = mean over limits x >= c of  E max(0, f(x) - N(m, s)) = (f - m) Phi(z) + s phi(z),   z = (f - m) / s

over limits x spread evenly over the logarithms of the feasible costs (a Halton sequence), for any number of budgets.
The kernel is fitted again when a quarter more students are known, on those known then, never on later ones: the next
proposal depends on the seed and on what was evaluated, so that an interrupted search goes on as it would have.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import ClassVar

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.stats import norm, qmc
from sklearn.exceptions import ConvergenceWarning
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import ConstantKernel, Kernel, Matern, WhiteKernel

from autodistil.space.student import SIZES
from autodistil.student_search.pareto import scaled
from autodistil.student_search.samplers.sampler import Sampler, View

Floats = NDArray[np.float64]

FIRST = 8
"""Students evaluated before the first prediction: both ends of the costs, and others spread over them."""
LIMITS = 128
"""Cost limits over which the gain is averaged."""
POOL = 10_000
"""Students among which the next one is chosen; of larger spaces a random part, another one each time."""


@dataclass(frozen=True)
class Surrogate:
    """Proposes students of one search."""

    features: Floats
    """(students, features), each between 0 and 1."""
    costs: Floats
    """(students, costs), above zero."""
    seed: int

    @cached_property
    def log_costs(self) -> Floats:
        """Logarithms of the costs, each between 0 and 1."""
        return scaled(np.log(self.costs))

    @cached_property
    def first(self) -> tuple[int, ...]:
        """The students to begin with, one from each of `FIRST` parts of the costs, ends included."""
        random = np.random.default_rng([self.seed, 0])
        order = np.argsort(self.log_costs.sum(1), kind="stable")
        parts = np.array_split(order[1:-1], FIRST - 2) if len(order) > FIRST else [order[1:-1]]
        middle = [int(random.choice(part)) for part in parts if len(part)]
        return tuple(dict.fromkeys([int(order[0]), int(order[-1]), *random.permutation(middle).tolist()]))

    @cached_property
    def limits(self) -> Floats:
        """(limits, costs), even over the box of the costs."""
        return cost_limits(self.costs.shape[1], LIMITS)

    def propose(self, known: Sequence[int], losses: Sequence[float]) -> int:
        """The next student.

        Args:
            known: rows of the students evaluated so far, in the order of their evaluation; not all there are.
            losses: theirs.
        """
        fresh = [row for row in self.first if row not in set(known)]
        if fresh:
            return fresh[0]
        pool = np.setdiff1d(np.arange(len(self.features)), np.asarray(known))
        if len(pool) > POOL:
            pool = np.sort(np.random.default_rng([self.seed, len(known)]).choice(pool, POOL, replace=False))
        values, done = np.asarray(losses, dtype=float), np.asarray(known)
        values = np.where(np.isfinite(values), values, np.nanmax(values[np.isfinite(values)], initial=0.0))
        process = GaussianProcessRegressor(self._kernel(done, values), alpha=1e-8, optimizer=None, normalize_y=True)
        mean, deviation = process.fit(self.features[done], values).predict(self.features[pool], return_std=True)
        gain = expected_gain(self.limits, self.log_costs[done], values, self.log_costs[pool], mean, deviation)
        return int(pool[np.argmax(gain)])

    def _kernel(self, done: NDArray[np.int64], values: Floats) -> Kernel:
        """The kernel fitted to the students known when their number last grew by a quarter."""
        size = min(FIRST, len(done))
        while (larger := max(size + 2, int(size * 1.25))) <= len(done):
            size = larger
        return _fitted(self.features[done[:size]].tobytes(), values[:size].tobytes(), self.features.shape[1])


def cost_limits(axes: int, count: int) -> Floats:
    """Cost limits over which the gain is averaged, (limits, costs): even over the box of the costs."""
    return np.asarray(qmc.Halton(axes, scramble=False).random(count + 1)[1:])


def expected_gain(
    limits: Floats, costs: Floats, values: Floats, new_costs: Floats, mean: Floats, deviation: Floats | float
) -> Floats:
    """Expected gain in hypervolume of each new student, (new,).

    Args:
        limits: (limits, costs).
        costs: of the known students, (known, costs), each between 0 and 1.
        values: their losses, (known,).
        new_costs: of the new ones, (new, costs), as `costs`.
        mean: their expected losses, (new,).
        deviation: of each of these, (new,), or of all.
    """
    within = (costs[None] <= limits[:, None]).all(-1)
    lowest = np.where(within, values, values.max()).min(1)
    ahead = lowest - mean[:, None]
    deviations = np.broadcast_to(np.maximum(deviation, 1e-9), mean.shape)[:, None]
    z = ahead / deviations
    gain = ahead * norm.cdf(z) + deviations * norm.pdf(z)
    allowed = (new_costs[:, None] <= limits).all(-1)
    return np.asarray((gain * allowed).mean(1))


@lru_cache(maxsize=2)
def _fitted(features: bytes, losses: bytes, width: int) -> Kernel:
    """Length scales, variance and noise of highest marginal likelihood; cached, as many proposals need the same."""
    x, y = np.frombuffer(features).reshape(-1, width), np.frombuffer(losses)
    matern = Matern(np.ones(width), (0.05, 50.0), nu=2.5)
    kernel = ConstantKernel(1.0, (0.01, 100.0)) * matern + WhiteKernel(1e-4, (1e-8, 0.1))
    process = GaussianProcessRegressor(kernel, normalize_y=True)
    with warnings.catch_warnings():  # length scales at their bounds: axes that do not matter, or too few students yet
        warnings.simplefilter("ignore", ConvergenceWarning)
        return process.fit(x, y).kernel_


def student_features(table: pd.DataFrame) -> Floats:
    """What losses are predicted from: logarithms of the dimensions, and which sub-space.

    Args:
        table: one row a student: `sub_space` and numeric columns.
    """
    numbers = np.log(table.drop(columns="sub_space").to_numpy(dtype=float))
    which = pd.get_dummies(table["sub_space"], dtype=float).to_numpy()
    columns = np.concatenate([scaled(numbers), which], axis=1)
    return columns[:, np.ptp(columns, axis=0) > 0]


class GaussianProcess(Sampler):
    """The student that a surrogate proposes in view of all before it; those in flight are taken for bad ones.

    Constant liar (Ginsbourger et al. 2010): so batches spread, but it learns more the smaller they are.
    """

    batch: ClassVar[int] = 4
    listed: ClassVar[bool] = True

    @cached_property
    def surrogate(self) -> Surrogate:
        """The surrogate of the feasible students."""
        table = self.problem.table[self.problem.feasible]
        axes = [size for size in SIZES if size in table]
        costs = self.problem.budget_costs.loc[table.index].to_numpy(dtype=float)
        return Surrogate(student_features(table[["sub_space", *axes]]), costs, self.seed)

    def propose(self, view: View) -> list[str]:
        """One student."""
        feasible = self.problem.table.index[self.problem.feasible]
        losses = {**view.losses, **dict.fromkeys(sorted(view.claimed - view.losses.keys()), math.inf)}
        rows = [feasible.get_loc(student_id) for student_id in losses]
        return [feasible[self.surrogate.propose(rows, list(losses.values()))]]
