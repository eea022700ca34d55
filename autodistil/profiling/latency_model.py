"""What students cost on a device, predicted from few measurements: time, peak memory or file size, with an interval.

1. **Amounts** (`Workload`). A device does not run FLOPs, it runs kernels: each moves data, pads its matrices to whole
   tiles and has an overhead of its own. So a time is a sum of priced amounts: matrix products with widths rounded up to
   a tile, elements of softmax, GELU and LayerNorm, weights read once a forward, one overhead a layer and one a call (as
   nn-Meter, Zhang et al., MobiSys 2021, adds up kernels; here linear in what layers have together). With B sequences of
   S tokens, in the letters of `closed_form`.
2. **Prices** of the amounts: non-negative least squares (Lawson and Hanson, 1974) of relative errors, so that small
   students count as much as large ones. Prices extrapolate, and say where time goes.
3. **What prices leave over**, as a factor: a Gaussian process over the logarithms of the student's sizes. Near a
   measured student it follows the measurement, so a finalist that was measured corrects its neighbours too.
4. **The interval** is the jackknife's: each measured student is predicted from the others, and the 90 % quantile of
   those relative errors is laid around every prediction (Barber et al., Annals of Statistics 2021, without their refits
   at prediction; a measured student has its measurement instead of a prediction).
5. **Which students to measure** (`choose_students`): the ends of the space, then always the student that is farthest
   from those chosen (Kennard and Stone, Technometrics 1969). Distances are between logarithms of what costs are made
   of, each scaled to its range: ratios are what a cost follows. Prices are fitted at the ends of each axis and what
   they leave over in between, so the design spans the axes first. Deterministic.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.optimize import nnls
from scipy.stats import kendalltau
from sklearn.exceptions import ConvergenceWarning
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import RBF, ConstantKernel, WhiteKernel

from autodistil.costs.closed_form import parameters, size_columns, size_mb
from autodistil.errors import ProfileError
from autodistil.space.axes.bits import FLOAT_BITS
from autodistil.space.shape import EncoderShape
from autodistil.space.student import StudentConfig

TILE = 32
"""Widths are rounded up to this: two registers of 16 floats (AVX-512), a tile of tensor cores."""

COVERAGE = 0.9
"""Share of unmeasured students whose cost lies in the interval."""
FEWEST_MEASURED = 4
"""Measured students that a model needs."""

CHOSEN_SHARE = 0.1
"""Share of a space's students that are measured, within the two limits below."""
FEWEST_CHOSEN = 8
"""Measured in small spaces too (all of those that have no more): a model has about as many prices."""
MOST_CHOSEN = 64
"""Measured in huge spaces: more would teach the model little."""

_KERNEL = ConstantKernel(1e-3, (1e-6, 1e-1)) * RBF(1.0, (0.5, 8.0)) + WhiteKernel(1e-4, (1e-6, 1e-2))
"""Deviations of some percent, smooth over half of an octave or more, and noise of a median."""

Floats = NDArray[np.float64]

LAYER_TYPES = ("fixed", "layer overhead", "embeddings", "attention projections", "attention", "FFN", "norms")
"""What a report tells apart; every time feature belongs to one (`time_features`)."""


@dataclass(frozen=True)
class Workload:
    """Students of one teacher, run on `batch` sequences of `seq_len` tokens."""

    students: tuple[StudentConfig, ...]
    shape: EncoderShape
    batch: int
    seq_len: int

    @cached_property
    def time_features(self) -> pd.DataFrame:
        """(students, features): amounts whose prices are milliseconds. Columns are (layer type, amount)."""
        a = size_columns(self.students, self.shape)
        tokens, pairs = self.batch * self.seq_len, self.batch * self.seq_len**2
        hidden, head_size, (width, inner) = _tiled(a.hidden), _tiled(a.head_size), _tiled_layers(self.students)
        blocks, few = (a.attentions + a.ffns) / 2, a.layer_bits < FLOAT_BITS
        projections, of_ffn = tokens * 4 * hidden * width, tokens * 2 * hidden * inner
        amounts = {
            ("fixed", "calls"): np.ones(len(self.students)),
            ("layer overhead", "layers"): blocks,
            ("embeddings", "elements"): tokens * a.embedding,
            ("embeddings", "products"): a.factorised * tokens * _tiled(a.embedding) * hidden
            + a.pooler * hidden**2
            + self.batch * self.shape.patch_flops * hidden,
            ("attention projections", "products"): ~few * projections,
            ("attention projections", "products of integers"): few * projections,
            ("attention projections", "elements"): tokens * 4 * a.all_width,
            ("attention", "products"): pairs * 2 * a.all_heads * head_size,
            ("attention", "softmax"): pairs * a.all_heads,
            ("FFN", "products"): ~few * of_ffn,
            ("FFN", "products of integers"): few * of_ffn,
            ("FFN", "elements"): tokens * a.all_intermediate,
            ("norms", "elements"): blocks * tokens * a.hidden,
        }
        return pd.DataFrame(amounts, dtype=float)

    @cached_property
    def memory_features(self) -> pd.DataFrame:
        """(students, features): amounts whose prices are MB: weights, and what a forward keeps at its widest.

        A layer's widest moment is either its FFN or its attention scores with the queries, keys and values; runtimes
        free what was before.
        """
        a = size_columns(self.students, self.shape)
        tokens, scores = self.batch * self.seq_len, self.batch * self.seq_len**2 * a.heads
        amounts = {
            ("fixed", "runtime"): np.ones(len(self.students)),
            ("weights", "bytes"): np.where(
                self._quantised, size_mb(self.students, self.shape), 4e-6 * parameters(self.students, self.shape)
            ),
            ("activations", "FFN"): 4e-6 * tokens * (a.intermediate + 2 * a.hidden),
            ("activations", "attention"): 4e-6 * (2 * scores + tokens * (3 * a.width + a.hidden)),
        }
        return pd.DataFrame(amounts, dtype=float)

    @cached_property
    def file_features(self) -> pd.DataFrame:
        """(students, features): amounts whose prices are MB of the file that a runtime loads.

        Embeddings apart from matrices: int8 runtimes store them differently.
        """
        matrices = 4e-6 * parameters(self.students, self.shape, embeddings=False)
        whole, few = size_mb(self.students, self.shape), self._quantised
        amounts = {
            ("fixed", "graph"): np.ones(len(self.students)),
            ("fixed", "layers"): [student.num_layers for student in self.students],
            ("weights", "layers"): ~few * matrices,
            ("weights", "embeddings"): ~few * (whole - matrices),
            ("weights", "few bits"): few * whole,
        }
        return pd.DataFrame(amounts, dtype=float)

    @cached_property
    def _quantised(self) -> NDArray[np.bool_]:
        return np.array([student.quantised for student in self.students], dtype=bool)

    def features(self, cost: str) -> pd.DataFrame:
        """The features of `ms`, `ram_mb` or `file_mb`."""
        return {"ms": self.time_features, "ram_mb": self.memory_features, "file_mb": self.file_features}[cost]


def workload(students: Iterable[StudentConfig], shape: EncoderShape, batch: int, seq_len: int) -> Workload:
    """A workload of any sequence of students."""
    return Workload(tuple(students), shape, batch, seq_len)


def _tiled(sizes: NDArray[np.int64]) -> NDArray[np.int64]:
    """Sizes rounded up to whole tiles."""
    tiled: NDArray[np.int64] = -(-sizes // TILE) * TILE
    return tiled


def _tiled_layers(students: Iterable[StudentConfig]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Attention widths and intermediate sizes of students' layers together, those of each layer in whole tiles."""
    rows = [_tiled_sizes(student) for student in students]
    width, inner = np.array(rows, dtype=np.int64).reshape(-1, 2).T
    return width, inner


def _tiled_sizes(student: StudentConfig) -> tuple[int, int]:
    layers, times = (student.layers, 1) if student.layers else (student.own_layers[:1], student.num_layers)
    width, inner = (
        times * sum(-(-size // TILE) * TILE for size in sizes)
        for sizes in zip(*((heads * student.head_size, units) for heads, units in layers), strict=True)
    )
    return width, inner


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
    """Prices of the features of a `Workload`, never negative."""
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
    if len(known) < FEWEST_MEASURED or not (np.isfinite(known) & (known > 0)).all():
        raise ProfileError(
            f"cost model of {cost}: got {len(known)} measured students; allowed: at least {FEWEST_MEASURED}, "
            "each above zero; measure more with: autodistil profile"
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
    for i, student in enumerate(load.students):
        others = replace(load, students=(*load.students[:i], *load.students[i + 1 :]))
        prices, residuals = _fit(cost, others, np.delete(known, i), kernel)
        guesses[i] = _predict(prices, residuals, replace(load, students=(student,)), cost)[0]
    return guesses


def _fit(cost: str, load: Workload, known: Floats, kernel: Any = None) -> tuple[pd.Series, GaussianProcessRegressor]:
    """Prices, and the process of what they leave over; a given kernel is not fitted again."""
    features = load.features(cost)
    scale = features.max().replace(0, 1)  # amounts differ by many powers of ten
    rows = (features / scale).to_numpy() / known[:, None]  # relative errors
    prices = pd.Series(nnls(rows, np.ones(len(known)))[0], index=features.columns) / scale
    left = np.log(known / (features @ prices).to_numpy())
    optimizer = None if kernel else "fmin_l_bfgs_b"
    process = GaussianProcessRegressor(kernel or _KERNEL, alpha=1e-8, optimizer=optimizer, random_state=0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # a hyperparameter at its bound is no problem here
        process.fit(_coordinates(load.students), left)
    return prices, process


def _predict(prices: pd.Series, residuals: GaussianProcessRegressor, load: Workload, cost: str) -> Floats:
    priced = (load.features(cost) @ prices).to_numpy(dtype=float)
    predicted: Floats = priced * np.exp(residuals.predict(_coordinates(load.students)))
    return predicted


def _coordinates(students: Sequence[StudentConfig]) -> Floats:
    """(students, 6): binary logarithms of layers, hidden size, a mean layer's attention width and FFN size, bits."""
    sizes = [(s.num_layers, s.hidden_size, *_mean_layer(s), *_bits(s)) for s in students]
    return np.log2(np.array(sizes, dtype=float).reshape(-1, 6))


def _bits(student: StudentConfig) -> tuple[int, int]:
    return student.embedding_bits or FLOAT_BITS, student.layer_bits or FLOAT_BITS


def _mean_layer(student: StudentConfig) -> tuple[float, float]:
    """Attention width and intermediate size, the mean of the layers."""
    _, _, heads, inner = student.totals
    return heads * student.head_size / student.num_layers, inner / student.num_layers


def design_size(total: int) -> int:
    """Students to measure of `total`: a tenth, at least `FEWEST_CHOSEN` of those there are, at most `MOST_CHOSEN`."""
    return min(total, max(FEWEST_CHOSEN, min(MOST_CHOSEN, int(CHOSEN_SHARE * total))))


def choose_students(students: Sequence[StudentConfig], count: int | None = None) -> list[StudentConfig]:
    """The students to measure, the most telling first; any prefix is a design too.

    Args:
        students: the space; equal students count once, as do those that differ in their windows alone: runtimes compute
            the scores that they mask, so these cost the same.
        count: how many; `design_size` unless given.
    """
    by_sizes = {replace(student, window=None, global_every=None): student for student in sorted(students)}
    distinct = sorted(by_sizes.values(), key=lambda student: (student.encoder_weights, student))
    points = _points(distinct)
    wanted = min(len(distinct), design_size(len(distinct)) if count is None else count)
    chosen = [0, len(distinct) - 1][:wanted]
    nearest = _distances(points, chosen)
    while len(chosen) < wanted:
        nearest[chosen] = -1  # others may lie where one of them does
        chosen.append(int(nearest.argmax()))
        nearest = np.minimum(nearest, _distances(points, chosen[-1:]))
    return [distinct[i] for i in chosen]


def _points(students: Sequence[StudentConfig]) -> Floats:
    """(students, coordinates) scaled to [0, 1]; an axis that does not vary drops out."""
    rows = [
        (
            s.num_layers, s.hidden_size, _mean_layer(s)[0], s.head_size, _mean_layer(s)[1] / s.hidden_size,
            s.vocab_size or np.inf, s.embedding_size or s.hidden_size, *_bits(s),
        )
        for s in students
    ]  # fmt: skip
    sizes = np.array(rows, dtype=float).reshape(-1, 9)
    whole = np.isinf(sizes)
    sizes[whole] = 2 * np.max(np.where(whole, 1, sizes), initial=1)  # above every pruned vocabulary
    logs = np.log(sizes)
    spread = np.ptp(logs, axis=0)
    return (logs - logs.min(axis=0)) / np.where(spread > 0, spread, 1.0)


def _distances(points: Floats, chosen: Sequence[int]) -> Floats:
    """(students,): distance to the nearest of the chosen."""
    nearest: Floats = np.linalg.norm(points[:, None] - points[list(chosen)], axis=-1).min(axis=1)
    return nearest
