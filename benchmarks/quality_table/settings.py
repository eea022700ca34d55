"""What decides the table. Rows, students and cells are named by hashes of what decides them, so nothing is stale."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

SCORED_PAIRS = ("stsb", "sts12", "sts13", "sts14", "sts15", "sts16")
SIMILARITY = ("stsb", "stsb-test", *SCORED_PAIRS[1:])
"""Tasks that are scored by the cosine of embeddings, without training; `-test` is the test split where dev is scored
under the plain name. Recipes are chosen on dev, so it is in no mean."""
PROBES = ("cr", "subj", "banking77", "ag_news_small")
"""Tasks of classes that a linear model of frozen embeddings is trained for."""
FINETUNED = ("sst2", "mrpc", "rte", "cola", "snli_small", "qnli_devsplit")
"""Tasks that are fine-tuned on."""


@dataclass(frozen=True)
class Settings:
    """The options of a table."""

    out: Path
    """Where rows and table go."""
    work: Path
    """Where SuperLMs and students go; may be deleted when the table is finished."""
    data: Path | None = None
    """Folder with `corpus/`, `glue/` and `extra/`; None for the default text and no labelled task."""
    budgets: tuple[float, ...] = (60.0, 40.0, 20.0, 10.0)
    """Percent of the teacher's FLOPs."""
    rows: tuple[str, ...] = ()
    """Kinds of rows to make."""
    tasks: tuple[str, ...] = ()
    """Of `SIMILARITY`, `PROBES` and `FINETUNED`."""
    collections: tuple[str, ...] = ()
    """Retrieval collections in BEIR's layout; those that name candidates are reranked."""
    training: Mapping[str, Any] = field(default_factory=dict)
    """Options of `RunConfig` for our own recipe: teacher, space, steps, ...; not the text."""
    hand_made_rate: float | None = None
    """Learning rate of the hand-made students; that of our recipe unless given."""
    text_mb: float = 48.0
    """Size of the text out of `data`, at most, in 1e6 bytes."""
    short_texts: bool = False
    """Half of the texts are short ones of labelled sets, without labels (corpus.py)."""
    proxy: str = "stsb"
    """Labelled task that the row `pick-proxy` searches by (its training split)."""
    seeds: int = 3
    """Of fine-tuning."""
    max_train: int | None = None
    """Training rows of fine-tuning at most."""
    probe_rows: int = 3000
    """Training rows of a probe at most."""
    max_eval: int | None = None
    """Scored rows of fine-tuning at most."""
    epochs: int | None = None
    """Of fine-tuning; more for small sets unless given."""
    learning_rates: tuple[float, ...] = (1e-4, 3e-4)
    """Grid of fine-tuning; the best by the mean over seeds counts."""
    threads: int | None = None
    """CPU threads, all cores unless given."""
    latency_rounds: int = 40
    """Rounds in which the forward of every student is timed once."""


def digest(value: Any) -> str:
    """Twelve hexadecimal digits that stand for plain values."""
    text = json.dumps(value, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def percent(budget: float) -> str:
    """A budget as it is written: `60`, `12.5`."""
    return f"{budget:g}"
