"""Refinement: a student of the search goes on distilling alone, from its slice of the SuperLM and on text not seen yet.

Students share weights while they are ranked, and ranks can flip once they no longer do; so the finalists of a search
are refined for a few steps, alike, and ranked again (short re-training of finalists, as in once-for-all networks,
arXiv 1908.09791). Students are refined side by side on one teacher forward. Everything is checkpointed in the run
folder and nothing is trained twice.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import pandas as pd

from autodistil.context import RunContext
from autodistil.errors import RunError
from autodistil.files import write_text
from autodistil.spaces import Candidate
from autodistil.stages.refined import Refinement, choose_finalists, read_refinements, write_refinement
from autodistil.stages.searching import refined_candidates, superlm_of, write_candidates
from autodistil.stages.training import memory_groups, num_parameters, recipe_of, train_with_checkpoints
from autodistil.student_search.study import SearchProblem
from autodistil.superlm import SuperLM
from autodistil.training.checkpoint import CHECKPOINT, WEIGHTS, load_weights, restore_checkpoint
from autodistil.training.recipe import Recipe
from autodistil.training.trainer import SuperLMTrainer

SETTINGS = "settings.json"
"""What a refinement was begun with."""
STEPS_SHARE = 0.5
"""Steps alone, as a share of those of the SuperLM. One student a step instead of four: about an eighth of the time."""
RATE_SHARE = 0.25
"""Peak learning rate, as a share of the SuperLM's, whose training ended near zero. Of 0.05, 0.1, 0.25, 0.5 and 1 it was
the best or close to it for two students, 12 to 48 steps and two rates of the SuperLM; at 1 the loss rose at first."""


def refine_students(
    context: RunContext, candidates: Sequence[Candidate], ranked: pd.DataFrame, resume: bool
) -> dict[str, Refinement]:
    """Refine those students that are not refined yet, and score them; returns the results of all of them.

    Args:
        context: a run whose SuperLMs are trained.
        candidates: the students.
        ranked: candidates with their held-out losses.
        resume: go on with an interrupted refinement.

    Raises:
        RunError: one was refined with other settings, an interrupted refinement is there, or a file is damaged.
    """
    recipe = refining_recipe(context)
    known = read_refinements(context.folder.refined_path)
    missing = [candidate for candidate in candidates if candidate.id not in known]
    for candidate in candidates:
        _check_settings(_folder(context, candidate.id), recipe)
    _check_interrupted(context, missing, resume)
    reused = [candidate.id for candidate in candidates if candidate.id in known]
    if reused:
        context.progress.say(f"refined before: {', '.join(reused)}")
    by_id = {candidate.id: candidate for candidate in missing}
    for superlm in _trained(context, missing, recipe):
        candidate = by_id[superlm.sub_space.name]
        loss = context.heldout_for(candidate.config).loss(superlm, candidate.config)
        before = float(ranked.loc[candidate.id, "loss"])
        found = Refinement(candidate.id, recipe.steps, recipe.learning_rate, before, loss)
        write_refinement(found, _folder(context, candidate.id))
        known[candidate.id] = found
    return {candidate.id: known[candidate.id] for candidate in candidates}


def refine_finalists(context: RunContext, problem: SearchProblem, ranked: pd.DataFrame, resume: bool) -> pd.DataFrame:
    """Refine the best students of the front, as many as are asked for, and rank them again; rewrites `candidates.csv`.

    Raises:
        RunError: see `refine_students`.
    """
    chosen = choose_finalists(ranked, context.config.refine_top)
    refine_students(context, [problem.candidates[student_id] for student_id in chosen], ranked, resume)
    ranked = refined_candidates(context, ranked)
    write_candidates(context, ranked)
    return ranked


def refining_recipe(context: RunContext) -> Recipe:
    """The recipe of the run's SuperLMs but for the number of steps and the peak learning rate."""
    config = context.config
    steps = config.refine_steps or max(1, round(STEPS_SHARE * context.resolved()["train_steps"]))
    rate = config.refine_learning_rate or RATE_SHARE * config.learning_rate
    return replace(recipe_of(config, steps), learning_rate=rate)


def refined_superlm(context: RunContext, candidate: Candidate) -> SuperLM:
    """A refined student as a SuperLM of its own, with its trained weights."""
    superlm = superlm_of(context, candidate).alone(candidate.config, candidate.id)
    load_weights(superlm, _folder(context, candidate.id))
    return superlm


def _folder(context: RunContext, student_id: str) -> Path:
    return context.folder.refined_path / student_id


def _check_settings(folder: Path, recipe: Recipe) -> None:
    """Refuse a folder whose weights were trained otherwise."""
    path = folder / SETTINGS
    if not any((folder / name).is_file() for name in (CHECKPOINT, WEIGHTS)):
        return
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        steps, rate = int(found["steps"]), float(found["learning_rate"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise RunError(
            f"{str(path)!r} is damaged ({error}); remove {str(folder)!r} to refine the student anew"
        ) from error
    if (steps, rate) != (recipe.steps, recipe.learning_rate):
        raise RunError(
            f"student {folder.name!r} was refined with {steps} steps at learning rate {rate:g}, not {recipe.steps} at "
            f"{recipe.learning_rate:g}; give these, or remove {str(folder)!r} to refine it anew"
        )


def _check_interrupted(context: RunContext, missing: Sequence[Candidate], resume: bool) -> None:
    half = [candidate.id for candidate in missing if (_folder(context, candidate.id) / CHECKPOINT).is_file()]
    if half and not resume:
        raise RunError(
            f"refining of {', '.join(half)} in {str(context.folder.path)!r} was interrupted; go on with --resume"
        )


def _trained(context: RunContext, candidates: Sequence[Candidate], recipe: Recipe) -> Iterator[SuperLM]:
    """Students trained to the end, in groups that share teacher forwards and need no more memory than the run did."""
    if not candidates:
        return
    _ = context.training_text  # refuses another text
    trained = [context.trained_superlm(sub) for sub in context.space.sub_spaces if context.is_trained(sub)]
    alone = (superlm_of(context, candidate).alone(candidate.config, candidate.id) for candidate in candidates)
    for group in memory_groups(alone, sum(map(num_parameters, trained))):
        trainers = [_trainer(context, superlm, recipe) for superlm in group]
        unfinished = [trainer for trainer in trainers if not trainer.finished]
        if unfinished:
            names = ", ".join(trainer.name for trainer in unfinished)
            context.progress.say(f"refining alone: {names}; {recipe.steps} steps at {recipe.learning_rate:g}")
            train_with_checkpoints(
                context,
                unfinished,
                lambda student_id: _folder(context, student_id),
                lambda rows: None,
                first_step=context.resolved()["train_steps"],
            )
        yield from group


def _trainer(context: RunContext, superlm: SuperLM, recipe: Recipe) -> SuperLMTrainer:
    """A trainer at the step that its student was refined to; what taught its SuperLM goes on teaching."""
    targets = context.targets_for(superlm.sub_space.name)
    trainer = SuperLMTrainer(superlm, recipe, context.objective, targets=targets)
    folder = _folder(context, trainer.name)
    if restore_checkpoint(trainer, folder) == 0:
        settings = {"steps": recipe.steps, "learning_rate": recipe.learning_rate}
        write_text(folder / SETTINGS, json.dumps(settings) + "\n")
    return trainer
