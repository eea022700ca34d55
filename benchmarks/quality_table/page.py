"""The table as a page of Markdown: what was made how, the table, the goals, and what is not there and why."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import pandas as pd
import torch

from autodistil.config import rate_words
from autodistil.data.sources import DEFAULT_CORPUS
from autodistil.utils import installed_versions
from quality_table.bench import Bench
from quality_table.goals import Goal
from quality_table.layer_reduction import LEARNING_RATE
from quality_table.published import published_lines
from quality_table.rows import KINDS, Row
from quality_table.settings import Settings
from quality_table.table import markdown

_PACKAGES = ("autodistil", "torch", "transformers", "sentence-transformers", "scikit-learn", "scipy", "numpy")


def page(
    bench: Bench,
    rows: Sequence[Row],
    table: pd.DataFrame,
    tasks: Sequence[str],
    answers: Iterable[Goal],
    picture: Path | None,
) -> str:
    """The whole page."""
    shown = [] if picture is None else ["", f"![Quality over FLOPs]({picture.name})"]
    return "\n".join(
        [
            "# Students and controls at equal cost",
            "",
            *_conditions(bench, rows),
            *shown,
            "",
            *(markdown(table, tasks) if len(table) else ["No row is there yet."]),
            "",
            _READING,
            "",
            "## Goals",
            "",
            *(goal.line for goal in answers),
            "",
            "## Published",
            "",
            "Public results of models of about this size, trained by others on other text; none is measured here.",
            "",
            *published_lines(),
            "",
            "## Rows",
            "",
            *(f"- `{kind}`: {what}." for kind, what in KINDS.items()),
            *_not_there(rows),
            "",
        ]
    )


def _conditions(bench: Bench, rows: Sequence[Row]) -> Iterator[str]:
    settings, config = bench.settings, bench.run.config
    objective = bench.run.inputs.objective
    text = bench.text.description if bench.text else DEFAULT_CORPUS
    yield f"- Teacher: {Path(config.teacher).name}. Search space: {bench.run.inputs.space.name}."
    yield f"- Text: {text}."
    recipe = f"learning rate {rate_words(config.learning_rate)}, order {config.order}, layer map {config.layer_map}"
    yield f"- Our training: {_training_words(rows)}, objective {objective.name}, {recipe}, seed {config.seed}."
    rate = rate_words(settings.hand_made_rate or config.learning_rate)
    yield f"- Hand-made training: relation-kl alone, packed sequences of {config.seq_len}, learning rate {rate}."
    yield (
        "- Layer reduction: sentence-transformers' MSELoss, learning rate "
        f"{LEARNING_RATE:g}, of the choices of layers the one of the least squared error of held-out embeddings "
        "before training."
    )
    if settings.data is not None:
        yield f"- Probes: at most {settings.probe_rows:,} training rows, the penalty chosen on a fifth of them."
        yield f"- Fine-tuning: {_finetuning_words(settings)}."
    yield f"- {torch.get_num_threads()} threads; " + ", ".join(
        f"{name} {number}" for name, number in installed_versions(_PACKAGES).items()
    )


def _training_words(rows: Sequence[Row]) -> str:
    picks = [row.student for row in rows if row.spec.kind == "pick" and row.student]
    if not picks:
        return "not finished"
    compute = f"{picks[0]['training_flops'] / 1e12:,.3g} T"
    return f"{picks[0]['steps']:,} steps, {picks[0]['tokens']:,} tokens, {compute} multiply-adds for all SuperLMs"


def _finetuning_words(settings: Settings) -> str:
    train = f"at most {settings.max_train:,} training rows" if settings.max_train else "all training rows"
    scored = f"at most {settings.max_eval:,} scored rows" if settings.max_eval else "all rows of dev scored"
    epochs = f"{settings.epochs} epochs" if settings.epochs else "3 to 5 epochs"
    rates = ", ".join(f"{rate:g}" for rate in settings.learning_rates)
    return (
        f"mean of {settings.seeds} seeds, {train} of a task, {scored}, {epochs}, the best of the learning rates "
        f"{rates}; best epoch and rate are chosen on the scored rows, which flatters all rows alike"
    )


_READING = """FLOPs are multiply-adds, batch 1, at the training length. Qualities are points, ± the standard \
deviation over seeds, and in brackets the share of the teacher's value that is kept: Spearman for STS, nDCG@10 for \
retrieval, MAP for reranking, accuracy for linear probes, all on frozen embeddings; fine-tuned are F1 for MRPC, \
Matthews for CoLA, accuracy for the others. `stsb` is the development split, on which recipes are chosen: it is in no \
mean, `stsb-test` is. STS12 lacks one of its parts here, MSRvid (2,358 of 3,108 pairs), so its figures and the STS \
mean do not compare with published ones. A mean is there only where all its columns are. The held-out loss is \
relations plus in-batch similarities against the teacher; the search loss, where there is one, is what our search \
ranks by. Latency is the median of interleaved rounds with its quartiles, batch 1. Compute is multiply-adds of the \
training; for slices of a SuperLM it is that of all SuperLMs, for all budgets together."""


def _not_there(rows: Iterable[Row]) -> Iterator[str]:
    skipped = [row for row in rows if row.skipped]
    if skipped:
        yield from ("", "Not there:", "")
        yield from (f"- `{row.spec.id}`: {row.skipped}" for row in skipped)
