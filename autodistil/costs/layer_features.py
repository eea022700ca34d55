"""What a student's cost on a device is made of: amounts of work and memory by layer type, whose prices are fitted.

A device does not run FLOPs, it runs kernels: each moves data, pads its matrices to whole tiles and has an overhead of
its own. So time is a sum of priced amounts: matrix products with widths rounded up to a tile, elements of softmax, GELU
and LayerNorm, weights read once a forward, one overhead a layer and one a call (as nn-Meter, Zhang et al., MobiSys
2021, adds up kernels; here linear, since a student's layers are all alike). Prices are never negative, and say where
time goes. With B sequences of S tokens, in the letters of `closed_form`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from autodistil.costs.closed_form import EncoderShape, encoder_axes, parameters, size_mb
from autodistil.spaces import StudentConfig

TILE = 32
"""Widths are rounded up to this: two registers of 16 floats (AVX-512), a tile of tensor cores."""

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
        a = encoder_axes(self.students, self.shape)
        tokens, pairs = self.batch * self.seq_len, self.batch * self.seq_len**2
        hidden, width, inner = (_tiled(values) for values in (a.hidden, a.width, a.intermediate))
        heads = np.array([student.num_heads for student in self.students])
        head_size = _tiled(np.array([student.head_size for student in self.students]))
        amounts = {
            ("fixed", "calls"): np.ones(len(self.students)),
            ("layer overhead", "layers"): a.layers,
            ("embeddings", "elements"): tokens * a.embedding,
            ("embeddings", "products"): a.factorised * tokens * _tiled(a.embedding) * hidden + a.pooler * hidden**2,
            ("attention projections", "products"): a.layers * tokens * 4 * hidden * width,
            ("attention projections", "elements"): a.layers * tokens * 4 * a.width,
            ("attention", "products"): a.layers * pairs * 2 * heads * head_size,
            ("attention", "softmax"): a.layers * pairs * heads,
            ("FFN", "products"): a.layers * tokens * 2 * hidden * inner,
            ("FFN", "elements"): a.layers * tokens * a.intermediate,
            ("norms", "elements"): a.layers * tokens * a.hidden,
        }
        return pd.DataFrame(amounts, dtype=float)

    @cached_property
    def memory_features(self) -> pd.DataFrame:
        """(students, features): amounts whose prices are MB: weights, and what a forward keeps at its widest.

        A layer's widest moment is either its FFN or its attention scores with the queries, keys and values; runtimes
        free what was before.
        """
        a = encoder_axes(self.students, self.shape)
        heads = np.array([student.num_heads for student in self.students])
        tokens, scores = self.batch * self.seq_len, self.batch * self.seq_len**2 * heads
        amounts = {
            ("fixed", "runtime"): np.ones(len(self.students)),
            ("weights", "bytes"): 4e-6 * parameters(self.students, self.shape),
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
        amounts = {
            ("fixed", "graph"): np.ones(len(self.students)),
            ("fixed", "layers"): [student.num_layers for student in self.students],
            ("weights", "layers"): matrices,
            ("weights", "embeddings"): size_mb(self.students, self.shape) - matrices,
        }
        return pd.DataFrame(amounts, dtype=float)

    def features(self, cost: str) -> pd.DataFrame:
        """The features of `ms`, `ram_mb` or `file_mb`."""
        return {"ms": self.time_features, "ram_mb": self.memory_features, "file_mb": self.file_features}[cost]


def workload(students: Sequence[StudentConfig], shape: EncoderShape, batch: int, seq_len: int) -> Workload:
    """A workload of any sequence of students."""
    return Workload(tuple(students), shape, batch, seq_len)


def _tiled(sizes: NDArray[np.int64]) -> NDArray[np.int64]:
    """Sizes rounded up to whole tiles."""
    tiled: NDArray[np.int64] = -(-sizes // TILE) * TILE
    return tiled
