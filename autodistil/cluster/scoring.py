"""Students scored by a pool of Ray actors, each of which holds the SuperLMs, loaded once.

What actors need (SuperLMs, held-out batches, the teacher's states) goes through Ray's object store, so that they need
neither the run folder nor the teacher. An actor that is lost is replaced, and its block is scored again by whoever is
free; a replacement that finds no place in the cluster keeps nobody waiting.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from autodistil.cluster.ray_session import check_resources, ray_session
from autodistil.evaluation.heldout import HeldOut
from autodistil.models.superlm import SuperLM
from autodistil.run.run import RunContext
from autodistil.space.space import SubSpace
from autodistil.space.student import Candidate, StudentConfig
from autodistil.student_search.problem import SearchProblem
from autodistil.student_search.racing import Losses, Race, Score, score_ahead
from autodistil.student_search.study import ScoreStudents

if TYPE_CHECKING:
    from autodistil.cluster.scoring_actors import ScoringPool


@dataclass(frozen=True)
class Scorer:
    """All that is needed to score the students of a search."""

    superlms: dict[str, SuperLM]
    """By sub-space."""
    heldout: dict[int | None, HeldOut]
    """By vocabulary size."""

    @classmethod
    def of_run(cls, context: RunContext, students: Iterable[Candidate]) -> Scorer:
        """What a run's students need; its SuperLMs must have been trained."""
        subs: dict[str, SubSpace] = {}
        sizes: dict[int | None, StudentConfig] = {}
        for student in students:
            subs[student.sub_space] = context.space.sub_space(student.sub_space)
            sizes.setdefault(student.config.vocab_size, student.config)
        superlms = {name: context.trained_superlm(sub) for name, sub in subs.items()}
        return cls(superlms, {size: context.heldout_for(student) for size, student in sizes.items()})

    def losses(self, student: Candidate, number: int) -> Losses:
        """Losses of the texts of a held-out block, (texts,)."""
        superlm, heldout = self.superlms[student.sub_space], self.heldout[student.config.vocab_size]
        with torch.no_grad():
            return heldout.losses_of(heldout.forward_of(superlm, student.config), number)


@contextmanager
def scoring_pool(context: RunContext, problem: SearchProblem, race: Race) -> Iterator[ScoreStudents]:
    """Scores the students of a search on a Ray cluster, which is reached (or started) when the first one must be."""
    pools: list[ScoringPool] = []
    with ExitStack() as stack:

        def score(students: Sequence[tuple[Candidate, Score | None]]) -> Iterator[Score]:
            if not pools:
                session = stack.enter_context(ray_session(context.config.address, context.progress))
                check_resources(session, context.config)
                from autodistil.cluster.scoring_actors import ScoringPool

                feasible = problem.feasible.index[problem.feasible]
                scorer = Scorer.of_run(context, [problem.candidates[student_id] for student_id in feasible])
                pools.append(stack.enter_context(closing(ScoringPool(scorer, context.config))))
            return score_ahead(race, pools[0], students)

        yield score
