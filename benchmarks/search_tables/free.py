"""A space with free layers over one trained SuperLM: each layer is skipped or has an intermediate width of its own.

Thousands of students, each with its real held-out loss. autodistil's own spaces are homogeneous; such students exist in
this benchmark only: slices of the shared weights like any other, run by the same forward. The SuperLM was trained with
homogeneous students, which makes no difference to what is asked here: how few losses tell where the front is.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from autodistil.evaluation.heldout import HeldOut
from autodistil.models.superlm import SuperLM
from autodistil.run.run import Run
from autodistil.space.student import StudentConfig
from autodistil.utils import atomic_path

SUB_SPACE = "tiny"
SKIP = 0.0
RATIOS = (SKIP, 1.0, 4.0)
"""Choices of a layer: skipped, or the ratio of its intermediate width to the hidden size."""


@dataclass(frozen=True)
class FreeTable:
    """All students, their losses and costs."""

    choices: NDArray[np.int64]
    """(students, 1 + layers): rank of the hidden size, and of each layer's ratio in `RATIOS`."""
    losses: NDArray[np.float64]
    flops: NDArray[np.float64]
    """Multiply-adds of the layers at the run's length."""
    hidden: tuple[int, ...]

    def features(self) -> NDArray[np.float64]:
        """What a surrogate sees, between 0 and 1: the width, and for each layer whether it is there and how wide."""
        wide = np.log2(np.array([0.5, *RATIOS[1:]]))[self.choices[:, 1:]]
        wide = (wide - wide.min()) / np.ptp(wide)
        there = (self.choices[:, 1:] > 0).astype(float)
        return np.concatenate([self.choices[:, :1] / max(1, len(self.hidden) - 1), there, wide], axis=1)


def free_table(run: Run, path: Path, hidden: tuple[int, ...]) -> FreeTable:
    """The table of all students of such widths, computed once and kept at `path` (.npz)."""
    sub_space = run.inputs.space.sub_space(SUB_SPACE)
    depth = run.inputs.teacher.dims.num_layers
    combinations = product(range(len(hidden)), *[range(len(RATIOS))] * depth)
    choices = np.array([row for row in combinations if any(row[1:])])
    if not path.is_file():
        superlm = run.superlms.trained(sub_space.name)
        losses = [_loss(superlm, run.scorer.heldout(), hidden[row[0]], row[1:]) for row in choices]
        with atomic_path(path) as temporary, open(temporary, "wb") as file:
            np.savez(file, losses=np.array(losses))
    return FreeTable(choices, np.load(path)["losses"], _flops(choices, hidden, run.config.seq_len), hidden)


def _flops(choices: NDArray[np.int64], hidden: tuple[int, ...], seq_len: int) -> NDArray[np.float64]:
    """The closed form of `autodistil.costs`, layer by layer, without embeddings and pooler."""
    width = np.array(hidden, dtype=float)[choices[:, 0], None]
    ratios = np.array(RATIOS)[choices[:, 1:]]
    layer = seq_len * (4 * width**2 + 2 * ratios * width**2 + 10 * width) + 2 * seq_len**2 * width
    return np.asarray((layer * (ratios > 0)).sum(1))


def _loss(superlm: SuperLM, heldout: HeldOut, hidden: int, ranks: NDArray[np.int64]) -> float:
    """Loss on the first block of held-out text."""
    layers = [layer for layer, rank in enumerate(ranks) if rank]
    student, family = _widest(superlm, hidden, len(layers)), superlm.family
    weights = {}
    for name, value in superlm.weights(_widest(superlm, hidden, len(ranks))).items():
        layer = family.layer_of(name)
        if layer is None:
            weights[name] = value
        elif layer in layers:
            weights[family.rename_layer(name, layers.index(layer))] = value
    for place, layer in enumerate(layers):
        weights.update(_narrowed(weights, place, round(RATIOS[ranks[layer]] * hidden)))
    return float(heldout.losses_of(lambda batch: superlm.forward(student, batch, weights, output=True), 0).mean())


def _widest(superlm: SuperLM, hidden: int, depth: int) -> StudentConfig:
    size = superlm.sub_space.largest.head_size
    return replace(
        superlm.sub_space.largest,
        num_layers=depth,
        hidden_size=hidden,
        num_heads=hidden // size,
        intermediate_size=round(RATIOS[-1] * hidden),
    )


def _narrowed(weights: dict[str, Tensor], layer: int, width: int) -> dict[str, Tensor]:
    """The weights of BERT's MLP in one layer with a smaller intermediate width."""
    prefix = f"encoder.layer.{layer}"
    into, bias, out = (
        f"{prefix}.{name}" for name in ("intermediate.dense.weight", "intermediate.dense.bias", "output.dense.weight")
    )
    return {into: weights[into][:width], bias: weights[bias][:width], out: weights[out][:, :width]}
