"""SuperLMs trained apart from those of the run: students alone, to refine them or to compare with them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from autodistil.context import RunContext
from autodistil.stages.training import train_with_checkpoints
from autodistil.superlm import SuperLM
from autodistil.training.checkpoint import restore_checkpoint
from autodistil.training.recipe import Recipe
from autodistil.training.trainer import SuperLMTrainer, Targets


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
