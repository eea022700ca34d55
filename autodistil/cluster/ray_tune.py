"""Trials of recipes on Ray Tune: random recipes, stopped early by asynchronous successive halving (ASHA).

ASHA (Li et al., arXiv 1810.05934) compares trials at the same numbers of steps (rungs) and lets the best third of each
rung go on, without waiting for the others. What it stops depends on who reported first, unless one trial runs at a
time.
"""

from __future__ import annotations

import os
import re
import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from autodistil.cluster.checkpoint_storage import Storage
from autodistil.cluster.ray_session import check_resources, ray_session
from autodistil.config import RunConfig
from autodistil.data.cache import default_cache_dir
from autodistil.errors import ClusterError, RunError
from autodistil.utils import Progress, write_text

if TYPE_CHECKING:
    from ray import tune

REDUCTION = 3
"""One trial of so many goes on after a rung."""
_MARK = "tune.mark"
"""File of a run folder that says whose its tuning is."""
_ENVIRONMENT = {
    "TUNE_DISABLE_SIGINT_HANDLER": "1",  # Ctrl-C ends the command as everywhere else
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "RAY_AIR_NEW_OUTPUT": "0",
    "RAY_CHDIR_TO_TRIAL_DIR": "0",  # paths of options are relative to where the command was given
}

Report = Callable[[dict[str, float]], None]
"""Told `step`, `loss` and whatever else is to be kept."""
Trial = Callable[[Mapping[str, Any], Report], None]
"""Trains with a recipe and reports at each rung."""


@dataclass(frozen=True)
class TuneSettings:
    """How much is tried."""

    samples: int
    """Recipes to try, the first of which is that of the options."""
    steps: int
    """Steps of a trial that is not stopped."""
    seed: int

    @property
    def rungs(self) -> tuple[int, ...]:
        """Steps at which trials are compared; the last is the end."""
        rungs = [self.steps]
        while len(rungs) < 3 and rungs[0] // REDUCTION >= 1:
            rungs.insert(0, rungs[0] // REDUCTION)
        return tuple(rungs)


def run_trials(
    trial: Trial,
    choices: Mapping[str, Any],
    first: Mapping[str, Any],
    settings: TuneSettings,
    config: RunConfig,
    folder: Path,
    resume: bool,
    progress: Progress,
) -> pd.DataFrame:
    """Try recipes, as many at a time as the configuration has workers (at least one).

    Args:
        trial: sent to the workers.
        choices: option -> its values (a list) or its range (low, high), drawn on a log scale.
        first: the recipe that is tried first.
        settings: how much is tried.
        config: says what each worker needs, and where Ray keeps the trials.
        folder: where it does unless `storage` says otherwise.
        resume: go on; trials that had not ended begin again.
        progress: told where the trials run.

    Returns:
        One row a trial: the recipe, `step` and `loss` of its last report, `error` where it failed.

    Raises:
        RunError: there are trials already, none to go on with, or those of somebody else.
        ConfigError: the storage cannot be reached.
        ClusterError: no cluster, or all trials failed.
    """
    os.environ.update(_ENVIRONMENT)
    Storage.reached(config.storage or str(folder.resolve()))
    from ray import tune

    path = f"{(config.storage or str(folder.resolve())).rstrip('/')}/tune"
    if tune.Tuner.can_restore(path) != resume:
        raise RunError(
            f"no tuning to resume in {path!r}; leave --resume out"
            if resume
            else f"{path!r} holds a tuning; go on with --resume, or give another --run folder"
        )
    check_own(folder, begun=resume)
    with ray_session(config.address, progress) as session:
        check_resources(session, config)

        def trainable(recipe: dict[str, Any]) -> None:
            trial(recipe, tune.report)

        resources = {"cpu": config.cpus_per_worker, "gpu": config.gpus_per_worker}
        sized = tune.with_resources(trainable, resources)
        with progress.track("trying recipes", 0):
            if resume:
                tuner = tune.Tuner.restore(path, sized, resume_unfinished=True, restart_errored=True)
            else:
                tuner = _new_tuner(sized, choices, first, settings, config, path)
            return _table(tuner.fit())


def check_own(folder: Path, begun: bool) -> None:
    """Mark a tuning as begun here, or refuse to go on with one that has no mark: what Ray keeps of it is a pickle.

    The mark is a random name, in the run folder and in the user's cache, which no folder that was received can know.

    Raises:
        RunError: a tuning that was begun elsewhere, which loading could let run anything.
    """
    kept, marks = folder / _MARK, default_cache_dir() / "tunings"
    if not begun:
        mark = secrets.token_hex(16)
        marks.mkdir(parents=True, exist_ok=True)
        (marks / mark).touch()
        write_text(kept, mark)
        return
    mark = kept.read_text(encoding="utf-8", errors="replace") if kept.is_file() else ""
    if not (re.fullmatch("[0-9a-f]{32}", mark) and (marks / mark).is_file()):
        raise RunError(
            f"the tuning in {str(folder)!r} was not begun here by you, and Ray would load a pickle to go on with it; "
            "begin another one: leave --resume out and give a new --run folder"
        )


def _new_tuner(
    trainable: Any,
    choices: Mapping[str, Any],
    first: Mapping[str, Any],
    settings: TuneSettings,
    config: RunConfig,
    path: str,
) -> tune.Tuner:
    from ray import tune
    from ray.tune.schedulers import ASHAScheduler
    from ray.tune.search.basic_variant import BasicVariantGenerator

    storage, _, name = path.rpartition("/")
    at_once = max(1, config.workers)
    search = BasicVariantGenerator([dict(first)], max_concurrent=at_once, random_state=settings.seed)
    scheduler = ASHAScheduler(
        time_attr="step", max_t=settings.steps, grace_period=settings.rungs[0], reduction_factor=REDUCTION
    )
    return tune.Tuner(
        trainable,
        param_space={
            option: tune.choice(values) if isinstance(values, list) else tune.loguniform(*values)
            for option, values in choices.items()
        },
        tune_config=tune.TuneConfig(
            metric="loss", mode="min", num_samples=settings.samples, search_alg=search, scheduler=scheduler
        ),
        run_config=tune.RunConfig(name=name, storage_path=storage, verbose=0),
    )


def _table(results: tune.ResultGrid) -> pd.DataFrame:
    rows = []
    for result in (results[i] for i in range(len(results))):
        measured = {name: (result.metrics or {}).get(name) for name in ("step", "loss", "seconds")}
        error = " ".join(str(result.error).split())[-200:] if result.error else ""
        rows.append({**(result.config or {}), **measured, "error": error})
    table = pd.DataFrame(rows)
    if table["step"].isna().all():
        raise ClusterError(f"all {len(table)} trials failed: {table['error'].iloc[0]}; mend it and go on with --resume")
    return table.sort_values(["step", "loss"], ascending=[False, True], kind="stable", ignore_index=True)
