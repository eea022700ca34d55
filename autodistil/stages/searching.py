"""Stage two: score the feasible students on held-out text; candidates with their Pareto front."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType

import pandas as pd

from autodistil.context import RunContext
from autodistil.costs import Budget
from autodistil.errors import RunError
from autodistil.export import check_flops
from autodistil.files import atomic_path
from autodistil.interrupt import stop_on_interrupt
from autodistil.profiling.budgets import DeviceBudget, read_budget
from autodistil.spaces import Candidate, SubSpace
from autodistil.stages.device_tables import device_costs
from autodistil.stages.refined import read_refinements, with_refinements
from autodistil.student_search.pick import SCORE, best_id, rank_candidates
from autodistil.student_search.study import Search, SearchProblem, choose_sampler, describe_cost, num_evaluations
from autodistil.superlm import SuperLM


def search_problem(context: RunContext, budgets: Iterable[str]) -> SearchProblem:
    """Students, costs and budgets of a run.

    Raises:
        BudgetError: a budget cannot be read, or no student meets them all.
    """
    parsed: dict[str, Budget] = {}
    for text in budgets:
        budget = read_budget(text)
        parsed.setdefault(budget.text, budget)
    problem = SearchProblem(
        context.space,
        context.teacher.encoder_shape,
        tuple(parsed.values()),
        context.config.seq_len,
        device_costs(context, [budget for budget in parsed.values() if isinstance(budget, DeviceBudget)]),
    )
    problem.check_feasible()
    return problem


def run_search(context: RunContext, problem: SearchProblem) -> pd.DataFrame:
    """Score feasible students on held-out text; returns the ranked candidates."""
    config = context.config
    sampler = choose_sampler(config.sampler, int(problem.feasible.sum()), config.trials)
    name = "/".join([sampler, f"seed{config.seed}", *sorted(problem.budget_costs.columns), *problem.revision])
    study = Search(problem, context.folder.study_url, name)

    def score(candidate: Candidate) -> float:
        heldout = context.heldout_for(candidate.config)
        return heldout.loss(superlm_of(context, candidate), candidate.config)

    wanted = num_evaluations(problem, sampler, config.trials)
    context.progress.say(f"search: {sampler}, {wanted} of {int(problem.feasible.sum())} feasible students")
    with (
        stop_on_interrupt() as stop,
        context.progress.track("scoring students", wanted) as advance,
    ):
        advance(len(study.mine))

        def on_score(student_id: str, loss: float) -> None:
            advance(1, f"{student_id} {loss:.4f}")
            if stop.requested:
                raise KeyboardInterrupt

        losses = study.run(score, sampler, config.trials, config.seed, on_score)
    return rank(problem, losses)


def superlm_of(context: RunContext, candidate: Candidate) -> SuperLM:
    """The trained SuperLM that holds a candidate."""
    return context.trained_superlm(context.space.sub_space(candidate.sub_space))


def rank(
    problem: SearchProblem, losses: Mapping[str, float], scores: Mapping[str, float] = MappingProxyType({})
) -> pd.DataFrame:
    """The candidates with losses, task scores if there are any, front and ranks."""
    return rank_candidates(problem.table.assign(feasible=problem.feasible), losses, problem.budget_costs, scores)


def searched_candidates(context: RunContext, problem: SearchProblem) -> pd.DataFrame:
    """The candidates of the last search, ranked under the budgets of `problem`.

    Raises:
        RunError: the run was never searched, or the file is damaged.
    """
    path = context.folder.candidates_path
    if not path.is_file():
        raise RunError(
            f"run {str(context.folder.path)!r} was not searched yet; run: autodistil search --run {context.folder.path}"
        )
    try:
        table = pd.read_csv(path).set_index("id", drop=False)
        losses = table["loss"].dropna().to_dict()
        scores = table[SCORE].dropna().to_dict() if SCORE in table else {}
        missing = set(losses) - set(problem.table.index)
        if missing:
            raise ValueError(f"unknown student {min(missing)!r}")
    except (ValueError, KeyError, pd.errors.ParserError) as error:
        raise RunError(f"{str(path)!r} is damaged ({error}); search again to write it anew") from error
    ranked = rank(problem, losses, scores)
    if ranked["pareto"].any() and best_id(ranked) in problem.unmeasured:
        ranked = rank(problem.measured_only(), losses, scores)
    return refined_candidates(context, ranked)


def refined_candidates(context: RunContext, ranked: pd.DataFrame) -> pd.DataFrame:
    """The candidates with what refining left in the run folder."""
    return with_refinements(ranked, read_refinements(context.folder.refined_path), context.config.refine_top)


def write_candidates(context: RunContext, ranked: pd.DataFrame) -> None:
    """Write `candidates.csv`."""
    with atomic_path(context.folder.candidates_path) as temporary:
        ranked.to_csv(temporary, index=False)


def verify_front(context: RunContext, problem: SearchProblem, ranked: pd.DataFrame) -> None:
    """Count the FLOPs of every student on the front again with fvcore."""
    front = ranked[ranked["pareto"]]
    with context.progress.track("checking FLOPs with fvcore", len(front)) as advance:
        for student_id, row in front.iterrows():
            candidate = problem.candidates[str(student_id)]
            check_flops(superlm_of(context, candidate), candidate, int(row["flops"]), context.config.seq_len)
            advance(1)


def budget_notes(problem: SearchProblem) -> list[str]:
    """What to say about budgets that keep nobody out."""
    largest = problem.budget_costs.max()
    return [
        f"budget {budget.text} does not bind: the largest student costs "
        f"{describe_cost(budget, float(largest[budget.text]))}"
        for budget in problem.budgets
        if not problem.binding()[budget.text]
    ]


def skipped_notes(context: RunContext, needed: Sequence[SubSpace]) -> list[str]:
    """What to say about sub-spaces that no budget admits."""
    used = context.with_assistant(needed)
    skipped = [sub.name for sub in context.space.sub_spaces if sub not in used and not context.is_trained(sub)]
    return [f"no student of {', '.join(skipped)} meets the budgets: not trained"] if skipped else []
