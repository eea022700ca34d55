"""A search tried a little, to time it: some steps, some scores, and all of that is thrown away.

SuperLMs start from the teacher as in a search and take some steps side by side, three of the feasible students are
scored, and the costliest takes some steps alone. Weights change no time, so trained SuperLMs do as well as others.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from statistics import mean

from autodistil.models.superlm import SuperLM
from autodistil.run.run import Run
from autodistil.run.teacher_text import BLOCK
from autodistil.space.space import SubSpace
from autodistil.space.student import Candidate
from autodistil.stages.searching import needed_sub_spaces
from autodistil.stages.training import num_parameters, time_steps, trial_alone, trial_trainers
from autodistil.stages.training_length import StepTimes
from autodistil.student_search.problem import SearchProblem
from autodistil.training.checkpoint import checkpoint_tensors
from autodistil.training.trainer import SuperLMTrainer

PATIENCE = 10.0
"""Seconds after which no further step is timed, once there are four."""

WRITTEN = 1_000_000 * BLOCK
"""Step whose text is written to time that: no run has it yet."""
_WEIGHT_BYTES = 4
"""Of a parameter: SuperLMs are in float32."""


@dataclass(frozen=True)
class Trial:
    """What a search under some budgets would do, tried a little; each piece is made when it is first needed."""

    run: Run
    """Files that it lacks are made when they are first needed, so it is one of `Run.only_read`."""
    problem: SearchProblem
    """As it is searched."""

    @cached_property
    def needed(self) -> list[SubSpace]:
        """Sub-spaces of which the budgets admit some student."""
        return needed_sub_spaces(self.problem)

    @cached_property
    def used(self) -> list[SubSpace]:
        """Sub-spaces whose SuperLMs the search needs, an assistant's among them."""
        return self.run.superlms.with_assistant(self.needed)

    @cached_property
    def missing(self) -> list[SubSpace]:
        """Those of them that are not trained yet."""
        return [sub for sub in self.used if not self.run.superlms.is_trained(sub)]

    @cached_property
    def by_cost(self) -> list[str]:
        """Ids of the feasible students, that of the fewest FLOPs first."""
        table = self.problem.table[self.problem.feasible]
        return [str(student_id) for student_id in table["flops"].sort_values(kind="stable").index]

    # ---- training

    @cached_property
    def writing_seconds(self) -> float | None:
        """Of a step's text that the teacher writes; None where it writes none, or workers train.

        It writes that of `BLOCK` steps at once.
        """
        config = self.run.config
        if not config.teacher_text or config.workers:
            return None
        start = time.perf_counter()
        with self.run.progress.track("timing the teacher's writing", 0):
            _ = self.run.inputs.text.step_samples(WRITTEN)
        return (time.perf_counter() - start) / BLOCK

    @cached_property
    def _new(self) -> Mapping[str, SuperLMTrainer]:
        _ = self.run.inputs.training_text  # refuses another text than the run's
        made = trial_trainers(self.run.inputs, (self.run.superlms.new(sub) for sub in self.missing))
        return {trainer.name: trainer for trainer in made}

    @cached_property
    def step_times(self) -> StepTimes | None:
        """Of steps of all that is to be trained, side by side; None where that is nothing, or workers do it."""
        return self._tried("timing steps of the training", list(self._new.values()))

    @property
    def trainers(self) -> Mapping[str, SuperLMTrainer]:
        """What trains the SuperLMs that are missing, by name, after the steps of `step_times`."""
        _ = self.step_times
        return self._new

    @cached_property
    def alone(self) -> SuperLMTrainer | None:
        """What refines the costliest student, as the best is among those; None where none is refined."""
        if not self.run.config.num_finalists:
            return None
        return trial_alone(self.run.inputs, self.run.superlms, self.trainers.values(), self.problem.costliest)

    @cached_property
    def alone_times(self) -> StepTimes | None:
        """Of steps of the costliest student alone; None as above."""
        return self._tried("timing steps of a refinement", [] if self.alone is None else [self.alone])

    def _tried(self, doing: str, trainers: Sequence[SuperLMTrainer]) -> StepTimes | None:
        if not trainers or self.run.config.workers:
            return None
        with self.run.progress.track(doing, 0):
            return time_steps(self.run.inputs, self.run.superlms, trainers, PATIENCE)

    # ---- scoring

    @cached_property
    def score_seconds(self) -> float | None:
        """Mean seconds of scoring the cheapest, the costliest and a middle student; None where workers do it."""
        if self.run.config.workers:
            return None
        ids = self.by_cost
        return mean(self._scored_in(student_id) for student_id in {ids[0], ids[len(ids) // 2], ids[-1]})

    def _scored_in(self, student_id: str) -> float:
        """Seconds of scoring a student on held-out text that is read before."""
        candidate = self.problem.candidates[student_id]
        heldout, superlm = self.run.scorer.heldout_for(candidate.config), self._superlm_of(candidate)
        start = time.perf_counter()
        heldout.loss(superlm, candidate.config)
        return time.perf_counter() - start

    def _superlm_of(self, candidate: Candidate) -> SuperLM:
        """The SuperLM that holds a candidate, trained or not."""
        trainer = self.trainers.get(candidate.sub_space)
        return self.run.superlms.of(candidate) if trainer is None else trainer.superlm


def weight_bytes(trainer: SuperLMTrainer) -> int:
    """Bytes of the weights."""
    return _WEIGHT_BYTES * num_parameters(trainer.superlm)


def state_bytes(trainer: SuperLMTrainer) -> int:
    """Bytes of weights and moments after some steps; before any as if all weights had both moments."""
    held = sum(value.nbytes for value in checkpoint_tensors(trainer).values())
    return held if trainer.optimizer.state else 3 * held
