"""Stage one: train the SuperLMs that are not trained yet, side by side, with checkpoints; here or on a Ray cluster.

SuperLMs that are trained apart from those of the run, students alone, to refine them or to compare with them, go
through `train_kept`.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

import torch

from autodistil.config import RunConfig
from autodistil.data.batch import Batch
from autodistil.errors import ConfigError, DivergedError, RunError
from autodistil.models.superlm import SuperLM
from autodistil.models.teacher import Teacher
from autodistil.run.folder import RunFolder
from autodistil.run.inputs import RunInputs
from autodistil.run.run import Run
from autodistil.run.superlms import SuperLMs
from autodistil.run.tracking import GuardedTracker
from autodistil.space.files import shipped_spaces
from autodistil.space.space import SubSpace
from autodistil.space.student import Candidate
from autodistil.stages.fitting import fitted_start
from autodistil.stages.training_length import StepClock, StepTimes, text_notes
from autodistil.training.checkpoint import CHECKPOINT, WEIGHTS, restore_checkpoint, save_checkpoint, steps_saved
from autodistil.training.metrics import MetricsLog
from autodistil.training.recipe import Recipe, steps_alone
from autodistil.training.trainer import StepMetrics, SuperLMTrainer, Targets, train_step
from autodistil.training.trainer import train as train_superlms
from autodistil.training.workers import check_batch, current_workers
from autodistil.utils import atomic_path, discard, split_weight, stop_on_interrupt

DEFAULT_STEPS = 24
"""A quick look: some minutes on two cores with the default teacher. Real students want hours."""

_UNBOUNDED = 1_000_000
"""Steps of a training that is only timed."""

_SPACE = "space"
"""Within a worker's folder, where the file of a space that is not shipped lies by its own name."""

Named = TypeVar("Named", SubSpace, SuperLMTrainer)


def train_missing(run: Run, sub_spaces: Sequence[SubSpace], resume: bool, refined: Candidate | None = None) -> None:
    """Train those of `sub_spaces` that are not trained yet, side by side.

    Those that an assistant teaches come after it; it is trained first, whether it is one of them or not.

    Args:
        run: the run.
        sub_spaces: what is needed.
        resume: go on with an interrupted training.
        refined: a student like those that will be refined, for whom the run's minutes are to leave time; None for none.
    """
    folder, superlms = run.folder, run.superlms
    sub_spaces = superlms.with_assistant(sub_spaces)
    missing = [sub for sub in sub_spaces if not superlms.is_trained(sub)]
    trained = [sub.name for sub in sub_spaces if sub not in missing]
    if trained:
        run.progress.say(f"reusing trained SuperLMs: {', '.join(trained)}")
    if not missing:
        run.inputs.write_record()
        return
    another = ", or give another --run folder"
    check_interrupted(folder, [sub.name for sub in missing], folder.superlm_folder, resume, otherwise=another)
    recipe = _recipe(run.inputs, superlms, missing, refined)
    run.inputs.write_trained_on([sub.name for sub in missing])
    _begin(run, missing, recipe)
    if run.config.workers:
        for group in _by_source(superlms, missing):
            train_on_cluster(run, group, recipe)
        return
    trainers = [trainer_of(run.inputs, superlms.new(sub), recipe) for sub in missing]
    done = {trainer.name: restore_checkpoint(trainer, folder.superlm_folder(trainer.name)) for trainer in trainers}
    names = ", ".join(f"{name} (from step {steps})" if steps else name for name, steps in done.items())
    text = run.inputs.text
    run.progress.say(f"training SuperLMs: {names}; {recipe.steps} steps of {text.samples_a_step} {text.unit}")
    for note in text_notes(text, recipe.steps):
        run.progress.say(note)
    with closing(MetricsLog(folder.metrics_path, done, folder.tensorboard_path, run.tracker.log_step)) as metrics:
        for together in _rounds(run.inputs, superlms, trainers):
            clock = StepClock(metrics.append, run.progress, recipe.steps)
            train_with_checkpoints(run.inputs, together, folder.superlm_folder, clock)


def _begin(run: Run, sub_spaces: Sequence[SubSpace], recipe: Recipe) -> None:
    """Leave a checkpoint of no step where a SuperLM that is not begun yet has a fitted start."""
    for sub in sub_spaces:
        folder = run.folder.superlm_folder(sub.name)
        if not (folder / CHECKPOINT).is_file() and (start := fitted_start(run, sub)) is not None:
            save_checkpoint(trainer_of(run.inputs, start, recipe), folder)


def trainer_of(inputs: RunInputs, superlm: SuperLM, recipe: Recipe, targets: Targets | None = None) -> SuperLMTrainer:
    """What trains a SuperLM, or a student alone, on the objective of a run and as students read its text."""
    return SuperLMTrainer(superlm, recipe, inputs.objective, targets=targets, read=inputs.read)


def _rounds(
    inputs: RunInputs, superlms: SuperLMs, trainers: Sequence[SuperLMTrainer]
) -> Iterator[list[SuperLMTrainer]]:
    """SuperLMs that are trained side by side: those of the teacher, and when they are done, those of the assistant."""
    for group in _by_source(superlms, trainers):
        if group[0].name in superlms.taught:
            names = ", ".join(trainer.name for trainer in group)
            foreign = inputs.assistant_model is not None and inputs.objective.compares_dimensions
            inputs.progress.say(f"assistant {inputs.config.assistant} teaches {names}{_FOREIGN if foreign else ''}")
            for trainer in group:
                trainer.targets = superlms.targets_for(trainer.name)
        yield group


def _by_source(superlms: SuperLMs, named: Sequence[Named]) -> list[list[Named]]:
    """Sub-spaces or trainers that the teacher teaches, then those of the assistant; no empty group."""
    groups = ([one for one in named if (one.name in superlms.taught) == by_assistant] for by_assistant in (False, True))
    return [group for group in groups if group]


_FOREIGN = (
    ", who are compared with it dimension by dimension: right where it is a student of this teacher in this importance "
    "order, wrong for any other model (use relation-kl+embedding-similarity there)"
)


def train_with_checkpoints(
    inputs: RunInputs,
    trainers: Sequence[SuperLMTrainer],
    folder_of: Callable[[str], Path],
    record: Callable[[list[StepMetrics]], None],
    first_step: int = 0,
) -> None:
    """Train to the end or to an interrupt, saving now and then, when a SuperLM is finished, and when stopped.

    Args:
        inputs: teacher, text and how often to save.
        trainers: SuperLMs with names of their own.
        folder_of: name -> folder of the checkpoint.
        record: called with the metrics of each step.
        first_step: step of the run's text that the first one reads.

    Raises:
        DivergedError: a loss or gradient is not finite; says which checkpoints are kept.
    """
    last_save = time.monotonic()
    total = sum(trainer.recipe.steps - trainer.steps_done for trainer in trainers)
    with stop_on_interrupt() as stop, inputs.progress.track("training", total) as advance:

        def on_step(rows: list[StepMetrics]) -> None:
            nonlocal last_save
            record(rows)
            advance(len(rows), "  ".join(f"{row.sub_space} {row.loss:.3f}" for row in rows))
            due = time.monotonic() - last_save >= inputs.config.checkpoint_seconds
            for trainer in trainers:
                if trainer.name in {row.sub_space for row in rows} and (due or trainer.finished or stop.requested):
                    save_checkpoint(trainer, folder_of(trainer.name))
            last_save = time.monotonic() if due else last_save

        with saying_what_is_kept([trainer.name for trainer in trainers], folder_of):
            train_superlms(
                trainers,
                inputs.ordered_teacher,
                lambda step: inputs.text.micro_batches(first_step + step),
                on_step,
                inputs.config.teacher_layer,
                lambda: stop.requested,
            )


@contextmanager
def saying_what_is_kept(names: Sequence[str], folder_of: Callable[[str], Path]) -> Iterator[None]:
    """Name the last checkpoints where a training diverges: they are from before."""
    try:
        yield
    except DivergedError as error:
        steps = {name: steps_saved(folder_of(name)) for name in names}
        kept = ", ".join(f"{name} after step {step}" for name, step in steps.items() if step)
        raise DivergedError(f"{error}; {f'kept: {kept}' if kept else 'no checkpoint was saved before'}") from error


def _recipe(inputs: RunInputs, superlms: SuperLMs, missing: Sequence[SubSpace], refined: Candidate | None) -> Recipe:
    """The training recipe; its steps are decided once and recorded."""
    config = inputs.config
    steps = known_steps(inputs)
    text = inputs.training_text  # refuses another text before the record would name it
    _ = inputs.heldout_texts  # refuses too little of it before hours of training
    if steps is None and config.train_minutes is not None:
        inputs.write_record()  # timing leaves files in the folder, which is a run's from here on
        steps = _steps_in(inputs, superlms, missing, refined, config.train_minutes * 60)
    recipe = recipe_of(config, steps or DEFAULT_STEPS)
    inputs.write_record(
        train_steps=recipe.steps,
        corpus_content=text.corpus.content_hash,
        samples_a_step=text.samples_a_step,
        tokens_a_step=text.tokens_a_step,
    )
    return recipe


def known_steps(inputs: RunInputs) -> int | None:
    """The steps of a run as they were decided before, or are asked for; None where minutes or the default decide.

    Raises:
        ConfigError: minutes are to decide, and workers train.
    """
    config = inputs.config
    steps: int | None = inputs.folder.resolved().get("train_steps") or config.train_steps
    if steps is None and config.train_minutes is not None and config.workers:
        raise ConfigError(
            f"train_minutes = {config.train_minutes:g} cannot be timed here for {config.workers} workers; "
            "give --train-steps"
        )
    return steps


def recipe_of(config: RunConfig, steps: int) -> Recipe:
    """The recipe of a configuration over so many steps."""
    return Recipe(steps, **{name: getattr(config, name) for name in Recipe.__dataclass_fields__ if name != "steps"})


def _steps_in(
    inputs: RunInputs, superlms: SuperLMs, missing: Sequence[SubSpace], refined: Candidate | None, seconds: float
) -> int:
    """How many steps fit into a time, by timing some on SuperLMs that are thrown away."""
    config = inputs.config
    trainers = trial_trainers(inputs, (superlms.new(sub) for sub in missing))
    times, alone = time_steps(inputs, superlms, trainers, 0.03 * seconds), None
    if refined is not None:
        alone = time_steps(inputs, superlms, [trial_alone(inputs, superlms, trainers, refined)], 0.03 * seconds)
    steps = times.steps_in(seconds, alone, config.num_finalists, config.refine_steps)
    more = "" if alone is None else f" and {steps_alone(config.refine_steps, steps)} alone ({alone.each:.2f} s)"
    inputs.progress.say(f"a step takes {times.each:.2f} s: {steps} steps{more} in {seconds / 60:g} minutes")
    return steps


def trial_trainers(inputs: RunInputs, superlms: Iterable[SuperLM]) -> list[SuperLMTrainer]:
    """What trains SuperLMs that are thrown away."""
    recipe = recipe_of(inputs.config, _UNBOUNDED)
    return [trainer_of(inputs, superlm, recipe) for superlm in superlms]


def trial_alone(
    inputs: RunInputs, superlms: SuperLMs, trainers: Iterable[SuperLMTrainer], candidate: Candidate
) -> SuperLMTrainer:
    """What trains a student alone that is thrown away, out of a SuperLM of `trainers`, or its trained one."""
    made = {trainer.name: trainer.superlm for trainer in trainers}
    superlm = made[candidate.sub_space] if candidate.sub_space in made else superlms.of(candidate)
    return trial_trainers(inputs, [superlm.alone(candidate.config, candidate.id)])[0]


def time_steps(inputs: RunInputs, superlms: SuperLMs, trainers: Sequence[SuperLMTrainer], patience: float) -> StepTimes:
    """Train some steps, as a run would, to time them.

    Args:
        inputs: teacher and text.
        superlms: those of the run.
        trainers: those of `trial_trainers`, at least one.
        patience: seconds after which no further step is timed, once there are four.
    """
    # A forward of the teacher stands in for one of the assistant, which is not there yet and takes no longer.
    rounds = _by_source(superlms, trainers)
    tried: list[float] = []
    while len(tried) < 4 or (len(tried) < 12 and sum(tried) < patience):
        _ = inputs.text.step_samples(len(tried))  # where the teacher writes it, that is no step's time
        start = time.perf_counter()
        for group in rounds:
            batches = inputs.text.micro_batches(len(tried))
            train_step(group, inputs.ordered_teacher, batches, inputs.config.teacher_layer)
        tried.append(time.perf_counter() - start)
    return StepTimes(tried)


def check_interrupted(
    folder: RunFolder,
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
            f"{doing} of {', '.join(half)} in {str(folder.path)!r} was interrupted; go on with --resume{otherwise}"
        )


def train_kept(
    inputs: RunInputs,
    superlms: SuperLMs,
    trainers: Iterable[SuperLMTrainer],
    folder_of: Callable[[str], Path],
    announcement: tuple[str, str],
    first_step: int = 0,
) -> Iterator[SuperLM]:
    """SuperLMs trained to the end, in groups that share teacher forwards and need no more memory than the run did.

    Args:
        inputs: teacher and text.
        superlms: those of the run, whose trained ones say how much memory there is.
        trainers: what to train, each made when its group comes.
        folder_of: name -> folder of the checkpoint; one that is finished there is only read.
        announcement: said before and after the names of those that are trained.
        first_step: step of the run's text that the first one reads.
    """
    trained = [superlms.trained(sub.name) for sub in inputs.space.sub_spaces if superlms.is_trained(sub)]
    for group in memory_groups(trainers, sum(map(num_parameters, trained))):
        for trainer in group:
            restore_checkpoint(trainer, folder_of(trainer.name))
        unfinished = [trainer for trainer in group if not trainer.finished]
        if unfinished:
            names = ", ".join(trainer.name for trainer in unfinished)
            inputs.progress.say(f"{announcement[0]}: {names}; {announcement[1]}")
            train_with_checkpoints(inputs, unfinished, folder_of, lambda rows: None, first_step)
        yield from (trainer.superlm for trainer in group)


def memory_groups(trainers: Iterable[SuperLMTrainer], most_parameters: int) -> Iterator[list[SuperLMTrainer]]:
    """Cut into runs of at most so many parameters, or of one SuperLM that has more: what is trained side by side."""
    group: list[SuperLMTrainer] = []
    for trainer in trainers:
        if group and sum(num_parameters(one.superlm) for one in (*group, trainer)) > most_parameters:
            yield group
            group = []
        group.append(trainer)
    if group:
        yield group


def num_parameters(superlm: SuperLM) -> int:
    """Entries of the shared parameters."""
    return sum(parameter.numel() for parameter in superlm.parameters.values())


# ---- on a Ray cluster


def train_on_cluster(
    run: Run, sub_spaces: Sequence[SubSpace], recipe: Recipe, after_step: Callable[[int, int], None] | None = None
) -> None:
    """Train SuperLMs that one teacher teaches, from what the run folder holds of them, to the end.

    Args:
        run: its configuration says how many workers there are and where.
        sub_spaces: what to train.
        recipe: of all of them.
        after_step: see `TrainJob`.

    Raises:
        ClusterError: no cluster, too small a one, or more failures than allowed; the last checkpoint is kept.
        DivergedError: a loss or gradient is not finite; likewise.
        ConfigError: more workers than texts in a micro-batch, text that models write, or a storage that not all nodes
            see.
    """
    from autodistil.cluster.ray_session import ray_session  # who has one machine needs no Ray
    from autodistil.cluster.ray_train import check_fits, train_job
    from autodistil.cluster.train_worker import TrainJob

    config, folder = run.config, run.folder
    if config.teacher_text or config.on_policy:
        raise ConfigError(
            f"workers = {config.workers} cannot share text that models write (teacher_text, on_policy); train without "
            "--workers"
        )
    names = tuple(sub.name for sub in sub_spaces)
    check_batch(run.inputs.text.samples_a_step // config.accumulate, config.workers)
    with ray_session(config.address, run.progress) as session:
        check_fits(session, config)
        job = TrainJob(
            label=f"{folder.path.resolve().name}-{uuid.uuid4().hex[:8]}",
            config=_portable(config),
            files=_files(run.inputs),
            names=names,
            recipe=recipe,
            storage=config.storage or str(folder.ray_path),
            open=open_on_worker,
            after_step=after_step,
        )
        needed = [*names, *([config.assistant] if config.assistant and run.superlms.taught else [])]
        begun = [path for name in needed if (path := folder.superlm_folder(name)).is_dir()]
        with saying_what_is_kept(names, folder.superlm_folder):
            train_job(job, begun, RunLedger(folder, names, run.tracker), session, run.progress)
    missing = [sub.name for sub in sub_spaces if not run.superlms.is_trained(sub)]
    assert not missing, f"a training ended without the weights of {missing}"


def _portable(config: RunConfig) -> RunConfig:
    """The configuration with whole paths, for workers that run in another folder."""

    def whole(source: str) -> str:
        path = Path(source).expanduser()
        return str(path.resolve()) if path.exists() else source

    def whole_output_teacher(text: str) -> str:
        weight, name = split_weight(text)
        return weight + whole(name)

    return replace(
        config,
        teacher=whole(config.teacher),
        corpus=tuple(whole(source) for source in config.corpus),
        assistant=whole(config.assistant) if config.assistant and "/" in config.assistant else config.assistant,
        output_teacher=config.output_teacher and tuple(map(whole_output_teacher, config.output_teacher)),
    )


def _files(inputs: RunInputs) -> dict[str, bytes]:
    """What workers must not compute anew: the order of dimensions; and the record that they check theirs against."""
    config, folder = inputs.config, inputs.folder
    paths = {folder.record_path.name: folder.record_path}
    if config.order != "none" or config.layer_map == "influence":
        _ = inputs.importance_order
        paths[folder.importance_path.name] = folder.importance_path
    if inputs.config.select is not None:
        _ = inputs.training_text.train
        paths[folder.selection_path.name] = folder.selection_path
    if inputs.output_head is not None:
        paths[folder.output_head_path.name] = folder.output_head_path
    if config.space is not None and config.space not in ("auto", *shipped_spaces()):
        path = Path(config.space).expanduser()
        paths[f"{_SPACE}/{path.name}"] = path
    return {name: path.read_bytes() for name, path in paths.items()}


def open_on_worker(
    folder: Path, config: RunConfig, names: Sequence[str], recipe: Recipe, begun: Path | None
) -> tuple[list[SuperLMTrainer], Teacher, Callable[[int], Iterator[Batch]], int | None, torch.device]:
    """What a worker trains: trainers from the start, the teacher, batches of a step, the layer to distil, the device.

    Args:
        folder: holds what `_files` took along.
        config: that of the run, with the worker's device.
        names: sub-spaces to train side by side.
        recipe: of all of them.
        begun: folder of the SuperLMs that were begun or finished before, an assistant of the run among them.
    """
    space = next((folder / _SPACE).glob("*"), None)
    run = Run(RunFolder(folder), replace(config, space=str(space)) if space else config)
    _ = run.inputs.training_text  # another text than the driver's is refused
    if begun is not None and run.superlms.taught:
        shutil.copytree(begun, run.folder.superlms_path)
    sub_spaces = [run.inputs.space.sub_space(name) for name in names]
    inputs, superlms = run.inputs, run.superlms
    trainers = [trainer_of(inputs, superlms.new(sub), recipe, superlms.targets_for(sub.name)) for sub in sub_spaces]
    inputs.text.own_rows = current_workers().rows
    return trainers, inputs.ordered_teacher, inputs.text.micro_batches, config.teacher_layer, inputs.device


class RunLedger:
    """Enters what a cluster did into a run folder: metrics, and checkpoints as soon as they are complete.

    Args:
        folder: of the driver's run.
        names: SuperLMs that are trained.
        tracker: told of each step too.
    """

    def __init__(self, folder: RunFolder, names: Iterable[str], tracker: GuardedTracker) -> None:
        self._folder, self._tracker = folder, tracker
        self._log: MetricsLog | None = None
        self.done = {name: steps_saved(folder.superlm_folder(name)) for name in names}

    def begin(self, steps_done: Mapping[str, int]) -> None:
        """Forget the steps that were done after the checkpoints that a training goes on from."""
        self.close()
        self.done.update(steps_done)
        folder = self._folder
        self._log = MetricsLog(folder.metrics_path, self.done, folder.tensorboard_path, self._tracker.log_step)

    def step(self, rows: Sequence[StepMetrics]) -> None:
        """Enter steps."""
        assert self._log is not None, "steps before the training began"
        self._log.append(rows)
        self.done.update({row.sub_space: row.step for row in rows})

    def save(self, fetch: Callable[[str], str]) -> None:
        """Bring a checkpoint into the run folder, each file whole.

        Args:
            fetch: a folder of the same disk -> the folder of the checkpoint, with a folder for each SuperLM.
        """
        with tempfile.TemporaryDirectory(dir=self._folder.path, prefix=".ray-") as scratch:
            for source in filter(Path.is_dir, Path(fetch(scratch)).iterdir()):
                target = self._folder.superlm_folder(source.name)
                for name in (WEIGHTS, CHECKPOINT):
                    if (source / name).is_file():
                        with atomic_path(target / name, summed=True) as temporary:
                            os.replace(source / name, temporary)
                if (target / WEIGHTS).is_file():
                    discard(target / CHECKPOINT)

    def close(self) -> None:
        """Flush."""
        if self._log is not None:
            self._log.close()
