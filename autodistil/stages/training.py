"""Stage one: train the SuperLMs that are not trained yet, side by side, with checkpoints.

SuperLMs trained apart from those of the run: students alone, to refine them or to compare with them.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

from autodistil.config import RunConfig
from autodistil.errors import ConfigError, RunError
from autodistil.models.superlm import SuperLM
from autodistil.run.run import RunContext
from autodistil.space.space import SubSpace
from autodistil.training.checkpoint import CHECKPOINT, restore_checkpoint, save_checkpoint
from autodistil.training.metrics import MetricsLog
from autodistil.training.recipe import Recipe
from autodistil.training.trainer import StepMetrics, SuperLMTrainer, Targets, train_step
from autodistil.training.trainer import train as train_superlms
from autodistil.utils import stop_on_interrupt

DEFAULT_STEPS = 24
"""A quick look: some minutes on two cores with the default teacher. Real students want hours."""

_UNBOUNDED = 1_000_000
"""Steps of a training that is only timed."""


def train_missing(context: RunContext, sub_spaces: Sequence[SubSpace], resume: bool) -> None:
    """Train those of `sub_spaces` that are not trained yet, side by side.

    Those that an assistant teaches come after it; it is trained first, whether it is one of them or not.
    """
    sub_spaces = context.with_assistant(sub_spaces)
    missing = [sub for sub in sub_spaces if not context.is_trained(sub)]
    trained = [sub.name for sub in sub_spaces if sub not in missing]
    if trained:
        context.progress.say(f"reusing trained SuperLMs: {', '.join(trained)}")
    if not missing:
        context.record()
        return
    names_missing = [sub.name for sub in missing]
    another = ", or give another --run folder"
    check_interrupted(context, names_missing, context.folder.superlm_folder, resume, otherwise=another)
    recipe = _recipe(context, missing)
    if context.config.workers:
        _train_on_cluster(context, missing, recipe)
        return
    trainers = [SuperLMTrainer(context.new_superlm(sub), recipe, context.objective) for sub in missing]
    done = {
        trainer.name: restore_checkpoint(trainer, context.folder.superlm_folder(trainer.name)) for trainer in trainers
    }
    names = ", ".join(f"{name} (from step {steps})" if steps else name for name, steps in done.items())
    context.progress.say(
        f"training SuperLMs: {names}; {recipe.steps} steps of {context.text.batch_size} {context.text.unit}"
    )
    metrics = MetricsLog(
        context.folder.metrics_path, done, context.folder.path / "tensorboard", context.tracker.log_step
    )
    try:
        for group in _rounds(context, trainers):
            train_with_checkpoints(context, group, context.folder.superlm_folder, metrics.append)
    finally:
        metrics.close()


def _train_on_cluster(context: RunContext, missing: Sequence[SubSpace], recipe: Recipe) -> None:
    """Train on Ray, those that the assistant teaches when it is trained."""
    from autodistil.cluster.ray_train import train_on_cluster  # who has one machine needs no Ray

    groups = (
        [sub for sub in missing if (sub.name in context.taught) == by_assistant] for by_assistant in (False, True)
    )
    for group in groups:
        if group:
            train_on_cluster(context, group, recipe)


def _rounds(context: RunContext, trainers: Sequence[SuperLMTrainer]) -> Iterator[list[SuperLMTrainer]]:
    """SuperLMs that are trained side by side: those of the teacher, and when they are done, those of the assistant."""
    for group in _by_source(context, trainers):
        if group[0].name in context.taught:
            names = ", ".join(trainer.name for trainer in group)
            foreign = context.assistant_model is not None and context.objective.compares_dimensions
            context.progress.say(f"assistant {context.config.assistant} teaches {names}{_FOREIGN if foreign else ''}")
            for trainer in group:
                trainer.targets = context.targets_for(trainer.name)
        yield group


def _by_source(context: RunContext, trainers: Sequence[SuperLMTrainer]) -> list[list[SuperLMTrainer]]:
    """Those that the teacher teaches, then those of the assistant; no empty group."""
    groups = ([t for t in trainers if (t.name in context.taught) == by_assistant] for by_assistant in (False, True))
    return [group for group in groups if group]


_FOREIGN = (
    ", who are compared with it dimension by dimension: right where it is a student of this teacher in this importance "
    "order, wrong for any other model (use relation-kl+embedding-similarity there)"
)


def train_with_checkpoints(
    context: RunContext,
    trainers: Sequence[SuperLMTrainer],
    folder_of: Callable[[str], Path],
    record: Callable[[list[StepMetrics]], None],
    first_step: int = 0,
) -> None:
    """Train to the end or to an interrupt, saving now and then, when a SuperLM is finished, and when stopped.

    Args:
        context: an open run.
        trainers: SuperLMs with names of their own.
        folder_of: name -> folder of the checkpoint.
        record: called with the metrics of each step.
        first_step: step of the run's text that the first one reads.
    """
    last_save = time.monotonic()
    total = sum(trainer.recipe.steps - trainer.steps_done for trainer in trainers)
    with stop_on_interrupt() as stop, context.progress.track("training", total) as advance:

        def on_step(rows: list[StepMetrics]) -> None:
            nonlocal last_save
            record(rows)
            advance(len(rows), "  ".join(f"{row.sub_space} {row.loss:.3f}" for row in rows))
            due = time.monotonic() - last_save >= context.config.checkpoint_seconds
            for trainer in trainers:
                if trainer.name in {row.sub_space for row in rows} and (due or trainer.finished or stop.requested):
                    save_checkpoint(trainer, folder_of(trainer.name))
            last_save = time.monotonic() if due else last_save

        train_superlms(
            trainers,
            context.ordered_teacher,
            lambda step: context.text.micro_batches(first_step + step),
            on_step,
            context.config.teacher_layer,
            lambda: stop.requested,
        )
    if stop.requested:
        raise KeyboardInterrupt


def _recipe(context: RunContext, missing: Sequence[SubSpace]) -> Recipe:
    """The training recipe; its steps are decided once and recorded."""
    config = context.config
    steps = context.resolved().get("train_steps") or config.train_steps
    text = context.training_text  # refuses another text before the record would name it
    if steps is None and config.train_minutes is not None:
        if config.workers:
            raise ConfigError(
                f"train_minutes = {config.train_minutes:g} cannot be timed here for {config.workers} workers; "
                "give --train-steps"
            )
        context.record()  # timing leaves files in the folder, which is a run's from here on
        steps = _steps_in(context, missing, recipe_of(config, _UNBOUNDED), config.train_minutes * 60)
    recipe = recipe_of(config, steps or DEFAULT_STEPS)
    context.record(train_steps=recipe.steps, corpus_content=text.corpus.content_hash, tokens_a_step=text.tokens_a_step)
    return recipe


def recipe_of(config: RunConfig, steps: int) -> Recipe:
    """The recipe of a configuration over so many steps."""
    return Recipe(steps, **{name: getattr(config, name) for name in Recipe.__dataclass_fields__ if name != "steps"})


def _steps_in(context: RunContext, missing: Sequence[SubSpace], recipe: Recipe, seconds: float) -> int:
    """How many steps fit into a time, by timing some on SuperLMs that are thrown away."""
    trainers = [SuperLMTrainer(context.new_superlm(sub), recipe, context.objective) for sub in missing]
    # A forward of the teacher stands in for one of the assistant, which is not there yet and takes no longer.
    rounds = _by_source(context, trainers)
    begun = time.perf_counter()
    timed: list[float] = []
    while len(timed) < 4 or (len(timed) < 12 and time.perf_counter() - begun < 0.03 * seconds):
        start = time.perf_counter()
        for group in rounds:
            batches = context.text.micro_batches(len(timed))
            train_step(group, context.ordered_teacher, batches, context.config.teacher_layer)
        timed.append(time.perf_counter() - start)
    step_seconds = sum(timed[1:]) / len(timed[1:])  # the first one warms up
    steps = max(1, int((seconds - (time.perf_counter() - begun)) / step_seconds))
    context.progress.say(f"a step takes {step_seconds:.2f} s: {steps} steps in {seconds / 60:g} minutes")
    return steps


def check_interrupted(
    context: RunContext,
    names: Iterable[str],
    folder_of: Callable[[str], Path],
    resume: bool,
    doing: str = "training",
    otherwise: str = "",
) -> None:
    """Refuse to begin where a training was interrupted, unless asked to go on with it.

    Raises:
        RunError: names what was interrupted; `doing` and `otherwise` word it.
    """
    half = [name for name in names if (folder_of(name) / CHECKPOINT).is_file()]
    if half and not resume:
        raise RunError(
            f"{doing} of {', '.join(half)} in {str(context.folder.path)!r} was interrupted; "
            f"go on with --resume{otherwise}"
        )


def train_apart(
    context: RunContext,
    superlms: Iterable[SuperLM],
    recipe: Recipe,
    folder_of: Callable[[str], Path],
    announcement: tuple[str, str],
    targets_of: Callable[[str], Targets | None] | None = None,
    first_step: int = 0,
) -> Iterator[SuperLM]:
    """SuperLMs trained to the end, in groups that share teacher forwards and need no more memory than the run did.

    Args:
        context: a run with trained SuperLMs.
        superlms: what to train, made when its group comes.
        recipe: of all of them.
        folder_of: name -> folder of the checkpoint; one that is finished there is only read.
        announcement: said before and after the names of those that are trained.
        targets_of: name -> what teaches it; `context.targets_for` unless given.
        first_step: step of the run's text that the first one reads.
    """
    targets_of = targets_of or context.targets_for
    trained = [context.trained_superlm(sub) for sub in context.space.sub_spaces if context.is_trained(sub)]
    for group in memory_groups(superlms, sum(map(num_parameters, trained))):
        trainers = [SuperLMTrainer(s, recipe, context.objective, targets=targets_of(s.sub_space.name)) for s in group]
        for trainer in trainers:
            restore_checkpoint(trainer, folder_of(trainer.name))
        unfinished = [trainer for trainer in trainers if not trainer.finished]
        if unfinished:
            names = ", ".join(trainer.name for trainer in unfinished)
            context.progress.say(f"{announcement[0]}: {names}; {announcement[1]}")
            train_with_checkpoints(context, unfinished, folder_of, lambda rows: None, first_step)
        yield from group


def memory_groups(superlms: Iterable[SuperLM], most_parameters: int) -> Iterator[list[SuperLM]]:
    """Cut into runs of at most so many parameters, or of one SuperLM that has more: what is trained side by side."""
    group: list[SuperLM] = []
    for superlm in superlms:
        if group and sum(map(num_parameters, [*group, superlm])) > most_parameters:
            yield group
            group = []
        group.append(superlm)
    if group:
        yield group


def num_parameters(superlm: SuperLM) -> int:
    """Entries of the shared parameters."""
    return sum(parameter.numel() for parameter in superlm.parameters.values())
