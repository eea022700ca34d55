"""The search: an Optuna study over (held-out loss, costs) under hard budgets. The only importer of optuna.

Costs are closed forms, known for every student before anything runs; so infeasible students are told to the study with
their constraint violation and never run, no student is evaluated twice, and a space that is small enough is enumerated.
A trial's sampler is seeded by the seed and the trial's number: an interrupted study goes on as it would have.

Students are asked for in batches, whose size belongs to the sampler, and told in the order of asking: how many are
scored side by side changes nothing. A trial names its student and its driver from the moment it is asked, under the
lock of the storage; so several drivers may search one study, no student is scored twice, and as many as asked are.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import nullcontext, suppress
from dataclasses import dataclass, field, replace
from functools import cached_property
from types import MappingProxyType

import optuna
import pandas as pd
from optuna.exceptions import UpdateFinishedTrialError
from optuna.samplers import BaseSampler, NSGAIISampler, RandomSampler, TPESampler
from optuna.trial import FrozenTrial, Trial, TrialState

from autodistil.space.student import SIZES, Candidate
from autodistil.student_search.problem import SearchProblem
from autodistil.student_search.racing import Score
from autodistil.student_search.samplers.optuna_samplers import grid_parameters, suggest_student
from autodistil.student_search.samplers.surrogate import Surrogate, student_features
from autodistil.student_search.study_storage import StudyStorage, Watch, heartbeat, opening, study_storage

logger = logging.getLogger(__name__)

ENUMERATE_UP_TO = 400
"""`auto` evaluates every feasible student where there are at most so many."""
DEFAULT_TRIALS = 200
"""Students that a sampled search evaluates unless told otherwise."""
POPULATION = 40
"""Trials of a generation of NSGA-II."""
_BARREN_TRIALS = 300
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

SAMPLERS: Mapping[str, Callable[[int], BaseSampler]] = MappingProxyType(
    {
        "nsga2": lambda seed: NSGAIISampler(seed=seed, population_size=POPULATION),
        "tpe": lambda seed: TPESampler(seed=seed),
        "random": lambda seed: RandomSampler(seed=seed),
    }
)
"""Optuna's own samplers of large spaces; `exhaustive` and `gp` (surrogate.py) choose students themselves."""
_BATCHES = MappingProxyType({"exhaustive": 64, "gp": 4, "nsga2": POPULATION, "tpe": 10, "random": POPULATION})
"""Trials that a driver asks for before the first of them is scored. NSGA-II looks back to the last generation only, so
a generation is what one after the other would give. The surrogate and TPE take students in flight for bad ones
(constant liar), and learn more the fewer there are. An enumeration leaves the rest to other drivers."""


def choose_sampler(sampler: str, num_feasible: int, trials: int | None) -> str:
    """What `auto` means: enumerate where it is affordable, else be guided by a surrogate."""
    if sampler != "auto":
        return sampler
    return "exhaustive" if num_feasible <= max(ENUMERATE_UP_TO, trials or 0) else "gp"


def num_evaluations(problem: SearchProblem, sampler: str, trials: int | None) -> int:
    """Students that a search will evaluate: all feasible ones if exhaustive, `trials` at most."""
    num_feasible = int(problem.feasible.sum())
    default = num_feasible if sampler == "exhaustive" else DEFAULT_TRIALS
    return min(num_feasible, trials or default)


@dataclass
class Search:
    """An open study with what it knows.

    Args:
        problem: students, costs and budgets.
        storage: URL of the study's database, or a journal file (`storage.study_storage`).
        name: study name, which begins with `scope`.
        scope: studies of the storage whose names begin so share the scores of students.
        driver: who searches. Two processes of one name must never work at the same time: what another one of this name
            left behind is taken over at once. The empty name is alone with its storage.
        dearest_first: enumerate from the dearest student down instead of from the cheapest up.

    Raises:
        RunError: the storage is damaged, not there or not writable.
    """

    problem: SearchProblem
    storage: str
    name: str
    scope: str = ""
    driver: str = ""
    watch: Watch = field(default_factory=Watch)
    dearest_first: bool = False
    study: optuna.Study = field(init=False)
    known: dict[str, Score] = field(init=False)
    """Scores of all studies of the scope, by student id; of several of one student the one of most texts."""
    mine: dict[str, Score] = field(init=False)
    """Scores of the students evaluated in this study."""
    _where: StudyStorage = field(init=False, repr=False)
    _storage: optuna.storages.BaseStorage = field(init=False, repr=False)

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
            sampler: `exhaustive`, `gp` or a key of `SAMPLERS`.
            trials: see `num_evaluations`.
            seed: decides every draw.
            on_score: called after each student that was evaluated here.

        Returns:
            Student id -> score of the students evaluated in this study, in the order of asking.
        """
        asking = _Asking(sampler, seed, num_evaluations(self.problem, sampler, trials))
        with heartbeat(self.study, self.driver) if self.driver else nullcontext():
            while (batch := self._next_batch(asking)) is not None:
                self._score(batch, score, on_score)
                if not batch:
                    time.sleep(_POLL_S)
        if len(self.mine) < asking.wanted:
            logger.warning("%s found %d of %d students; the rest it never drew", sampler, len(self.mine), asking.wanted)
        return self.mine

    def close(self) -> None:
        """Give back the connections to the storage; the study is not to be used any more."""
        self._where.close(self._storage)

    def _next_batch(self, asking: _Asking) -> list[_Claim] | None:
        """Students to score next; none while other drivers are at work on the last ones, None at the end.

        What this driver left behind, in an earlier life, comes first, together with what was still to be asked then.
        """
        with self._where.lock(self.name):
            running = self._read()
            mine = [claim for claim in running if claim.driver == self.driver]
            claimed = {claim.student_id for claim in running}
            batch = mine + self._ask(asking, claimed, begun=bool(mine))
            if batch or not running:
                return batch or None
            return [self._take(claim) for claim in running if self.watch.gone(self.study, claim.driver)]

    def _read(self) -> list[_Claim]:
        """Read the scores of the study; returns what is being scored, by whomever. Trials of no student fail.

        To be called while the lock is held: nobody is in the middle of asking, so such a trial was left by a process
        that was killed there.
        """
        trials = self.study.get_trials(deepcopy=False)
        self.mine = dict(_scores(trials))
        unfinished = [trial for trial in trials if not trial.state.is_finished()]
        for trial in unfinished:
            if _STUDENT not in trial.user_attrs:
                self.study.tell(trial.number, state=TrialState.FAIL)
        named = [trial for trial in unfinished if _STUDENT in trial.user_attrs]
        return [_Claim(trial, trial.user_attrs[_STUDENT], trial.user_attrs[_DRIVER]) for trial in named]

    def _take(self, claim: _Claim) -> _Claim:
        """Score a student in the place of a driver that is gone: its trial fails, and another one has its student."""
        self.study.tell(claim.trial.number, state=TrialState.FAIL)
        return self._enqueue(claim.student_id)

    def _ask(self, asking: _Asking, claimed: set[str], begun: bool) -> list[_Claim]:
        """Ask for a batch, or for the rest of one that was begun; students that are claimed are not asked again.

        A batch ends where trial numbers are multiples of its size, so that one that was cut short has the same end.
        """
        if asking.sampler == "exhaustive":
            return [] if begun else [self._enqueue(student_id) for student_id in self._by_cost(asking.wanted, claimed)]
        draw = self._sample if asking.sampler in SAMPLERS else self._guide
        size, number = _BATCHES[asking.sampler], len(self.study.get_trials(deepcopy=False))
        batch: list[_Claim] = []
        while (number % size or not (batch or begun)) and not self._enough(asking, claimed):
            claim = draw(asking, claimed, number)
            number += 1
            asking.barren = 0 if claim and claim.student_id not in claimed | self.mine.keys() else asking.barren + 1
            if claim is not None:
                batch.append(claim)
                claimed.add(claim.student_id)
        return batch

    def _enough(self, asking: _Asking, claimed: set[str]) -> bool:
        return len(self.mine.keys() | claimed) >= asking.wanted or asking.barren >= _BARREN_TRIALS

    def _by_cost(self, wanted: int, claimed: set[str]) -> list[str]:
        """Feasible students in the order of what the budgets limit, so that races stop as many as they can."""
        costs = self.problem.budget_costs.assign(flops=self.problem.table["flops"])
        order = costs[self.problem.feasible].sort_values(list(costs.columns), kind="stable").index[:wanted]
        order = order[::-1] if self.dearest_first else order
        missing = [student_id for student_id in order if student_id not in claimed | self.mine.keys()]
        return missing[: _BATCHES["exhaustive"]]

    def _guide(self, asking: _Asking, claimed: set[str], number: int) -> _Claim:
        """The student that a surrogate proposes in view of all before it; those in flight are taken for bad ones."""
        features = self._features
        feasible = features.index
        costs = self.problem.budget_costs.loc[feasible].to_numpy(dtype=float)
        surrogate = Surrogate(features.to_numpy(), costs, asking.seed)
        losses = {student_id: score.loss for student_id, score in self.mine.items()}
        losses |= {student_id: math.inf for student_id in sorted(claimed - losses.keys())}
        rows = [feasible.get_loc(student_id) for student_id in losses]
        return self._enqueue(feasible[surrogate.propose(rows, list(losses.values()))])

    @cached_property
    def _features(self) -> pd.DataFrame:
        """What the surrogate sees of the feasible students, by id."""
        table = self.problem.table[self.problem.feasible]
        axes = [axis for axis in SIZES if axis in table]
        return pd.DataFrame(student_features(table[["sub_space", *axes]]), index=table.index)

    def _sample(self, asking: _Asking, claimed: set[str], number: int) -> _Claim | None:
        """The feasible student that the sampler draws, a repeated one too (its score is known); None if infeasible."""
        self.study.sampler = SAMPLERS[asking.sampler](asking.seed * 1_000_003 + number)
        trial = self.study.ask()
        candidate = suggest_student(trial, self.problem.space)
        if candidate is not None and self.problem.feasible[candidate.id]:
            return self._claim(trial, candidate.id)
        self._refuse(trial, candidate)
        return None

    def _enqueue(self, student_id: str) -> _Claim:
        """A trial of a given student."""
        self.study.enqueue_trial(self._parameters[student_id])
        self.study.sampler = RandomSampler()  # has nothing to draw
        trial = self.study.ask()
        candidate = suggest_student(trial, self.problem.space)
        assert candidate is not None
        assert candidate.id == student_id
        return self._claim(trial, student_id)

    @cached_property
    def _parameters(self) -> dict[str, dict[str, str | int]]:
        return grid_parameters(self.problem.space)

    def _claim(self, trial: Trial, student_id: str) -> _Claim:
        """Say in the study that this driver scores a student; with the student's name, which comes last, it holds."""
        self._constrain(trial, student_id)
        trial.set_user_attr(_DRIVER, self.driver)
        trial.set_user_attr(_STUDENT, student_id)
        return _Claim(trial, student_id, self.driver)

    def _refuse(self, trial: Trial, candidate: Candidate | None) -> None:
        """Tell the violation and infinite loss of what is not run."""
        costs = [math.inf] * (len(self.study.directions) - 1)
        if candidate is None:
            trial.set_constraint("shape rule", 1.0)
        else:
            self._constrain(trial, candidate.id)
            costs = self.problem.budget_costs.loc[candidate.id].tolist()
        self.study.tell(trial, [math.inf, *costs])

    def _constrain(self, trial: Trial, student_id: str) -> None:
        for text, excess in self.problem.excess.loc[student_id].items():
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
        if isinstance(claim.trial, FrozenTrial):
            self.study.sampler = RandomSampler()  # has nothing to draw
            claim = replace(claim, trial=Trial(self.study, claim.trial._trial_id))
        assert isinstance(claim.trial, Trial)
        loss = math.inf if math.isnan(score.loss) else score.loss  # Optuna takes no NaN
        with suppress(UpdateFinishedTrialError):
            claim.trial.set_user_attr(_TEXTS, score.texts)
            costs = self.problem.budget_costs.loc[claim.student_id].tolist()
            self.study.tell(claim.trial, [loss, *costs], skip_if_finished=True)


@dataclass(frozen=True)
class _Claim:
    """A trial whose student a driver is to score."""

    trial: Trial | FrozenTrial
    student_id: str
    driver: str


@dataclass
class _Asking:
    """How students are asked for."""

    sampler: str
    seed: int
    wanted: int
    barren: int = 0
    """Trials in a row without a new feasible student."""


def _scores(trials: Sequence[FrozenTrial]) -> Iterator[tuple[str, Score]]:
    """Students that were evaluated, with their scores; those of older releases, without text losses, do not compare."""
    for trial in trials:
        attributes = trial.user_attrs
        if trial.state == TrialState.COMPLETE and _STUDENT in attributes and _TEXTS in attributes:
            yield attributes[_STUDENT], Score(trial.values[0], tuple(attributes[_TEXTS]))
