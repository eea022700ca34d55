"""Measured latency: all students in one process, their forwards interleaved, so that a disturbance hits all alike.

Batch 1, a fixed length and number of threads, eager PyTorch. The median of the rounds counts; the quartiles beside it
say how far it can be trusted on a machine that others use as well.
"""

from __future__ import annotations

import json
import os
import platform
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import PreTrainedModel

from autodistil.models.hf_folder import EvaluatedModel
from autodistil.utils import write_text

_WARM_UP = 3


def latencies(folders: Mapping[str, Path], file: Path, rounds: int, seq_len: int) -> dict[str, dict[str, float]]:
    """Milliseconds of the architectures, kept in `file` and measured again, all together, if one is missing.

    Args:
        folders: label of an architecture -> a model of it; equal architectures are equally fast.
        file: a JSON file.
        rounds: how often each is timed.
        seq_len: tokens.

    Returns:
        label -> `median_ms`, `q1_ms`, `q3_ms`.
    """
    conditions = {
        "rounds": rounds,
        "seq_len": seq_len,
        "batch": 1,
        "threads": torch.get_num_threads(),
        "machine": f"{platform.machine()}, {os.cpu_count()} CPUs",
        "torch": torch.__version__,
    }
    kept = _read(file, conditions)
    if set(folders) <= set(kept):
        return kept
    times = measure({label: _load(folder) for label, folder in folders.items()}, rounds, seq_len)
    found = {label: quartiles(values) for label, values in times.items()}
    write_text(file, json.dumps({**conditions, "latency": found}, indent=1) + "\n")
    return found


def _read(file: Path, conditions: Mapping[str, Any]) -> dict[str, dict[str, float]]:
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
        return dict(content.pop("latency")) if all(content[key] == conditions[key] for key in conditions) else {}
    except (FileNotFoundError, ValueError, KeyError, TypeError, AttributeError):
        return {}


def _load(folder: Path) -> PreTrainedModel:
    return EvaluatedModel.open(str(folder)).encoder(torch.device("cpu"))


@torch.inference_mode()
def measure(models: Mapping[str, PreTrainedModel], rounds: int, seq_len: int) -> dict[str, list[float]]:
    """Seconds of each model's forward in each round; the order within a round is random."""
    random = np.random.default_rng(0)
    ids = torch.from_numpy(random.integers(1_000, size=(1, seq_len)))
    times: dict[str, list[float]] = {label: [] for label in models}
    for step in range(_WARM_UP + rounds):
        for label in random.permutation(list(models)):
            begun = time.perf_counter()
            models[label](input_ids=ids)
            if step >= _WARM_UP:
                times[label].append(time.perf_counter() - begun)
    return times


def quartiles(seconds: list[float]) -> dict[str, float]:
    """In milliseconds."""
    low, median, high = (1e3 * value for value in np.quantile(seconds, [0.25, 0.5, 0.75]))
    return {"median_ms": round(median, 3), "q1_ms": round(low, 3), "q3_ms": round(high, 3)}
