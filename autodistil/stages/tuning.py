"""Which recipe to train with: short trainings of all SuperLMs, compared by held-out loss after equal steps.

The objective's own loss is of no use here, as it changes with the relation heads. So every trial is judged by one
reference: the objective of the options with the relation heads that they stand for (those chosen for the space unless
given), over the smallest, the median and the largest student of each sub-space, on held-out text with the whole
vocabulary. Steps are equal, time is not: more random students make a step longer, which the table shows.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
import yaml

from autodistil.cluster.ray_tune import Report, TuneSettings, run_trials
from autodistil.config import RECIPE_OPTIONS, layered
from autodistil.errors import ConfigError, RunError
from autodistil.evaluation.heldout import HeldOut
from autodistil.models.superlm import SuperLM
from autodistil.objectives.objective import Objective
from autodistil.run.folder import RunFolder
from autodistil.run.inputs import RunInputs
from autodistil.run.run import Run
from autodistil.space.student import StudentConfig
from autodistil.stages.training import recipe_of, trainer_of
from autodistil.training.trainer import StepMetrics, SuperLMTrainer
from autodistil.training.trainer import train as train_superlms
from autodistil.utils import atomic_path, write_text

DEFAULT_STEPS = 90
"""Steps of a trial."""
_RATE_RANGE = (1 / 8, 4)
"""Learning rates to try, as multiples of that of the options."""
_HEAD_WIDTHS = (8, 64)
"""Widths of the teacher's relation heads to try."""
_RANDOM_STUDENTS = (0, 1, 2, 3)


@dataclass(frozen=True)
class Tuned:
    """What tuning found."""

    recipe: dict[str, Any]
    """Options of the trial with the lowest loss among those that took all steps."""
    trials: pd.DataFrame
    """One row a trial, best first: options, `step`, `loss`, `seconds`, `error`."""
    recipe_path: Path
    trials_path: Path


def tune_recipe(run: Run, samples: int, resume: bool = False) -> Tuned:
    """Try recipes and write the best one to `recipe.yaml` of the run folder, the table to `trials.csv`.

    Raises:
        ConfigError: the options have an assistant.
        RunError: the folder is that of a search.
        AutodistilError: wrong input, or the cluster failed; what was done is kept.
    """
    config, inputs, folder = run.config, run.inputs, run.folder
    if config.assistant is not None:
        raise ConfigError("assistant is given, trials have the teacher alone; leave it out when tuning")
    if folder.superlms_path.exists() or folder.candidates_path.exists():
        raise RunError(f"run folder {str(folder.path)!r} is that of a training or search; give tune --run a new folder")
    settings = TuneSettings(samples, config.train_steps or DEFAULT_STEPS, config.seed)
    with folder.locked():
        inputs.write_record(corpus_content=inputs.training_text.corpus.content_hash)
        _ = inputs.importance_order, inputs.heldout_texts, inputs.output_head  # trials read them in the run folder
        trial = partial(train_trial, folder.path.resolve(), config.to_dict(), inputs.objective, settings)
        tried = choices(inputs)
        first = {option: values[0] for option, values in tried.items()} | {"learning_rate": _rate(inputs)}
        table = run_trials(trial, tried, first, settings, config, folder.path, resume, run.progress)
        return _keep(table, settings, folder)


def choices(inputs: RunInputs) -> dict[str, Any]:
    """Option -> values to try, that of the options first, or a range."""
    config, objective, teacher = inputs.config, inputs.objective, inputs.teacher
    low, high = (_rate(inputs) * factor for factor in _RATE_RANGE)
    heads = relation_head_choices(teacher.kv_width(teacher.dims), inputs.relation_widths)
    tried: dict[str, Any] = {
        "learning_rate": (low, high),
        "layer_map": _first(config.layer_map, ["spread", "stride", "first", "influence"]),
        "random_students": _first(config.random_students, _RANDOM_STUDENTS),
    }
    if objective.needs_attention:
        tried["relation_heads"] = _first(objective.options.relation_heads, heads)
    return tried


def _rate(inputs: RunInputs) -> float:
    """The peak learning rate of the options; where it goes by width, that of the widest students."""
    return recipe_of(inputs.config, 1).peak_rate(inputs.space.largest.hidden_size)


def relation_head_choices(teacher_width: int, widths: Iterable[int]) -> list[int]:
    """Numbers of relation heads that divide every width, at usual widths of a head."""
    common, (narrow, wide) = math.gcd(teacher_width, *widths), _HEAD_WIDTHS
    return [n for n in range(1, common + 1) if common % n == 0 and narrow <= teacher_width // n <= wide]


def _first(value: Any, others: Any) -> list[Any]:
    return list(dict.fromkeys([value, *others]))


def train_trial(
    folder: Path,
    options: Mapping[str, Any],
    reference: Objective,
    settings: TuneSettings,
    recipe: Mapping[str, Any],
    report: Report,
) -> None:
    """Train all SuperLMs with a recipe and report the reference loss at each rung.

    Args:
        folder: the run folder, which every node sees.
        options: those of the run.
        reference: what all trials are judged by.
        settings: steps and rungs.
        recipe: options of this trial.
        report: told step, loss and seconds of training so far.
    """
    run = Run(RunFolder(folder), layered(options, recipe))
    config, inputs = run.config, run.inputs
    torch.set_num_threads(config.cpus_per_worker)
    own, layer = recipe_of(config, settings.steps), config.teacher_layer
    trainers = [trainer_of(inputs, run.superlms.new(sub), own) for sub in inputs.space.sub_spaces]
    outputs = inputs.outputs_of(inputs.heldout_texts)
    heldout = HeldOut.build(inputs.ordered_teacher, inputs.heldout_texts, reference, layer, outputs=outputs)
    begun, measuring = time.perf_counter(), 0.0

    def on_step(rows: list[StepMetrics]) -> None:
        nonlocal measuring
        if rows[0].step in settings.rungs:
            start = time.perf_counter()
            loss = reference_loss(heldout, trainers)
            measuring += time.perf_counter() - start
            report({"step": rows[0].step, "loss": loss, "seconds": time.perf_counter() - begun - measuring})

    train_superlms(trainers, inputs.ordered_teacher, inputs.text.micro_batches, on_step, layer)


def reference_loss(heldout: HeldOut, trainers: list[SuperLMTrainer]) -> float:
    """Mean held-out loss over `reference_students` of all SuperLMs."""
    losses = [heldout.loss(one.superlm, student) for one in trainers for student in reference_students(one.superlm)]
    return float(np.mean(losses))


def reference_students(superlm: SuperLM) -> list[StudentConfig]:
    """The smallest, the median and the largest student by parameters of the encoder."""
    order = sorted(superlm.sub_space.architectures, key=lambda student: student.encoder_weights)
    return [order[0], order[len(order) // 2], order[-1]]


def _keep(table: pd.DataFrame, settings: TuneSettings, folder: RunFolder) -> Tuned:
    """Write the table and the winner."""
    with atomic_path(folder.trials_path) as temporary:
        table.to_csv(temporary, index=False)
    winner = table[table["step"] == table["step"].max()].iloc[0]
    recipe = {option: winner[option] for option in sorted(RECIPE_OPTIONS & set(table.columns))}
    recipe = {option: value.item() if isinstance(value, np.generic) else value for option, value in recipe.items()}
    text = (
        f"# The best of {len(table)} recipes: held-out loss {winner['loss']:.6g} after {int(winner['step'])} steps.\n"
        "# Train with it: autodistil train --recipe recipe.yaml --run NEW, or search --recipe recipe.yaml\n"
    )
    write_text(folder.recipe_path, text + yaml.safe_dump(recipe, sort_keys=True))
    return Tuned(recipe, table, folder.recipe_path, folder.trials_path)
