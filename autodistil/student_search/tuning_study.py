"""Trials of a tuning as a study of Optuna's: how much each option mattered, and its pictures."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import optuna
import pandas as pd
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution
from optuna.importance import FanovaImportanceEvaluator, get_param_importances

LEAST_TRIALS = 8
"""Of fewer, what an option decides is chance."""


def study_of(trials: pd.DataFrame, tried: Mapping[str, Any]) -> optuna.Study:
    """Trials with a loss as a study.

    Args:
        trials: a row a trial: the options of `tried`, and `loss`.
        tried: option -> its values (a list) or its range (low, high) on a log scale.
    """
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study()
    distributions: dict[str, BaseDistribution] = {
        option: FloatDistribution(values[0], values[1], log=True)
        if isinstance(values, tuple)
        else CategoricalDistribution([str(value) for value in values])
        for option, values in tried.items()
    }
    for row in trials[trials["loss"].map(math.isfinite)].to_dict("records"):
        params = {option: row[option] if isinstance(tried[option], tuple) else str(row[option]) for option in tried}
        study.add_trial(optuna.trial.create_trial(params=params, distributions=distributions, value=row["loss"]))
    return study


def importances(study: optuna.Study) -> dict[str, float]:
    """Option -> its share of the variance of the loss, largest first (fANOVA, Hutter et al. 2014).

    Optuna's default, PED-ANOVA, looks at the best tenth of the trials, which of so few is one or two.

    Returns:
        Shares that sum to 1; nothing where there are fewer than `LEAST_TRIALS` trials, or all are level.
    """
    if not _tells(study):
        return {}
    shares = get_param_importances(study, evaluator=FanovaImportanceEvaluator(seed=0))
    return {option: float(share) for option, share in shares.items()}


def _tells(study: optuna.Study) -> bool:
    """Whether there are enough trials, which are not all level."""
    return len(study.trials) >= LEAST_TRIALS and len({trial.value for trial in study.trials}) > 1


def figures(study: optuna.Study) -> list[Any]:
    """Plotly figures: what mattered, where enough trials can say, all trials side by side, and option by option."""
    from optuna.visualization import plot_parallel_coordinate, plot_param_importances, plot_slice

    if not study.trials:
        return []
    evaluator = FanovaImportanceEvaluator(seed=0)
    mattered = [plot_param_importances(study, evaluator=evaluator)] if _tells(study) else []
    return [*mattered, plot_parallel_coordinate(study), plot_slice(study)]
