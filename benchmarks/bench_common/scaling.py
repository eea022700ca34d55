"""What more workers would give: a model of a data-parallel step, filled with what was measured on one worker.

A step of N workers takes t(N) = compute + exposed communication + fixed, where

compute         of a worker's part of the batch: `step_seconds` where the batch grows with N (weak scaling); divided by
                N where it stays (strong scaling), but for `floor_seconds`, which a step takes with next to no text
communication   of a hierarchical ring all-reduce of G bytes: 2 (n-1)/n G / bandwidth over the n workers of a node,
                then 2 (m-1)/m G / bandwidth over m nodes, and 2 (n-1) + 2 (m-1) latencies (Thakur et al. 2005)
exposed         all-reduces of the K SuperLMs overlap with what the next one computes; the last one with nothing
fixed           Ray's part of a step, measured

Assumptions: nodes are alike and nobody is late, the bandwidths are what a large all-reduce reaches (not the printed
ones), reading text keeps up, and nothing is said about what a larger batch does to the students.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class MeasuredStep:
    """A step of one worker, and how it reaches others."""

    step_seconds: float
    """Of one worker, all SuperLMs, no communication."""
    samples: int
    """Texts of that step."""
    gradient_bytes: tuple[int, ...]
    """Of each SuperLM."""
    floor_seconds: float = 0.0
    """What a step takes with next to no text: launches, optimiser."""
    fixed_seconds: float = 0.0
    """Added to each step by what runs the workers."""
    per_node: int = 8
    """Workers of a node."""
    node_bandwidth: float = 300e9
    """Bytes a second that an all-reduce within a node moves for each worker."""
    network_bandwidth: float = 40e9
    """Bytes a second that an all-reduce moves between nodes, for each node."""
    latency_seconds: float = 10e-6
    """Of one hop."""


@dataclass(frozen=True)
class Prediction:
    """A step of so many workers."""

    workers: int
    batch: int
    """Texts of all workers together."""
    step_seconds: float
    communication_seconds: float
    """Of all all-reduces."""
    exposed_seconds: float
    """What of it nothing hides."""
    samples_per_second: float
    efficiency: float
    """Against as many times the rate of one worker."""


def predict(measured: MeasuredStep, workers: int, strong: bool = False) -> Prediction:
    """Predict a step.

    Args:
        measured: one worker.
        workers: N.
        strong: keep the batch of the one worker instead of giving each that many texts.
    """
    floor = min(measured.floor_seconds, measured.step_seconds)
    compute = floor + (measured.step_seconds - floor) / (workers if strong else 1)
    sums = [all_reduce_seconds(measured, size, workers) for size in measured.gradient_bytes]
    exposed = _exposed(sums, compute / len(sums))
    step = compute + exposed + (measured.fixed_seconds if workers > 1 else 0.0)
    batch = measured.samples * (1 if strong else workers)
    rate, alone = batch / step, measured.samples / measured.step_seconds
    return Prediction(workers, batch, step, sum(sums), exposed, rate, rate / (alone * workers))


def all_reduce_seconds(measured: MeasuredStep, size: int, workers: int) -> float:
    """Of an all-reduce of `size` bytes: rings within nodes, then between them."""
    inside = min(workers, measured.per_node)
    nodes = -(-workers // measured.per_node)
    hops = 2 * (inside - 1) + 2 * (nodes - 1)
    within = 2 * (inside - 1) / inside * size / measured.node_bandwidth
    between = 2 * (nodes - 1) / nodes * size / measured.network_bandwidth
    return within + between + hops * measured.latency_seconds


def _exposed(sums: list[float], compute_each: float) -> float:
    """Communication that ends after the last computation, where each sum starts when its SuperLM is done."""
    free = 0.0
    for done, seconds in enumerate(sums, start=1):
        free = max(free, done * compute_each) + seconds
    return free - len(sums) * compute_each


def sheet(measured: MeasuredStep, workers: Sequence[int] = (1, 8, 64, 512)) -> str:
    """Predictions as a Markdown table; a kept batch goes no further than one text a worker."""
    lines = [
        "| workers | batch | step | all-reduce | exposed | texts/s | efficiency |",
        "|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for strong in (False, True):
        for count in (n for n in workers if not strong or n <= measured.samples):
            row = predict(measured, count, strong)
            lines.append(
                f"| {row.workers} | {row.batch:,}{' (kept)' if strong else ''} | {row.step_seconds * 1e3:,.1f} ms "
                f"| {row.communication_seconds * 1e3:,.1f} ms | {row.exposed_seconds * 1e3:,.1f} ms "
                f"| {row.samples_per_second:,.0f} | {row.efficiency:.0%} |"
            )
    return "\n".join(lines)
