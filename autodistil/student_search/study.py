"""The search: an Optuna study over (held-out loss, costs) under hard budgets. The only importer of optuna.

Costs are closed forms, known for every student before anything runs; so infeasible students are told to the study with
their constraint violation and never run, no student is evaluated twice, and a space that is small enough is enumerated.
A trial's sampler is seeded by the seed and the trial's number: an interrupted study goes on as it would have.
"""

from __future__ import annotations

import logging
import math
import sqlite3
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import product
from types import MappingProxyType
from typing import Any

import optuna
import pandas as pd
from optuna.samplers import BaseSampler, NSGAIISampler, RandomSampler, TPESampler
from optuna.storages import RDBStorage
from optuna.trial import FrozenTrial, Trial, TrialState
from sqlalchemy.exc import SQLAlchemyError

from autodistil.costs import Budget, EncoderShape, budget_cost, cost_table
from autodistil.errors import BudgetError, RunError
from autodistil.spaces import DIMENSIONS, OPTIONAL_AXES, Candidate, SearchSpace
from autodistil.student_search.racing import Score
from autodistil.student_search.surrogate import Surrogate, student_features

logger = logging.getLogger(__name__)

ENUMERATE_UP_TO = 400
"""`auto` evaluates every feasible student where there are at most so many."""
DEFAULT_TRIALS = 200
"""Students that a sampled search evaluates unless told otherwise."""
_BARREN_TRIALS = 300
"""Trials in a row without a new feasible student after which a sampler has shown all it finds."""
_STUDENT = "student"
"""Attribute of a trial: the id of its student, where it was evaluated."""
_TEXTS = "text losses"
"""Attribute of a trial beside it: the losses of the texts that its student was scored on."""

SAMPLERS: Mapping[str, Callable[[int], BaseSampler]] = MappingProxyType(
    {
        "nsga2": lambda seed: NSGAIISampler(seed=seed, population_size=40),
        "tpe": lambda seed: TPESampler(seed=seed),
        "random": lambda seed: RandomSampler(seed=seed),
    }
)
"""Optuna's own samplers of large spaces; `exhaustive` and `gp` (surrogate.py) choose students themselves."""


@dataclass(frozen=True)
class SearchProblem:
    """What is searched: students with their costs, and the budgets they must meet."""

    space: SearchSpace
    shape: EncoderShape
    budgets: tuple[Budget, ...]
    seq_len: int
    """Length at which FLOPs are counted for budgets that name none."""

    @cached_property
    def candidates(self) -> dict[str, Candidate]:
        """All students by id."""
        return {candidate.id: candidate for candidate in self.space.candidates}

    @cached_property
    def table(self) -> pd.DataFrame:
        """The cost table of all students, by id."""
        return cost_table(self.space.candidates, self.shape, self.seq_len).set_index("id", drop=False)

    @cached_property
    def budget_costs(self) -> pd.DataFrame:
        """Per budget (columns: its text) the cost it limits, by id; FLOPs at `seq_len` where there is no budget."""
        students = [candidate.config for candidate in self.space.candidates]
        costs = {b.text: budget_cost(b, students, self.shape, self.seq_len) for b in self.budgets}
        return pd.DataFrame(costs or {"flops": self.table["flops"].to_numpy(dtype=float)}, index=self.table.index)

    @cached_property
    def excess(self) -> pd.DataFrame:
        """Relative excess over each budget (columns: its text), feasible at <= 0."""
        columns = {budget.text: budget.excess(self.budget_costs[budget.text]) for budget in self.budgets}
        return pd.DataFrame(columns, index=self.table.index)

    @cached_property
    def feasible(self) -> pd.Series:
        """Which students meet every budget, by id."""
        return (self.excess <= 0).all(axis=1)

    def check_feasible(self) -> None:
        """Refuse budgets that no student meets.

        Raises:
            BudgetError: names the student that comes closest.
        """
        if self.feasible.any():
            return
        closest = self.excess.max(axis=1).idxmin()
        costs = ", ".join(
            f"{text} -> {describe_cost(budget, float(self.budget_costs.loc[closest, text]))}"
            for text, budget in zip(self.excess.columns, self.budgets, strict=True)
        )
        raise BudgetError(
            f"no student of space {self.space.name!r} meets {' and '.join(self.excess.columns)}; "
            f"the cheapest is {closest} ({costs}); raise the budget, or give --space smaller students"
        )

    def binding(self) -> dict[str, bool]:
        """Budget text -> whether it keeps any student out."""
        return {text: bool((self.excess[text] > 0).any()) for text in self.excess.columns}


def describe_cost(budget: Budget, value: float) -> str:
    """A cost in the unit of its budget, such as `412.3 MFLOPs`."""
    if budget.cost == "size_mb":
        return f"{value:.1f} MB"
    unit = {"flops": "FLOPs", "params": "params"}[budget.cost]
    for scale, prefix in ((1e9, "G"), (1e6, "M"), (1e3, "K")):
        if value >= scale:
            return f"{value / scale:.4g} {prefix}{unit}"
    return f"{value:.0f} {unit}"


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
        storage: URL of the study's database.
        name: study name; studies of one storage share the scores of students.
        dearest_first: enumerate from the dearest student down instead of from the cheapest up.

    Raises:
        RunError: the storage is damaged or not writable.
    """

    problem: SearchProblem
    storage: str
    name: str
    dearest_first: bool = False
    study: optuna.Study = field(init=False)
    known: dict[str, Score] = field(init=False)
    """Scores of all studies of the storage, by student id; of several of one student the one of most texts."""
    mine: dict[str, Score] = field(init=False)
    """Scores of the students evaluated in this study."""

    def __post_init__(self) -> None:
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        try:
            self.study = optuna.create_study(
                storage=RDBStorage(self.storage),
                study_name=self.name,
                directions=["minimize"] * (1 + len(self.problem.budget_costs.columns)),
                load_if_exists=True,
            )
            self._clear_interrupted()
            studies = optuna.get_all_study_names(self.storage)
            trials = [optuna.load_study(study_name=name, storage=self.storage).trials for name in studies]
        except (SQLAlchemyError, sqlite3.Error, OSError, RuntimeError, ValueError) as error:
            reason = " ".join(str(error).split())[:150]
            raise RunError(f"study {self.storage!r} cannot be opened ({reason}); remove it to search again") from error
        every = sorted((pair for part in trials for pair in _scores(part)), key=lambda pair: len(pair[1].texts))
        self.known, self.mine = dict(every), dict(_scores(self.study.trials))

    def run(
        self,
        score: Callable[[Candidate, Score | None], Score],
        sampler: str,
        trials: int | None,
        seed: int,
        on_score: Callable[[str, float], None] = lambda student_id, loss: None,
    ) -> dict[str, Score]:
        """Search until the asked number of students is evaluated, those of an interrupted run included.

        Args:
            score: student, and what is known of it from another study -> its score; called for feasible students
                only, once each.
            sampler: `exhaustive`, `gp` or a key of `SAMPLERS`.
            trials: see `num_evaluations`.
            seed: decides every draw.
            on_score: called after each evaluated student.

        Returns:
            Student id -> score of the students evaluated in this study, in the order of their evaluation.
        """
        wanted = num_evaluations(self.problem, sampler, trials)
        for trial, candidate in self._asked(sampler, seed, wanted):
            fresh = candidate.id not in self.mine
            found = score(candidate, self.known.get(candidate.id)) if fresh else self.mine[candidate.id]
            self.known[candidate.id] = self.mine[candidate.id] = found
            self._tell(trial, candidate.id, found)
            if fresh:
                on_score(candidate.id, found.loss)
        return self.mine

    def _asked(self, sampler: str, seed: int, wanted: int) -> Iterator[tuple[Trial, Candidate]]:
        """The students to evaluate, each with its trial."""
        if sampler in SAMPLERS:
            return self._sample(sampler, seed, wanted)
        chosen = self._by_cost(wanted) if sampler == "exhaustive" else self._guided(seed, wanted)
        return self._trials_of(chosen)

    def _by_cost(self, wanted: int) -> Iterator[str]:
        """Feasible students in the order of what the budgets limit, so that races stop as many as they can."""
        costs = self.problem.budget_costs.assign(flops=self.problem.table["flops"])
        order = costs[self.problem.feasible].sort_values(list(costs.columns), kind="stable").index[:wanted]
        order = order[::-1] if self.dearest_first else order
        return (student_id for student_id in order if student_id not in self.mine)

    def _guided(self, seed: int, wanted: int) -> Iterator[str]:
        """Feasible students that a surrogate proposes, each in view of all before it."""
        feasible = self.problem.feasible[self.problem.feasible].index
        rows = {student_id: row for row, student_id in enumerate(feasible)}
        axes = [axis for axis in (*DIMENSIONS, *OPTIONAL_AXES) if axis in self.problem.table]
        features = student_features(self.problem.table.loc[feasible, ["sub_space", *axes]])
        surrogate = Surrogate(features, self.problem.budget_costs.loc[feasible].to_numpy(dtype=float), seed)
        while len(self.mine) < wanted:
            losses = [score.loss for score in self.mine.values()]
            yield feasible[surrogate.propose([rows[student_id] for student_id in self.mine], losses)]

    def _trials_of(self, chosen: Iterator[str]) -> Iterator[tuple[Trial, Candidate]]:
        """Trials in which the study is told to draw the chosen students."""
        parameters = _grid_parameters(self.problem.space)
        for student_id in chosen:
            self.study.enqueue_trial(parameters[student_id])
            trial = self.study.ask()
            candidate = _suggest_student(trial, self.problem.space)
            assert candidate is not None
            assert candidate.id == student_id
            yield trial, candidate

    def _sample(self, sampler: str, seed: int, wanted: int) -> Iterator[tuple[Trial, Candidate]]:
        """Feasible students that the sampler draws, repeated ones too (their score is known)."""
        barren = 0
        while len(self.mine) < wanted and barren < _BARREN_TRIALS:
            before = len(self.mine)
            self.study.sampler = SAMPLERS[sampler](seed * 1_000_003 + len(self.study.get_trials(deepcopy=False)))
            trial = self.study.ask()
            candidate = _suggest_student(trial, self.problem.space)
            if candidate is not None and self.problem.feasible[candidate.id]:
                yield trial, candidate
            else:
                self._tell(trial, candidate.id if candidate else None, None)
            barren = 0 if len(self.mine) > before else barren + 1
        if len(self.mine) < wanted:
            logger.warning("%s found %d of %d students; the rest it never drew", sampler, len(self.mine), wanted)

    def _tell(self, trial: Trial, student_id: str | None, score: Score | None) -> None:
        """Report a student's loss and costs; infinite ones with its violation where it was not run."""
        if student_id is None:
            trial.set_constraint("shape rule", 1.0)
            self.study.tell(trial, [math.inf] * len(self.study.directions))
            return
        for text, excess in self.problem.excess.loc[student_id].items():
            trial.set_constraint(str(text), float(excess))
        if score is not None and math.isfinite(score.loss):
            trial.set_user_attr(_TEXTS, score.texts)
            trial.set_user_attr(_STUDENT, student_id)
        self.study.tell(trial, [score.loss if score else math.inf, *self.problem.budget_costs.loc[student_id].tolist()])

    def _clear_interrupted(self) -> None:
        """Mark what a killed process left running as failed."""
        for trial in self.study.get_trials(deepcopy=False, states=(TrialState.RUNNING, TrialState.WAITING)):
            self.study.tell(trial.number, state=TrialState.FAIL)


def _scores(trials: Sequence[FrozenTrial]) -> Iterator[tuple[str, Score]]:
    """Students that were evaluated, with their scores; those of older releases, without text losses, do not compare."""
    for trial in trials:
        attributes = trial.user_attrs
        if trial.state == TrialState.COMPLETE and _STUDENT in attributes and _TEXTS in attributes:
            yield attributes[_STUDENT], Score(trial.values[0], tuple(attributes[_TEXTS]))


def _suggest_student(trial: Trial, space: SearchSpace) -> Candidate | None:
    """Draw a sub-space and its axes; None where the shape rule keeps the combination out."""
    name = trial.suggest_categorical("sub_space", [sub.name for sub in space.sub_spaces])
    sub_space = space.sub_space(name)
    point = {axis: _suggest(trial, f"{name}/{axis}", values) for axis, values in sub_space.axes.items()}
    config = sub_space.student(**point)
    return Candidate(name, config) if config else None


def _suggest(trial: Trial, name: str, values: Sequence[Any]) -> Any:
    """Draw one of the ordered `values` by its rank: samplers understand order, but not uneven steps."""
    return values[trial.suggest_int(name, 0, len(values) - 1)]


def _grid_parameters(space: SearchSpace) -> dict[str, dict[str, str | int]]:
    """Student id -> the trial parameters with which `_suggest_student` draws it."""
    parameters: dict[str, dict[str, str | int]] = {}
    for sub in space.sub_spaces:
        for ranks in product(*(range(len(values)) for values in sub.axes.values())):
            named = dict(zip(sub.axes, ranks, strict=True))
            config = sub.student(**{axis: sub.axes[axis][rank] for axis, rank in named.items()})
            if config is not None:
                chosen = {f"{sub.name}/{axis}": rank for axis, rank in named.items()}
                parameters.setdefault(Candidate(sub.name, config).id, {"sub_space": sub.name, **chosen})
    return parameters
