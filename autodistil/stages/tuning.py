"""Which recipe to train with: short trainings of all SuperLMs, compared by held-out loss after equal steps.

The objective's own loss is of no use here, as it changes with the relation heads. So every trial is judged by one
reference: the objective of the options with the relation heads that they stand for (those chosen for the space unless
given), over the smallest, the median and the largest student of each sub-space, on held-out text with the whole
vocabulary. Where objectives are tried too (Distiller, He et al. 2021, arXiv 2109.11105), none of them may judge: the
loss is then 1 - RSA, how far the students' embeddings are from ranking pairs of texts as the teacher's do. Steps are
equal, time is not: more random students make a step longer, which the table shows.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
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
from autodistil.objectives.objective import Objective, parse_objective
from autodistil.report.tuning import write_page
from autodistil.run.folder import RunFolder
from autodistil.run.inputs import RunInputs
from autodistil.run.run import Run
from autodistil.space.student import StudentConfig
from autodistil.stages.agreeing import Similarity
from autodistil.stages.training import recipe_of, trainer_of
from autodistil.student_search.tuning_study import figures, importances, study_of
from autodistil.training.trainer import StepMetrics, SuperLMTrainer
from autodistil.training.trainer import train as train_superlms
from autodistil.utils import atomic_path, weighted_sum, write_text

DEFAULT_STEPS = 90
"""Steps of a trial."""
_RATE_RANGE = (1 / 8, 4)
"""Learning rates to try, as multiples of that of the options."""
_HEAD_WIDTHS = (8, 64)
"""Widths of the teacher's relation heads to try."""
_RANDOM_STUDENTS = (0, 1, 2, 3)
_OBJECTIVES = "tuned_objectives"
_WEIGHTS = (1, 1 / 4, 4)
"""What the weights of an objective's further terms are multiplied by."""


@dataclass(frozen=True)
class Tuned:
    """What tuning found."""

    recipe: dict[str, Any]
    """Options of the trial with the lowest loss among those that took all steps."""
    trials: pd.DataFrame
    """One row a trial, best first: options, `step`, `loss`, `seconds`, `error`."""
    importances: Mapping[str, float]
    """Option -> how much of the difference between trials it decides, in all 1; empty where too few took all steps."""
    recipe_path: Path
    trials_path: Path
    page_path: Path


def tune_recipe(run: Run, samples: int, resume: bool = False, objectives: Sequence[str] = ()) -> Tuned:
    """Try recipes: the best becomes `recipe.yaml` of the run folder, the table `trials.csv`, a page `tuning.html`.

    Args:
        run: a new run, or one whose tuning goes on.
        samples: recipes to try.
        resume: go on with a tuning that was interrupted.
        objectives: to try beside that of the options; a tuning that goes on has those that it was begun with.

    Raises:
        ConfigError: the options have an assistant, or objectives are given and the teacher has no embeddings.
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
        objectives = folder.resolved().get(_OBJECTIVES, []) if resume else list(objectives)
        inputs.write_record(corpus_content=inputs.training_text.corpus.content_hash, **{_OBJECTIVES: objectives})
        _ = inputs.importance_order, inputs.heldout_texts, inputs.output_head  # trials read them in the run folder
        tried = choices(inputs, objectives)
        reference = None if "objective" in tried else inputs.objective
        if reference is None and Similarity(run).texts < 3:
            raise ConfigError(
                f"objectives are compared by embeddings, {inputs.teacher_name} gives none; tune with one objective"
            )
        trial = partial(train_trial, folder.path.resolve(), config.to_dict(), reference, settings)
        first = {option: values[0] for option, values in tried.items()} | {"learning_rate": _rate(inputs)}
        table = run_trials(trial, tried, first, settings, config, folder.path, resume, run.progress)
        return _keep(table, tried, folder)


def choices(inputs: RunInputs, objectives: Sequence[str] = ()) -> dict[str, Any]:
    """Option -> values to try, that of the options first, or a range.

    Raises:
        ConfigError: an objective is none.
    """
    config, objective, teacher = inputs.config, inputs.objective, inputs.teacher
    low, high = (_rate(inputs) * factor for factor in _RATE_RANGE)
    heads = relation_head_choices(teacher.kv_width(teacher.dims), inputs.relation_widths)
    tried: dict[str, Any] = {
        "learning_rate": (low, high),
        "layer_map": _first(config.layer_map, ["spread", "stride", "first", "influence"]),
        "random_students": _first(config.random_students, _RANDOM_STUDENTS),
    }
    if objectives:
        tried["objective"] = weighted_variants([objective.name, *objectives])
    if objective.needs_attention:
        tried["relation_heads"] = _first(objective.options.relation_heads, heads)
    return tried


def weighted_variants(objectives: Sequence[str]) -> list[str]:
    """Each objective, and where it is a sum, with its further terms at a quarter and at four times their weight."""
    found = []
    for first, *others in map(parse_objective, objectives):
        for times in _WEIGHTS if others else (1,):
            found.append(weighted_sum([first, *((weight * times, name) for weight, name in others)]))
    return list(dict.fromkeys(found))


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
    reference: Objective | None,
    settings: TuneSettings,
    recipe: Mapping[str, Any],
    report: Report,
) -> None:
    """Train all SuperLMs with a recipe and report the reference loss at each rung.

    Args:
        folder: the run folder, which every node sees.
        options: those of the run.
        reference: what all trials are judged by; None: by 1 - RSA.
        settings: steps and rungs.
        recipe: options of this trial.
        report: told step, loss and seconds of training so far.
    """
    run = Run(RunFolder(folder), layered(options, recipe))
    config, inputs = run.config, run.inputs
    torch.set_num_threads(config.cpus_per_worker)
    own, layer = recipe_of(config, settings.steps), config.teacher_layer
    trainers = [trainer_of(inputs, run.superlms.new(sub), own) for sub in inputs.space.sub_spaces]
    judge = _judge(run, reference)
    begun, measuring = time.perf_counter(), 0.0

    def on_step(rows: list[StepMetrics]) -> None:
        nonlocal measuring
        if rows[0].step in settings.rungs:
            start = time.perf_counter()
            loss = reference_loss(judge, trainers)
            measuring += time.perf_counter() - start
            report({"step": rows[0].step, "loss": loss, "seconds": time.perf_counter() - begun - measuring})

    train_superlms(trainers, inputs.ordered_teacher, inputs.text.micro_batches, on_step, layer)


def _judge(run: Run, reference: Objective | None) -> Callable[[SuperLM, StudentConfig], float]:
    """What gives a student the loss that recipes are compared by."""
    inputs = run.inputs
    if reference is None:
        similarity = Similarity(run)
        return lambda superlm, student: 1 - similarity.of(superlm, student).value
    texts, layer = inputs.heldout_texts, inputs.config.teacher_layer
    return HeldOut.build(inputs.ordered_teacher, texts, reference, layer, outputs=inputs.outputs_of(texts)).loss


def reference_loss(judge: Callable[[SuperLM, StudentConfig], float], trainers: list[SuperLMTrainer]) -> float:
    """Mean loss over `reference_students` of all SuperLMs."""
    losses = [judge(one.superlm, student) for one in trainers for student in reference_students(one.superlm)]
    return float(np.mean(losses))


def reference_students(superlm: SuperLM) -> list[StudentConfig]:
    """The smallest, the median and the largest student by parameters of the encoder."""
    order = sorted(superlm.sub_space.architectures, key=lambda student: student.encoder_weights)
    return [order[0], order[len(order) // 2], order[-1]]


def _keep(table: pd.DataFrame, tried: Mapping[str, Any], folder: RunFolder) -> Tuned:
    """Write the table, the winner and the page."""
    with atomic_path(folder.trials_path) as temporary:
        table.to_csv(temporary, index=False)
    ended = table[table["step"] == table["step"].max()]
    winner, study = ended.iloc[0], study_of(ended, tried)
    mattered = importances(study)
    write_page(figures(study), folder.tuning_path)
    recipe = {option: winner[option] for option in sorted(RECIPE_OPTIONS & set(table.columns))}
    recipe = {option: value.item() if isinstance(value, np.generic) else value for option, value in recipe.items()}
    text = (
        f"# The best of {len(table)} recipes: held-out loss {winner['loss']:.6g} after {int(winner['step'])} steps.\n"
        "# Train with it: autodistil train --recipe recipe.yaml --run NEW, or search --recipe recipe.yaml\n"
    )
    write_text(folder.recipe_path, text + yaml.safe_dump(recipe, sort_keys=True))
    return Tuned(recipe, table, mattered, folder.recipe_path, folder.trials_path, folder.tuning_path)
