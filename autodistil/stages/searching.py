"""Stage two: score the feasible students on held-out text; candidates with their Pareto front."""

from __future__ import annotations

import math
import platform
import shlex
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, closing, nullcontext
from dataclasses import replace
from functools import partial

from autodistil.config import RunConfig, rate_words
from autodistil.costs.budget import Budget
from autodistil.costs.units import cost_of
from autodistil.errors import BudgetError, DivergedError
from autodistil.evaluation.heldout import HeldOutScorer, block_sizes
from autodistil.export.checks import check_flops
from autodistil.models.hf_folder import is_classifier
from autodistil.models.teacher import Teacher
from autodistil.run.facts import perplexity_facts
from autodistil.run.folder import RunFolder
from autodistil.run.inputs import RunInputs
from autodistil.run.kept import read_refinements
from autodistil.run.run import Run
from autodistil.run.superlms import SuperLMs
from autodistil.space.space import SubSpace
from autodistil.space.student import Candidate
from autodistil.stages.costing import search_problem
from autodistil.student_search.candidates import CandidateTable
from autodistil.student_search.pick import best_id
from autodistil.student_search.problem import SearchProblem
from autodistil.student_search.racing import Race, Score
from autodistil.student_search.study import ScoreStudents, Search, choose_sampler, num_evaluations
from autodistil.student_search.study_storage import opening, study_storage
from autodistil.student_search.teacher_row import TeacherRow
from autodistil.utils import stop_on_interrupt


def run_search(run: Run, problem: SearchProblem) -> CandidateTable:
    """Score feasible students on held-out text; returns the candidates ranked by that.

    Raises:
        BudgetError: the sampler found no student within the budgets.
        DivergedError: no student has a finite loss.
    """
    config = run.config
    sampler = choose_sampler(config.sampler, int(problem.feasible.sum()), config.trials, problem.space.is_listed)
    wanted = num_evaluations(problem, sampler, config.trials)
    run.progress.say(f"search: {sampler}, {wanted} of {feasible_words(problem)}")
    with (
        closing(open_study(run.folder, config, problem, study_name(config, problem, sampler))) as study,
        stop_on_interrupt() as stop,
        run.progress.track("scoring students", wanted) as advance,
        scoring(run.inputs, run.scorer, problem, race_of(run.inputs, study.mine)) as score,
    ):
        advance(len(study.mine))

        def on_score(student_id: str, loss: float) -> None:
            advance(1, f"{student_id} {loss:.4f}")
            stop.obey()

        scores = study.run(score, sampler, config.trials, config.seed, on_score)
    if not scores:
        raise BudgetError(
            f"sampler {sampler!r} drew no student within {' and '.join(problem.budget_costs.columns)}; "
            f"{int(problem.feasible.sum()):,} of {len(problem.feasible):,} students are: search with --sampler auto, "
            "or raise the budget"
        )
    if not any(math.isfinite(found.loss) for found in scores.values()):
        raise DivergedError(
            f"none of the {len(scores)} students scored has a finite held-out loss, so the training ended in weights "
            f"that are of no use; train with a lower learning rate than now ({rate_words(config.learning_rate)}) in a "
            "run of its own"
        )
    run.inputs.write_record(scored_by=run.inputs.scored_by, teacher_row=teacher_of(run, problem).to_dict())
    largest = _no_gain_losses(run, problem)
    losses = {**largest, **{student_id: found.loss for student_id, found in scores.items()}}
    texts = {student_id: len(found.texts) for student_id, found in scores.items()}
    texts = {**dict.fromkeys(largest, len(run.inputs.heldout_texts)), **texts}
    return CandidateTable.of(problem.including(losses)).scored(losses, texts)


def _no_gain_losses(run: Run, problem: SearchProblem) -> dict[str, float]:
    """Losses of the largest students where they save nothing against the teacher: to look at, nothing picks them."""
    largest = [Candidate(sub.name, sub.largest) for sub in problem.space.sub_spaces if run.superlms.is_trained(sub)]
    shown = [one for one in largest if one.id in problem.no_gain]
    return {one.id: run.scorer.loss(run.superlms.of(one), one.config) for one in shown}


def teacher_of(run: Run, problem: SearchProblem) -> TeacherRow:
    """The teacher as a row, with its own loss where that is not 0 by definition: of what comes next."""
    teacher = problem.teacher
    assert teacher is not None, "a problem of a run has its teacher"
    return replace(teacher, loss=run.scorer.teacher_loss) if math.isnan(teacher.loss) else teacher


def feasible_words(problem: SearchProblem) -> str:
    """How many students there are to score, in words."""
    if problem.space.is_listed:
        return f"{int(problem.feasible.sum())} feasible students"
    return f"{problem.space.size_text} students"


def study_name(config: RunConfig, problem: SearchProblem, sampler: str) -> str:
    """Names what decides which students a search asks for, and what it knows of them."""
    costs = [*problem.budget_costs.columns, *problem.revision]
    return "/".join([sampler, f"seed{config.seed}", f"race for {config.racing}", *costs])


def check_study(where: str | None) -> None:
    """Refuse a study that cannot be opened, before hours of training.

    Raises:
        AutodistilError: says why.
    """
    if where is not None:
        storage = study_storage(where)
        with opening(where), storage.lock("opening"):
            storage.close(storage.open())


def open_study(folder: RunFolder, config: RunConfig, problem: SearchProblem, name: str) -> Search:
    """The study of a search: in the run folder, or where several drivers share it, among those of this run."""
    where, expensive_first = config.study_storage, config.racing == "pick"
    if where is None:
        return Search(problem, folder.study_path, name, expensive_first=expensive_first)
    scope, driver = folder.identity(), f"{platform.node()}:{folder.path.resolve()}"
    return Search(problem, where, f"{scope}/{name}", scope, driver, expensive_first=expensive_first)


def race_of(inputs: RunInputs, scored: Mapping[str, Score]) -> Race:
    """The race that the students of a search run against each other, those scored before included."""
    race = Race(block_sizes(inputs.heldout_texts), inputs.config.racing)
    for score in scored.values():
        race.add(score)
    return race


def scoring(
    inputs: RunInputs, scorer: HeldOutScorer, problem: SearchProblem, race: Race
) -> AbstractContextManager[ScoreStudents]:
    """Opens what scores students on as much held-out text as the race asks for: this process, or a Ray cluster."""
    if not inputs.config.workers:
        return nullcontext(partial(score_here, scorer, race))
    from autodistil.cluster.scoring import scoring_pool

    feasible = problem.feasible.index[problem.feasible]
    candidates = [problem.candidates[student_id] for student_id in feasible]
    return scoring_pool(inputs.config, inputs.progress, race, scorer, candidates)


def score_here(
    scorer: HeldOutScorer, race: Race, students: Sequence[tuple[Candidate, Score | None]]
) -> Iterator[Score]:
    """Scores students in this process, one after the other."""
    for candidate, known in students:
        yield race.score(scorer.blocks_of(candidate), known.texts if known else ())


def whole_loss(scorer: HeldOutScorer, candidate: Candidate, table: CandidateTable) -> float:
    """The held-out loss of a student in its SuperLM; scored now where a race stopped it."""
    loss = table[candidate.id].loss
    return loss if loss is not None else scorer.loss(scorer.superlm_of(candidate.sub_space), candidate.config)


def last_search(inputs: RunInputs, budgets: Sequence[str] = ()) -> tuple[SearchProblem, CandidateTable]:
    """The last search of a run: students under its budgets, or others, and their ranks, with what refining left since.

    Raises:
        BudgetError: a budget cannot be read, or no student meets them all.
        RunError: the run was never searched, or a file is damaged.
    """
    problem, folder = search_problem(inputs, budgets or inputs.config.budgets), inputs.folder
    table = CandidateTable.read(folder.candidates_path, problem)
    problem = problem.including(table.ids)
    if len(table.front) and best_id(table) in problem.unmeasured:
        table = table.under(problem.measured_only())
    return problem, table.refined(read_refinements(folder.refined_path), inputs.config.num_finalists)


def verify_front(run: Run, problem: SearchProblem, table: CandidateTable) -> None:
    """Count the FLOPs of every student on the front again with fvcore."""
    front = table.front.known("flops")
    with run.progress.track("checking FLOPs with fvcore", len(front)) as advance:
        for student_id, flops in front.items():
            candidate = problem.candidates[student_id]
            check_flops(run.superlms.of(candidate), candidate, flops, run.inputs.seq_len)
            advance(1)


def perplexity_notes(inputs: RunInputs, scorer: HeldOutScorer, loss: float) -> list[str]:
    """The perplexity of a student of this loss, beside the teacher's, as lines."""
    return [f"{name.capitalize()} {words}" for name, words in perplexity_facts(inputs, scorer, loss).items()]


def needed_sub_spaces(problem: SearchProblem) -> list[SubSpace]:
    """The sub-spaces of which the budgets admit some student: those whose SuperLMs a search needs."""
    admitted = problem.possible.feasible.groupby(problem.table["sub_space"]).any()
    return [sub for sub in problem.space.sub_spaces if admitted[sub.name]]


def teacher_notes(problem: SearchProblem, unmeasured: Sequence[Budget] = ()) -> list[str]:
    """What to say of the teacher: that it meets the budgets itself, and which students save nothing against it.

    Args:
        problem: students, and budgets whose costs are known.
        unmeasured: budgets that hold beside them, of devices on which nothing was measured yet.
    """
    teacher, none, budgets = problem.teacher, problem.no_gain, (*problem.budgets, *unmeasured)
    if teacher is None:
        return []
    answer = teacher.answer(budgets)
    said = [f"{answer} What follows is for those who want it smaller."] if answer else []
    said += [line] if (line := teacher.not_measured(budgets)) else []
    if none:
        who = none[0] if len(none) == 1 else f"{len(none):,} students, such as {none[0]},"
        said.append(
            f"{who} would save nothing of {' and '.join(problem.budget_costs.columns)} against {teacher.name}: "
            "no gain, so never picked"
        )
    return said


def head_notes(teacher: Teacher) -> list[str]:
    """What to say of a teacher that was fine-tuned: students are distilled from its encoder."""
    if not is_classifier(teacher.model.config):
        return []
    return [
        f"{teacher.source} is fine-tuned: students are distilled from its encoder, without the head; "
        "autodistil adapt --run takes the head up again, to teach them the task"
    ]


def budget_notes(problem: SearchProblem) -> list[str]:
    """What to say about budgets that keep nobody out."""
    largest = problem.budget_costs.max()
    return [
        f"budget {budget.text} does not bind: the largest student costs "
        f"{cost_of(budget.cost).text(float(largest[budget.text]), digits=4)}"
        for budget in problem.budgets
        if not problem.binding()[budget.text]
    ]


def unscored_notes(inputs: RunInputs, problem: SearchProblem, table: CandidateTable) -> list[str]:
    """What to say where students in budget were passed over, as nobody scored them on all text."""
    feasible, unscored = int(problem.feasible.sum()), int((table.frame["feasible"] & table.frame["loss"].isna()).sum())
    if not unscored or not problem.space.is_listed:  # nobody scores all of a space that is not
        return []
    config, budgets = inputs.config, [budget.text for budget in problem.budgets]
    racing = " --racing none" if config.racing != "none" else ""
    trials = f" --trials {feasible}" if config.trials is not None else ""
    given = "".join(f" --budget {shlex.quote(text)}" for text in budgets)
    more = f"autodistil search --run {shlex.quote(str(inputs.folder.path))}{given}{racing}{trials}"
    return [
        f"{unscored:,} of {feasible:,} students within {' and '.join(budgets)} were not scored on all text; the pick "
        f"is of the others. Score more: {more}"
    ]


def texts_note(inputs: RunInputs, table: CandidateTable) -> str:
    """On how much held-out text students were scored, which is less than all where races stopped some."""
    texts = table.frame["texts"].dropna()
    if texts.min() == len(inputs.heldout_texts):
        return f"scored on all held-out {inputs.samples}"
    return f"scored on {texts.mean() / len(inputs.heldout_texts):.0%} of the held-out {inputs.samples} on average"


def skipped_notes(superlms: SuperLMs, needed: Sequence[SubSpace]) -> list[str]:
    """What to say about sub-spaces that no budget admits."""
    used = superlms.with_assistant(needed)
    sub_spaces = superlms.inputs.space.sub_spaces
    skipped = [sub.name for sub in sub_spaces if sub not in used and not superlms.is_trained(sub)]
    return [f"no student of {', '.join(skipped)} meets the budgets: not trained"] if skipped else []
