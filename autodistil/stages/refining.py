"""Refinement: a student of the search goes on distilling alone, from its slice of the SuperLM and on text not seen yet.

Students share weights while they are ranked, and ranks can flip once they no longer do; so the finalists of a search
are refined for a few steps, alike, and ranked again. (Once-for-all networks, arXiv 1908.09791, fine-tune the picked
sub-network likewise, without ranking again.) Students are refined side by side on one teacher forward. Everything is
checkpointed in the run folder and nothing is trained twice.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from autodistil.config import RunConfig
from autodistil.errors import RunError
from autodistil.models.superlm import SuperLM
from autodistil.run.kept import read_refinements, write_refinement
from autodistil.run.run import Run
from autodistil.space.student import Candidate
from autodistil.stages.searching import whole_loss
from autodistil.stages.training import check_interrupted, recipe_of, train_apart
from autodistil.student_search.candidates import CandidateTable, Refinement
from autodistil.student_search.problem import SearchProblem
from autodistil.training.checkpoint import CHECKPOINT, WEIGHTS
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
    run: Run, candidates: Sequence[Candidate], table: CandidateTable, resume: bool
) -> dict[str, Refinement]:
    """Refine those students that are not refined yet, and score them; returns the results of all of them.

    Args:
        run: its SuperLMs are trained.
        candidates: the students.
        table: the candidates with their held-out losses.
        resume: go on with an interrupted refinement.

    Raises:
        RunError: one was refined with other settings, an interrupted refinement is there, or a file is damaged.
    """
    recipe, folder_of = refining_recipe(run.config, run.folder.resolved()), run.folder.refined_folder
    known = read_refinements(run.folder.refined_path)
    missing = [candidate for candidate in candidates if candidate.id not in known]
    for candidate in candidates:
        _check_settings(folder_of(candidate.id), recipe)
    check_interrupted(run.folder, [candidate.id for candidate in missing], folder_of, resume, "refining")
    reused = [candidate.id for candidate in candidates if candidate.id in known]
    if reused:
        run.progress.say(f"refined before: {', '.join(reused)}")
    by_id = {candidate.id: candidate for candidate in missing}
    for superlm in _trained(run, missing, recipe):
        candidate = by_id[superlm.sub_space.name]
        loss = run.scorer.loss(superlm, candidate.config)
        before = whole_loss(run.inputs, run.scorer, candidate, table)
        found = Refinement(candidate.id, recipe.steps, recipe.learning_rate, before, loss)
        write_refinement(found, folder_of(candidate.id))
        known[candidate.id] = found
    return {candidate.id: known[candidate.id] for candidate in candidates}


def refine_finalists(run: Run, problem: SearchProblem, table: CandidateTable, resume: bool) -> CandidateTable:
    """Refine the best students of the front, as many as are asked for, and rank them again; rewrites `candidates.csv`.

    Raises:
        RunError: see `refine_students`.
    """
    chosen = table.front.best_first.ids[: run.config.refine_top]
    refine_students(run, [problem.candidates[student_id] for student_id in chosen], table, resume)
    table = table.refined(read_refinements(run.folder.refined_path), run.config.refine_top)
    table.write(run.folder.candidates_path, run.inputs.ranks_by_perplexity)
    return table


def refining_recipe(config: RunConfig, resolved: Mapping[str, Any]) -> Recipe:
    """The recipe of the run's SuperLMs but for the number of steps and the peak learning rate."""
    steps = config.refine_steps or max(1, round(STEPS_SHARE * resolved["train_steps"]))
    rate = config.refine_learning_rate or RATE_SHARE * config.learning_rate
    return replace(recipe_of(config, steps), learning_rate=rate)


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


def _trained(run: Run, candidates: Sequence[Candidate], recipe: Recipe) -> Iterator[SuperLM]:
    """Students trained to the end; what taught a student's SuperLM goes on teaching it."""
    if not candidates:
        return
    _ = run.inputs.training_text  # refuses another text
    yield from train_apart(
        run,
        (_begun(run, candidate, recipe) for candidate in candidates),
        recipe,
        run.folder.refined_folder,
        ("refining alone", f"{recipe.steps} steps at {recipe.learning_rate:g}"),
        first_step=run.folder.resolved()["train_steps"],
    )


def _begun(run: Run, candidate: Candidate, recipe: Recipe) -> SuperLM:
    """A student as a SuperLM of its own; its folder says what it is refined with before anything is trained there."""
    folder = run.folder.refined_folder(candidate.id)
    if not _has_weights(folder):
        settings = {"steps": recipe.steps, "learning_rate": recipe.learning_rate}
        write_text(folder / SETTINGS, json.dumps(settings) + "\n")
    return run.superlms.of(candidate).alone(candidate.config, candidate.id)


def _has_weights(folder: Path) -> bool:
    return any((folder / name).is_file() for name in (CHECKPOINT, WEIGHTS))
