"""The search: an Optuna study over (held-out loss, costs) under hard budgets, whose students a sampler proposes.

Costs are closed forms, known for every student before anything runs; so infeasible students are told to the study with
their constraint violation and never run, no student is evaluated twice, and a space that is small enough is enumerated.

Students are asked for in batches, whose size belongs to the sampler, and told in the order of asking: how many are
scored side by side changes nothing. A trial names its student and its driver from the moment it is asked, under the
lock of the storage; so several drivers may search one study, no student is scored twice, and as many as asked are.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import nullcontext, suppress
from dataclasses import dataclass, field
from pathlib import Path

import optuna
from optuna.exceptions import UpdateFinishedTrialError
from optuna.samplers import BaseSampler
from optuna.trial import FrozenTrial, Trial, TrialState

from autodistil.space.student import Candidate
from autodistil.student_search.problem import SearchProblem
from autodistil.student_search.racing import Score
from autodistil.student_search.samplers import SAMPLERS
from autodistil.student_search.samplers.optuna_samplers import distributions_of, parameters_of, suggest_student
from autodistil.student_search.samplers.sampler import Sampler, View
from autodistil.student_search.study_storage import StudyStorage, Watch, heartbeat, opening, study_storage, working

logger = logging.getLogger(__name__)

ENUMERATE_UP_TO = 400
"""`auto` evaluates every feasible student where there are at most so many, unless told how many to evaluate."""
DEFAULT_TRIALS = 200
"""Students that a sampled search evaluates unless told otherwise."""
_MAX_MISSES = 300
"""Trials in a row without a new feasible student after which a sampler has shown all it finds."""
_STUDENT, _DRIVER = "student", "driver"
"""Attributes of a trial whose student is or was evaluated: the student's id, and who does it."""
_TEXTS = "text losses"
"""Attribute of a trial that was evaluated: the losses of the texts that its student was scored on."""
_POLL_S = 1.0
"""Seconds between two looks at what other drivers are doing."""

ScoreStudents = Callable[[Sequence[tuple[Candidate, Score | None]]], Iterable[Score]]
"""Students, each with what is known of it from another study -> their scores in this order, each as soon as it can be
told."""


def choose_sampler(sampler: str, num_feasible: int, trials: int | None, listed: bool = True) -> str:
    """What `auto` means: enumerate where that is affordable and wanted, else be guided by a surrogate.

    Args:
        sampler: what was asked for.
        num_feasible: students within the budgets.
        trials: how many to evaluate, if that was said.
        listed: whether the space lists all its students; where not, they are evolved.
    """
    if sampler != "auto":
        return sampler
    if not listed:
        return "evolution"
    return "exhaustive" if num_feasible <= (trials or ENUMERATE_UP_TO) else "gp"


def num_evaluations(problem: SearchProblem, sampler: str, trials: int | None) -> int:
    """Students that a search will evaluate: all feasible ones if exhaustive, `trials` at most."""
    if not (problem.space.is_listed or SAMPLERS[sampler].listed):
        return trials or DEFAULT_TRIALS
    num_feasible = int(problem.feasible.sum())
    default = num_feasible if sampler == "exhaustive" else DEFAULT_TRIALS
    return min(num_feasible, trials or default)


@dataclass
class Search:
    """An open study with what it knows.

    Args:
        problem: students, costs and budgets.
        storage: SQLite file, URL of the study's database, or a journal file (`study_storage.study_storage`).
        name: study name, which begins with `scope`.
        scope: studies of the storage whose names begin so share the scores of students.
        driver: who searches. Two processes of one name must never work at the same time: what another one of this name
            left behind is taken over at once. The empty name is alone with its storage.
        expensive_first: see `Sampler`.

    Raises:
        RunError: the storage is damaged, not there or not writable.
    """

    problem: SearchProblem
    storage: str | Path
    name: str
    scope: str = ""
    driver: str = ""
    watch: Watch = field(default_factory=Watch)
    expensive_first: bool = False
    study: optuna.Study = field(init=False)
    known: dict[str, Score] = field(init=False)
    """Scores of all studies of the scope, by student id; of several of one student the one of most texts."""
    mine: dict[str, Score] = field(init=False)
    """Scores of the students evaluated in this study."""
    _where: StudyStorage = field(init=False, repr=False)
    _storage: optuna.storages.BaseStorage = field(init=False, repr=False)
    _drawn: dict[str, Trial] = field(default_factory=dict, init=False, repr=False)
    """Trials whose student a sampler of Optuna's drew just now, by its id."""
    _misses: int = field(default=0, init=False, repr=False)
    """Trials in a row without a new feasible student."""

    def __post_init__(self) -> None:
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self._where = where = study_storage(self.storage)
        with opening(self.storage), where.lock(self.name):
            self._storage = storage = where.open()
            self.study = optuna.create_study(
                storage=storage,
                study_name=self.name,
                directions=["minimize"] * (1 + len(self.problem.budget_costs.columns)),
                load_if_exists=True,
            )
            names = [name for name in optuna.get_all_study_names(storage) if name.startswith(self.scope)]
            trials = [optuna.load_study(study_name=name, storage=storage).trials for name in names]
        every = sorted((pair for part in trials for pair in _scores(part)), key=lambda pair: len(pair[1].texts))
        self.known, self.mine = dict(every), dict(_scores(self.study.trials))

    def run(
        self,
        score: ScoreStudents,
        sampler: str,
        trials: int | None,
        seed: int,
        on_score: Callable[[str, float], None] = lambda student_id, loss: None,
    ) -> dict[str, Score]:
        """Search until the asked number of students is evaluated, those of other drivers and earlier runs included.

        Args:
            score: called for feasible students only, with each at most once.
            sampler: key of `SAMPLERS`.
            trials: see `num_evaluations`.
            seed: decides every draw.
            on_score: called after each student that was evaluated here.

        Returns:
            Student id -> score of the students evaluated in this study, in the order of asking.
        """
        wanted = num_evaluations(self.problem, sampler, trials)
        proposing, self._misses = SAMPLERS[sampler](self.problem, wanted, seed, self.expensive_first), 0
        with heartbeat(self.study, self.driver) if self.driver else nullcontext():
            while (batch := self._next_batch(proposing)) is not None:
                self._score(batch, score, on_score)
                if not batch:
                    time.sleep(_POLL_S)
        if len(self.mine) < wanted:
            logger.warning("%s found %d of %d students; the rest it never drew", sampler, len(self.mine), wanted)
        return self.mine

    def close(self) -> None:
        """Give back the connections to the storage; the study is not to be used any more."""
        self._where.close(self._storage)

    def _next_batch(self, sampler: Sampler) -> list[_Claim] | None:
        """Students to score next; none while other drivers are at work on the last ones, None at the end.

        What this driver left behind, in an earlier life, comes first, together with what was still to be asked then.
        """
        with working(self.storage), self._where.lock(self.name):
            running = self._read()
            mine = [claim for claim in running if claim.driver == self.driver]
            claimed = {claim.student_id for claim in running}
            batch = mine + self._ask(sampler, claimed, begun=bool(mine))
            if batch or not running:
                return batch or None
            dead = [claim for claim in running if self.watch.gone(self.study, claim.driver)]
            for claim in dead:  # its student gets a trial of this driver's
                self.study.tell(claim.trial.number, state=TrialState.FAIL)
            return [self._claim(claim.student_id) for claim in dead]

    def _read(self) -> list[_Claim]:
        """Read the scores of the study; returns what is being scored, by whomever. Trials of no student fail.

        To be called while the lock is held: nobody is in the middle of asking, so such a trial was left by a process
        that was killed there.
        """
        trials = self.study.get_trials(deepcopy=False)
        self.mine = dict(_scores(trials))
        self.problem = self.problem.including(self.mine)
        unfinished = [trial for trial in trials if not trial.state.is_finished()]
        for trial in unfinished:
            if _STUDENT not in trial.user_attrs:
                self.study.tell(trial.number, state=TrialState.FAIL)
        named = [trial for trial in unfinished if _STUDENT in trial.user_attrs]
        self.problem = self.problem.including(trial.user_attrs[_STUDENT] for trial in named)
        return [_Claim(trial, trial.user_attrs[_STUDENT], trial.user_attrs[_DRIVER]) for trial in named]

    def _ask(self, sampler: Sampler, claimed: set[str], begun: bool) -> list[_Claim]:
        """Ask for a batch, or for the rest of one that was begun; students that are claimed are not asked again.

        A batch ends where trial numbers are multiples of its size, so that one that was cut short has the same end.
        """
        number = len(self.study.get_trials(deepcopy=False))
        batch: list[_Claim] = []
        while len(self.mine.keys() | claimed) < sampler.wanted and self._misses < _MAX_MISSES:
            room = sampler.batch - number % sampler.batch
            if room == sampler.batch and (batch or begun):
                break
            losses = {student_id: score.loss for student_id, score in self.mine.items()}
            proposed = sampler.propose(View(losses, claimed, number, self._draw))[:room]
            self.problem = self.problem.including(proposed)
            fresh = set(proposed) - claimed - self.mine.keys()
            self._misses = 0 if fresh else self._misses + 1
            batch += [self._claim(student_id) for student_id in proposed]
            claimed |= fresh
            number += max(1, len(proposed))
        return batch

    def _draw(self, sampler: BaseSampler) -> list[str]:
        """Ask for a trial as `View.draw` does; what is infeasible is told to the study, with an infinite loss."""
        trial, candidate = self._suggested(sampler)
        costs = [math.inf] * (len(self.study.directions) - 1)
        if candidate is None:
            trial.set_constraint("shape rule", 1.0)
        else:
            costed = self.problem.including([candidate.id])
            if costed.feasible[candidate.id]:
                self.problem, self._drawn[candidate.id] = costed, trial
                return [candidate.id]
            self._constrain(trial, candidate.id, costed)
            costs = costed.budget_costs.loc[candidate.id].tolist()
        self.study.tell(trial, [math.inf, *costs])
        return []

    def _suggested(self, sampler: BaseSampler) -> tuple[Trial, Candidate | None]:
        """A new trial, and the student that the sampler draws in it."""
        self.study.sampler = sampler
        trial = self.study.ask()
        return trial, suggest_student(trial, self.problem.space)

    def _claim(self, student_id: str) -> _Claim:
        """Say in the study that this driver scores a student; with the student's name, which comes last, it holds."""
        trial = self._drawn.pop(student_id, None)
        if trial is None:
            return _Claim(self._added(student_id), student_id, self.driver)
        self._constrain(trial, student_id, self.problem)
        trial.set_user_attr(_DRIVER, self.driver)
        trial.set_user_attr(_STUDENT, student_id)
        return _Claim(trial, student_id, self.driver)

    def _added(self, student_id: str) -> FrozenTrial:
        """A trial of a student that no sampler of Optuna's drew: written at once, a transaction in all."""
        space, candidate = self.problem.space, self.problem.candidates[student_id]
        excess = {str(text): float(value) for text, value in self.problem.excess.loc[student_id].items()}
        trial = optuna.trial.create_trial(
            state=TrialState.RUNNING,
            params=parameters_of(space, candidate),
            distributions=distributions_of(space, candidate),
            user_attrs={_DRIVER: self.driver, _STUDENT: student_id},
            constraints=excess,
        )
        storage, study = self.study._storage, self.study._study_id
        return storage.get_trial(storage.create_new_trial(study, template_trial=trial))

    def _constrain(self, trial: Trial, student_id: str, problem: SearchProblem) -> None:
        for text, excess in problem.excess.loc[student_id].items():
            trial.set_constraint(str(text), float(excess))

    def _score(self, batch: Sequence[_Claim], score: ScoreStudents, on_score: Callable[[str, float], None]) -> None:
        """Score the students of a batch and tell their losses in order; one that was drawn twice is scored once."""
        fresh = dict.fromkeys(claim.student_id for claim in batch if claim.student_id not in self.mine)
        asked = [(self.problem.candidates[student_id], self.known.get(student_id)) for student_id in fresh]
        scores = iter(score(asked) if asked else ())
        for claim in batch:
            first = claim.student_id not in self.mine
            if first:
                self.known[claim.student_id] = self.mine[claim.student_id] = next(scores)
            self._tell(claim, self.mine[claim.student_id])
            if first:
                on_score(claim.student_id, self.mine[claim.student_id].loss)

    def _tell(self, claim: _Claim, score: Score) -> None:
        """Report a student's loss and costs. What another driver told that took this one for dead stays."""
        loss = math.inf if math.isnan(score.loss) else score.loss  # Optuna takes no NaN
        with working(self.storage), suppress(UpdateFinishedTrialError):
            self.study._storage.set_trial_user_attr(claim.trial._trial_id, _TEXTS, score.texts)
            costs = self.problem.budget_costs.loc[claim.student_id].tolist()
            self.study.tell(claim.trial.number, [loss, *costs], skip_if_finished=True)


@dataclass(frozen=True)
class _Claim:
    """A trial whose student a driver is to score."""

    trial: Trial | FrozenTrial
    student_id: str
    driver: str


def _scores(trials: Sequence[FrozenTrial]) -> Iterator[tuple[str, Score]]:
    """Students that were evaluated, with their scores; those of older releases, without text losses, do not compare."""
    for trial in trials:
        attributes = trial.user_attrs
        if trial.state == TrialState.COMPLETE and _STUDENT in attributes and _TEXTS in attributes:
            yield attributes[_STUDENT], Score(trial.values[0], tuple(attributes[_TEXTS]))
