"""Refinement: a student of the search goes on distilling alone, from the best of its slices and on text not seen yet.

Students share weights while they are ranked, and ranks can flip once they no longer do; so the finalists of a search
are refined for a few steps, alike, and ranked again. (Once-for-all networks, arXiv 1908.09791, fine-tune the picked
sub-network likewise, without ranking again.) Students are refined side by side on one teacher forward. Everything is
checkpointed in the run folder and nothing is trained twice.
"""

from __future__ import annotations

import math
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from torch import Tensor

from autodistil.config import RunConfig, rate_words
from autodistil.models.superlm import SuperLM
from autodistil.run.inputs import RunInputs
from autodistil.run.kept import begin_refinement, check_settings, read_refinements, settings_of, write_refinement
from autodistil.run.run import Run
from autodistil.space.student import Candidate
from autodistil.stages.fitting import fitted_student
from autodistil.stages.searching import whole_loss
from autodistil.stages.training import check_interrupted, recipe_of, train_kept, trainer_of
from autodistil.student_search.candidates import CandidateTable, Refinement
from autodistil.student_search.problem import SearchProblem
from autodistil.training.checkpoint import save_weights
from autodistil.training.recipe import Recipe, steps_alone
from autodistil.training.trainer import SuperLMTrainer


@dataclass
class _Start:
    """What a refinement begins with."""

    superlm: SuperLM
    """Goes on training in place."""
    loss: float
    """Held-out loss before that."""
    words: str
    weights: Mapping[str, Tensor] = field(default_factory=dict)
    """Its weights before that."""


def refine_students(
    run: Run, candidates: Sequence[Candidate], table: CandidateTable, resume: bool, alike: bool = True
) -> dict[str, Refinement]:
    """Refine those students that are not refined yet, and score them; returns the results of all of them.

    Each begins with what is best on held-out text: its slice of the SuperLM, or the untrained one of the teacher, as it
    is or with its linear maps fitted to the teacher's. Where no training made a better student it ends as that.

    Args:
        run: its SuperLMs are trained.
        candidates: the students.
        table: the candidates with their held-out losses.
        resume: go on with an interrupted refinement.
        alike: what was refined before must have been so with the run's settings.

    Raises:
        RunError: one was refined with other settings, an interrupted refinement is there, or a file is damaged.
    """
    recipe, folder_of = refining_recipe(run.config, run.folder.resolved()), run.folder.refined_folder
    known = read_refinements(run.folder.refined_path)
    missing = [candidate for candidate in candidates if candidate.id not in known]
    for candidate in candidates if alike else missing:
        check_settings(folder_of(candidate.id), recipe)
    check_interrupted(run.folder, [candidate.id for candidate in missing], folder_of, resume, "refining")
    if reused := [candidate.id for candidate in candidates if candidate.id in known]:
        run.progress.say(f"refined before: {', '.join(reused)}")
    shared = {one.id: whole_loss(run.scorer, one, table) for one in missing}
    starts: dict[str, _Start] = {}
    for candidate, superlm in zip(missing, _trained(run, missing, shared, starts, recipe), strict=True):
        loss, before = run.scorer.loss(superlm, candidate.config), shared[candidate.id]
        start = starts.pop(candidate.id)
        if start.loss < min(loss, before):
            superlm.load_state_dict(start.weights)
            save_weights(superlm, folder_of(candidate.id), recipe.steps)
            loss = start.loss
            run.progress.say(f"{candidate.id}: no training made it better than {start.words}, which is kept")
        known[candidate.id] = Refinement(candidate.id, recipe.steps, recipe.learning_rate, before, loss)
        write_refinement(known[candidate.id], folder_of(candidate.id))
    return {candidate.id: known[candidate.id] for candidate in candidates}


def _trained(
    run: Run, candidates: Sequence[Candidate], shared: Mapping[str, float], starts: dict[str, _Start], recipe: Recipe
) -> Iterator[SuperLM]:
    """Students trained to the end; what taught a student's SuperLM goes on teaching it.

    Args:
        run: its SuperLMs are trained.
        candidates: the students.
        shared: the held-out loss of each as a slice of its SuperLM, by id.
        starts: gets what each begins with.
        recipe: of all of them.
    """
    if not candidates:
        return
    inputs, superlms, folder_of = run.inputs, run.superlms, run.folder.refined_folder
    _ = inputs.training_text  # refuses another text
    inputs.write_trained_on([candidate.id for candidate in candidates])

    def begun() -> Iterator[SuperLMTrainer]:
        for candidate in candidates:
            start = _best_start(run, candidate, shared[candidate.id])
            starts[candidate.id] = replace(start, weights={k: v.clone() for k, v in start.superlm.state_dict().items()})
            begin_refinement(folder_of(candidate.id), recipe)
            yield trainer_of(inputs, start.superlm, recipe, superlms.targets_for(candidate.id))

    said = "refining alone", f"{recipe.steps} steps at learning rate {rate_words(recipe.learning_rate)}"
    first_step = inputs.folder.resolved()["train_steps"]
    yield from train_kept(inputs, superlms, begun(), folder_of, said, first_step)


def _best_start(run: Run, candidate: Candidate, shared: float) -> _Start:
    """The best of a student's slices by held-out loss; `shared` is that of its slice of the SuperLM."""
    config, superlms = candidate.config, run.superlms
    untrained = superlms.untrained(candidate)
    starts = [
        _Start(superlms.alone(candidate), shared, "the slice of its SuperLM"),
        _Start(untrained, run.scorer.loss(untrained, config), "the teacher's slice"),
    ]
    if (fitted := fitted_student(run, candidate)) is not None:
        starts.append(_Start(fitted, run.scorer.loss(fitted, config), "the teacher's slice fitted to it"))
    return min((one for one in starts if math.isfinite(one.loss)), key=lambda one: one.loss, default=starts[0])


def refine_finalists(run: Run, problem: SearchProblem, table: CandidateTable, resume: bool) -> CandidateTable:
    """Refine the finalists, as many as are asked for, and rank them again; rewrites `candidates.csv`.

    Raises:
        RunError: see `refine_students`.
    """
    ids = table.finalist_ids(run.config.num_finalists)
    if larger := [student_id for student_id in ids if student_id not in table.front]:
        run.progress.say(
            f"to refine: {', '.join(larger)}, the largest within the budgets around students of the front, alone no "
            "worse than these"
        )
    chosen = [problem.candidates[student_id] for student_id in ids]
    refine_students(run, chosen, table, resume, alike=run.config.refine_top is not None)
    return rank_refined(run.inputs, table)


def refine_anew(run: Run, candidate: Candidate, table: CandidateTable, resume: bool) -> Refinement:
    """Refine a student; what a search refined by itself, unasked, gives way where other settings are asked for.

    Raises:
        RunError: see `refine_students`.
    """
    config, resolved = run.config, run.folder.resolved()
    unasked = refining_recipe(replace(config, refine_steps=None, refine_learning_rate=None), resolved)
    known = read_refinements(run.folder.refined_path).get(candidate.id)
    if known and known.settings == settings_of(unasked) != settings_of(refining_recipe(config, resolved)):
        run.progress.say(f"{candidate.id} was refined by the search, {known}; refining it anew from its slice")
        shutil.rmtree(run.folder.refined_folder(candidate.id))
    return refine_students(run, [candidate], table, resume)[candidate.id]


def rank_refined(inputs: RunInputs, table: CandidateTable) -> CandidateTable:
    """The candidates with what refining left in the run folder, ranked again; rewrites `candidates.csv`."""
    table = table.refined(read_refinements(inputs.folder.refined_path), inputs.config.num_finalists)
    table.write(inputs.folder.candidates_path, inputs.ranks_by_perplexity)
    return table


def refining_recipe(config: RunConfig, resolved: Mapping[str, Any]) -> Recipe:
    """The recipe of the run's SuperLMs but for the number of steps, and the peak learning rate where one is given."""
    steps = steps_alone(config.refine_steps, resolved["train_steps"])
    rate = config.refine_learning_rate or config.learning_rate
    return replace(recipe_of(config, steps), learning_rate=rate)
