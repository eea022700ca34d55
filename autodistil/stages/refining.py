"""Refinement: a student of the search goes on distilling alone, from its slice of the SuperLM and on text not seen yet.

Students share weights while they are ranked, and ranks can flip once they no longer do; so the finalists of a search
are refined for a few steps, alike, and ranked again. (Once-for-all networks, arXiv 1908.09791, fine-tune the picked
sub-network likewise, without ranking again.) Students are refined side by side on one teacher forward. Everything is
checkpointed in the run folder and nothing is trained twice.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import pandas as pd

from autodistil.errors import RunError
from autodistil.models.superlm import SuperLM
from autodistil.run.kept import read_refinements, write_refinement
from autodistil.run.run import RunContext
from autodistil.space.student import Candidate
from autodistil.stages.searching import refined_candidates, superlm_of, whole_loss, write_candidates
from autodistil.stages.training import check_interrupted, recipe_of, train_apart
from autodistil.student_search.candidates import Refinement, choose_finalists
from autodistil.student_search.problem import SearchProblem
from autodistil.training.checkpoint import CHECKPOINT, WEIGHTS, load_weights
from autodistil.training.recipe import Recipe
from autodistil.utils import write_text

SETTINGS = "settings.json"
"""What a refinement was begun with."""
STEPS_SHARE = 0.5
"""Steps alone, as a share of those of the SuperLM. One student a step instead of four: about an eighth of the time."""
RATE_SHARE = 0.25
"""Peak learning rate, as a share of the SuperLM's, whose training ended near zero. Of 0.05, 0.1, 0.25, 0.5 and 1 it was
the best or close to it for four students after 12 to 48 steps, with SuperLMs of 1e-3 and 2e-3."""


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
    names = [candidate.id for candidate in missing]
    check_interrupted(context, names, partial(_folder, context), resume, "refining")
    reused = [candidate.id for candidate in candidates if candidate.id in known]
    if reused:
        context.progress.say(f"refined before: {', '.join(reused)}")
    by_id = {candidate.id: candidate for candidate in missing}
    for superlm in _trained(context, missing, recipe):
        candidate = by_id[superlm.sub_space.name]
        loss = context.heldout_for(candidate.config).loss(superlm, candidate.config)
        before = whole_loss(context, candidate, ranked)
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
    if not _has_weights(folder):
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


def _trained(context: RunContext, candidates: Sequence[Candidate], recipe: Recipe) -> Iterator[SuperLM]:
    """Students trained to the end; what taught a student's SuperLM goes on teaching it."""
    if not candidates:
        return
    _ = context.training_text  # refuses another text
    yield from train_apart(
        context,
        (_begun(context, candidate, recipe) for candidate in candidates),
        recipe,
        partial(_folder, context),
        ("refining alone", f"{recipe.steps} steps at {recipe.learning_rate:g}"),
        first_step=context.resolved()["train_steps"],
    )


def _begun(context: RunContext, candidate: Candidate, recipe: Recipe) -> SuperLM:
    """A student as a SuperLM of its own; its folder says what it is refined with before anything is trained there."""
    folder = _folder(context, candidate.id)
    if not _has_weights(folder):
        settings = {"steps": recipe.steps, "learning_rate": recipe.learning_rate}
        write_text(folder / SETTINGS, json.dumps(settings) + "\n")
    return superlm_of(context, candidate).alone(candidate.config, candidate.id)


def _has_weights(folder: Path) -> bool:
    return any((folder / name).is_file() for name in (CHECKPOINT, WEIGHTS))
