"""What a student costs on a device, predicted from few measurements: time, peak memory or file size, with an interval.

1. Prices of the amounts in `layer_features`: non-negative least squares (Lawson and Hanson, 1974) of relative errors,
   so that small students count as much as large ones. Prices extrapolate, and say where time goes.
2. What prices leave over, as a factor: a Gaussian process over the logarithms of the student's sizes. Near a measured
   student it follows the measurement, so a finalist that was measured corrects its neighbours too.
3. The interval is the jackknife's: each measured student is predicted from the others, and the 90 % quantile of those
   relative errors is laid around every prediction (Barber et al., Annals of Statistics 2021, without their refits at
   prediction; a measured student has its measurement instead of a prediction).
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.optimize import nnls
from scipy.stats import kendalltau
from sklearn.exceptions import ConvergenceWarning
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import RBF, ConstantKernel, WhiteKernel

from autodistil.costs.layer_features import Workload
from autodistil.errors import ProfileError
from autodistil.spaces import StudentConfig

COVERAGE = 0.9
"""Share of unmeasured students whose cost lies in the interval."""
LEAST = 4
"""Measured students that a model needs."""

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Accuracy:
    """How well students are predicted that the model did not see."""

    mape: float
    """Mean absolute percentage error, as a share."""
    tau: float
    """Kendall's tau of predicted and measured; NaN for one student."""
    n: int

    def __str__(self) -> str:
        return f"mean error {100 * self.mape:.1f} %, Kendall tau {self.tau:.2f} (n = {self.n})"


@dataclass(frozen=True)
class CostModel:
    """A fitted model of one cost of one workload."""

    cost: str
    """`ms`, `ram_mb` or `file_mb`."""
    prices: pd.Series
    """Of the features of `layer_features`, never negative."""
    residuals: GaussianProcessRegressor
    """Logarithm of measured over priced, over `_coordinates`."""
    spread: float
    """Half of the interval, as the logarithm of a factor."""
    left_out: tuple[float, ...]
    """Each measured student, predicted from the others."""
    cross_validated: Accuracy
    """How good these predictions are."""

    def predict(self, load: Workload) -> pd.DataFrame:
        """`value`, `low` and `high`, one row a student of a workload of the same batch and length."""
        value = _predict(self.prices, self.residuals, load, self.cost)
        factor = math.exp(self.spread)
        return pd.DataFrame({"value": value, "low": value / factor, "high": value * factor})

    def shares(self, load: Workload) -> pd.DataFrame:
        """(students, layer types): where the cost goes, in its unit; a row adds up to the prediction."""
        parts = (load.features(self.cost) * self.prices).T.groupby(level=0, sort=False).sum().T
        return parts.mul(self.predict(load)["value"] / parts.sum(axis=1), axis=0)


def fit_cost_model(cost: str, load: Workload, values: Sequence[float]) -> CostModel:
    """Fit measured students.

    Args:
        cost: `ms`, `ram_mb` or `file_mb`.
        load: the measured students.
        values: what they cost, in the cost's unit.

    Raises:
        ProfileError: they are too few, or a value is not above zero.
    """
    known = np.asarray(values, dtype=float)
    if len(known) < LEAST or not (np.isfinite(known) & (known > 0)).all():
        raise ProfileError(
            f"cost model of {cost}: got {len(known)} measured students; allowed: at least {LEAST}, each above zero; "
            "measure more with: autodistil profile"
        )
    prices, residuals = _fit(cost, load, known)
    guesses = _left_out(cost, load, known, residuals.kernel_)
    errors = np.sort(np.abs(np.log(guesses / known)))
    spread = errors[min(len(errors) - 1, math.ceil(COVERAGE * (len(errors) + 1)) - 1)]
    return CostModel(cost, prices, residuals, float(spread), tuple(guesses.tolist()), accuracy(guesses, known))


def accuracy(predicted: Sequence[float] | Floats, measured: Sequence[float] | Floats) -> Accuracy:
    """Mean absolute percentage error and Kendall's tau."""
    guesses, known = np.asarray(predicted, dtype=float), np.asarray(measured, dtype=float)
    tau = float(kendalltau(guesses, known).statistic) if len(known) > 1 else math.nan
    return Accuracy(float(np.mean(np.abs(guesses / known - 1))), tau, len(known))


def _left_out(cost: str, load: Workload, known: Floats, kernel: Any) -> Floats:
    """Each student predicted from the others; hyperparameters are those of all."""
    guesses = np.empty_like(known)
    for i in range(len(known)):
        rest = np.arange(len(known)) != i
        prices, residuals = _fit(cost, _part(load, rest), known[rest], kernel)
        guesses[i] = _predict(prices, residuals, _part(load, ~rest), cost)[0]
    return guesses


def _part(load: Workload, chosen: NDArray[np.bool_]) -> Workload:
    students = tuple(student for student, take in zip(load.students, chosen, strict=True) if take)
    return Workload(students, load.shape, load.batch, load.seq_len)


def _fit(cost: str, load: Workload, known: Floats, kernel: Any = None) -> tuple[pd.Series, GaussianProcessRegressor]:
    """Prices, and the process of what they leave over; a given kernel is not fitted again."""
    features = load.features(cost)
    prices = _prices(features, known)
    left = np.log(known / (features @ prices).to_numpy())
    process = GaussianProcessRegressor(
        kernel or _kernel(), alpha=1e-8, optimizer=None if kernel else "fmin_l_bfgs_b", random_state=0
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # a hyperparameter at its bound is no problem here
        process.fit(_coordinates(load.students), left)
    return prices, process


def _prices(features: pd.DataFrame, known: Floats) -> pd.Series:
    """Non-negative least squares of relative errors; amounts are scaled, since they differ by many powers of ten."""
    scale = features.max().replace(0, 1)
    rows = (features / scale).to_numpy() / known[:, None]
    solution, _ = nnls(rows, np.ones(len(known)))
    return pd.Series(solution, index=features.columns) / scale


def _predict(prices: pd.Series, residuals: GaussianProcessRegressor, load: Workload, cost: str) -> Floats:
    priced = (load.features(cost) @ prices).to_numpy(dtype=float)
    predicted: Floats = priced * np.exp(residuals.predict(_coordinates(load.students)))
    return predicted


def _coordinates(students: Sequence[StudentConfig]) -> Floats:
    """(students, 4): binary logarithms of layers, hidden size, attention width and intermediate size."""
    sizes = [(s.num_layers, s.hidden_size, s.attention_width, s.intermediate_size) for s in students]
    return np.log2(np.array(sizes, dtype=float).reshape(-1, 4))


def _kernel() -> Any:
    """Deviations of some percent, smooth over half of an octave or more, and noise of a median."""
    smooth = ConstantKernel(1e-3, (1e-6, 1e-1)) * RBF(1.0, (0.5, 8.0))
    return smooth + WhiteKernel(1e-4, (1e-6, 1e-2))
