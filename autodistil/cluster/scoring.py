"""Students scored by a pool of Ray actors, each of which holds the SuperLMs, loaded once.

What actors need (SuperLMs, held-out batches, the teacher's states) goes through Ray's object store, so that they need
neither the run folder nor the teacher. An actor that is lost is replaced, and its block is scored again by whoever is
free; a replacement that finds no place in the cluster keeps nobody waiting.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from typing import TYPE_CHECKING

from autodistil.cluster.ray_session import check_resources, ray_session
from autodistil.config import RunConfig
from autodistil.evaluation.heldout import HeldOutScorer
from autodistil.space.student import Candidate
from autodistil.student_search.racing import Race, Score, score_ahead
from autodistil.student_search.study import ScoreStudents
from autodistil.utils import Progress

if TYPE_CHECKING:
    from autodistil.cluster.scoring_actors import ScoringPool


@contextmanager
def scoring_pool(
    config: RunConfig, progress: Progress, race: Race, scorer: HeldOutScorer, candidates: Sequence[Candidate]
) -> Iterator[ScoreStudents]:
    """Scores students on a Ray cluster, which is reached (or started) when the first one must be.

    Args:
        config: how many actors there are, what each needs, and where.
        progress: told where they are.
        race: how long students are scored.
        scorer: what actors hold, of what `candidates` need.
        candidates: all that may be asked for.
    """
    pools: list[ScoringPool] = []
    with ExitStack() as stack:

        def score(students: Sequence[tuple[Candidate, Score | None]]) -> Iterator[Score]:
            if not pools:
                session = stack.enter_context(ray_session(config.address, progress))
                check_resources(session, config)
                from autodistil.cluster.scoring_actors import ScoringPool

                pools.append(stack.enter_context(closing(ScoringPool(scorer.loaded(candidates), config))))
            return score_ahead(race, pools[0], students)

        yield score
