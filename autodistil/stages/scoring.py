"""Scores of students on held-out text, as a race asks for them: by this process, or by actors of a Ray cluster."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext

import numpy as np
from numpy.typing import NDArray

from autodistil.context import RunContext
from autodistil.evaluation.heldout import batch_sizes
from autodistil.spaces import Candidate
from autodistil.student_search.racing import Race, Score
from autodistil.student_search.study import ScoreStudents, SearchProblem


def race_of(context: RunContext, problem: SearchProblem) -> Race:
    """The race that the students of a search run against each other."""
    feasible = problem.budget_costs[problem.feasible]
    costs = dict(zip(feasible.index, feasible.itertuples(index=False, name=None), strict=True))
    return Race(batch_sizes(context.heldout_texts), costs, context.config.racing)


def scoring(context: RunContext, problem: SearchProblem, race: Race) -> AbstractContextManager[ScoreStudents]:
    """Opens what scores students on as much held-out text as the race asks for."""
    if not context.config.workers:
        return nullcontext(_in_turn(context, race))
    from autodistil.cluster.scoring import scoring_pool

    return scoring_pool(context, problem, race)


def _in_turn(context: RunContext, race: Race) -> ScoreStudents:
    """One student after the other, here."""

    def score(students: Sequence[tuple[Candidate, Score | None]]) -> Iterator[Score]:
        for candidate, known in students:
            student, superlm = candidate.config, context.trained_superlm(context.space.sub_space(candidate.sub_space))
            heldout, weights = context.heldout_for(student), superlm.weights(student)

            def losses(number: int) -> NDArray[np.float64]:
                return heldout.text_losses(superlm, student, number, weights)  # noqa: B023  used before the next turn

            yield race.score(candidate.id, losses, known.texts if known else ())

    return score
