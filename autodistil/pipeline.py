"""The method on one page: teacher and text -> K SuperLMs -> search under budgets -> report and students.

context    a frozen teacher, a search space of K sub-spaces, text with a held-out share
train      each SuperLM starts as leading slices of the teacher; one teacher forward a step serves them all, and each
           distils its largest, smallest and some random students from it
search     held-out loss of the feasible students; Pareto front over loss and budgeted costs
report     the front to look at
export     the picked student as an ordinary Hugging Face model
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import torch

from autodistil.certificate import read_measured, verdict
from autodistil.config import RunConfig
from autodistil.context import RunContext
from autodistil.costs import Budget, parse_budget
from autodistil.errors import BudgetError, RunError
from autodistil.export import ExportedStudent, check_flops, export_student
from autodistil.files import atomic_path, copy_file
from autodistil.interrupt import stop_on_interrupt
from autodistil.report import BudgetLine, ReportData, write_html, write_png
from autodistil.run import installed_versions
from autodistil.run_certificate import certificate_of, score_ends
from autodistil.search.pick import best_id, knee_id, pick_student, rank_candidates
from autodistil.search.study import Search, SearchProblem, choose_sampler, describe_cost, num_evaluations
from autodistil.spaces import Candidate, SubSpace
from autodistil.superlm import SuperLM
from autodistil.training.checkpoint import CHECKPOINT, restore_checkpoint, save_checkpoint
from autodistil.training.metrics import MetricsLog, read_metrics
from autodistil.training.recipe import Recipe
from autodistil.training.trainer import StepMetrics, SuperLMTrainer, train_step
from autodistil.training.trainer import train as train_superlms

DEFAULT_STEPS = 24
"""A quick look: some minutes on two cores with the default teacher. Real students want hours."""
_UNBOUNDED = 1_000_000
"""Steps of a training that is only timed."""


@dataclass(frozen=True)
class SearchResult:
    """What a search found. Losses are held-out; FLOPs are multiply-adds, batch 1, at the run's length."""

    run: Path
    budgets: tuple[str, ...]
    best: str
    """Id of the feasible student with the lowest loss."""
    knee: str
    """Id of the student at the knee of the front."""
    candidates: pd.DataFrame
    """One row a student, as in `candidates.csv`."""
    report: Path
    student: ExportedStudent
    """The best student, exported."""
    notes: tuple[str, ...]
    seconds: float

    @property
    def pareto(self) -> pd.DataFrame:
        """The front, cheapest first."""
        return self.candidates[self.candidates["pareto"]].sort_values(["flops", "loss"], kind="stable")


def search(context: RunContext, resume: bool = False, report_dir: Path | None = None) -> SearchResult:
    """Train what is not trained yet, search under the budgets, report, and export the best student.

    Args:
        context: an open run; its configuration holds the budgets.
        resume: go on with an interrupted training.
        report_dir: also leave the report there, under the run's name.

    Raises:
        AutodistilError: wrong input; what was done before is kept.
    """
    start = time.perf_counter()
    problem = search_problem(context, context.config.budgets)
    with context.folder.locked():
        needed = [
            sub for sub in context.space.sub_spaces if problem.feasible[problem.table["sub_space"] == sub.name].any()
        ]
        skipped = _skipped_notes(context, needed)
        notes = [*_budget_notes(problem), *skipped]
        for note in notes:
            context.progress.say(note)
        _ = read_measured(context.folder.certificate_path)  # refuses a damaged file before hours of training
        _train(context, needed, resume)
        ranked = _run_search(context, problem)
        _write_candidates(context, ranked)
        score_ends(context, needed, ranked)
        _verify_front(context, problem, ranked)
        best, knee = best_id(ranked), knee_id(ranked)
        student = _export(context, problem, ranked, best, context.folder.student_folder(best), replace_existing=True)
        report = _write_report(context, problem, ranked, skipped, report_dir)
    return SearchResult(
        context.folder.path,
        tuple(budget.text for budget in problem.budgets),
        best,
        knee,
        ranked,
        report,
        student,
        tuple(notes),
        time.perf_counter() - start,
    )


def train(context: RunContext, resume: bool = False) -> None:
    """Train the SuperLMs of all sub-spaces that are not trained yet."""
    with context.folder.locked():
        _train(context, context.space.sub_spaces, resume)


def report(context: RunContext, report_dir: Path | None = None) -> Path:
    """Write the report of the last search again.

    Raises:
        RunError: the run was never searched.
    """
    problem = search_problem(context, context.config.budgets)
    return _write_report(context, problem, searched_candidates(context, problem), (), report_dir)


def export(context: RunContext, pick: str, to: Path, budgets: Sequence[str] = ()) -> tuple[str, ExportedStudent]:
    """Export a student of the last search.

    Args:
        context: an open run.
        pick: `best`, `knee` or an id.
        to: a new folder.
        budgets: hold the pick to these budgets instead of those of the last search.

    Returns:
        The student's id and what was written.

    Raises:
        ExportError: no such student, it was not evaluated, or the target is taken.
        BudgetError: no evaluated student meets the budgets.
    """
    problem = search_problem(context, budgets or context.config.budgets)
    ranked = searched_candidates(context, problem)
    if not ranked["pareto"].any():
        raise BudgetError(
            f"no evaluated student of run {str(context.folder.path)!r} "
            f"meets {' and '.join(problem.budget_costs.columns)}; "
            "search with these budgets first"
        )
    student_id = pick_student(ranked, pick)
    return student_id, _export(context, problem, ranked, student_id, to)


def search_problem(context: RunContext, budgets: Iterable[str]) -> SearchProblem:
    """Students, costs and budgets of a run.

    Raises:
        BudgetError: a budget cannot be read, or no student meets them all.
    """
    parsed: dict[str, Budget] = {}
    for text in budgets:
        budget = parse_budget(text)
        parsed.setdefault(budget.text, budget)
    problem = SearchProblem(
        context.space, context.teacher.encoder_shape, tuple(parsed.values()), context.config.seq_len
    )
    problem.check_feasible()
    return problem


# ---- training


def _train(context: RunContext, sub_spaces: Sequence[SubSpace], resume: bool) -> None:
    """Train those of `sub_spaces` that are not trained yet, side by side."""
    missing = [sub for sub in sub_spaces if not context.is_trained(sub)]
    trained = [sub.name for sub in sub_spaces if sub not in missing]
    if trained:
        context.progress.say(f"reusing trained SuperLMs: {', '.join(trained)}")
    if not missing:
        context.record()
        return
    _check_interrupted(context, missing, resume)
    recipe = _recipe(context, missing)
    trainers = [SuperLMTrainer(context.new_superlm(sub), recipe, context.objective) for sub in missing]
    done = {
        trainer.name: restore_checkpoint(trainer, context.folder.superlm_folder(trainer.name)) for trainer in trainers
    }
    names = ", ".join(f"{name} (from step {steps})" if steps else name for name, steps in done.items())
    context.progress.say(
        f"training SuperLMs: {names}; {recipe.steps} steps of {context.text.batch_size} {context.text.unit}"
    )
    metrics = MetricsLog(context.folder.metrics_path, done, context.folder.path / "tensorboard")
    try:
        train_with_checkpoints(context, trainers, context.folder.superlm_folder, metrics.append)
    finally:
        metrics.close()


def train_with_checkpoints(
    context: RunContext,
    trainers: Sequence[SuperLMTrainer],
    folder_of: Callable[[str], Path],
    record: Callable[[list[StepMetrics]], None],
) -> None:
    """Train to the end or to an interrupt, saving now and then, when a SuperLM is finished, and when stopped.

    Args:
        context: an open run.
        trainers: SuperLMs with names of their own.
        folder_of: name -> folder of the checkpoint.
        record: called with the metrics of each step.
    """
    last_save = time.monotonic()
    total = sum(trainer.recipe.steps - trainer.steps_done for trainer in trainers)
    with stop_on_interrupt() as stop, context.progress.track("training", total) as advance:

        def on_step(rows: list[StepMetrics]) -> None:
            nonlocal last_save
            record(rows)
            advance(len(rows), "  ".join(f"{row.sub_space} {row.loss:.3f}" for row in rows))
            due = time.monotonic() - last_save >= context.config.checkpoint_seconds
            for trainer in trainers:
                if trainer.name in {row.sub_space for row in rows} and (due or trainer.finished or stop.requested):
                    save_checkpoint(trainer, folder_of(trainer.name))
            last_save = time.monotonic() if due else last_save

        train_superlms(
            trainers,
            context.ordered_teacher,
            context.text.micro_batches,
            on_step,
            context.config.teacher_layer,
            lambda: stop.requested,
        )
    if stop.requested:
        raise KeyboardInterrupt


def _recipe(context: RunContext, missing: Sequence[SubSpace]) -> Recipe:
    """The training recipe; its steps are decided once and recorded."""
    config = context.config
    steps = context.resolved().get("train_steps") or config.train_steps
    if steps is None and config.train_minutes is not None:
        steps = _steps_in(context, missing, recipe_of(config, _UNBOUNDED), config.train_minutes * 60)
    recipe = recipe_of(config, steps or DEFAULT_STEPS)
    text = context.training_text  # refuses another text before the record would name it
    context.record(train_steps=recipe.steps, corpus_content=text.corpus.content_hash, tokens_a_step=text.tokens_a_step)
    return recipe


def recipe_of(config: RunConfig, steps: int) -> Recipe:
    """The recipe of a configuration over so many steps."""
    return Recipe(steps, **{name: getattr(config, name) for name in Recipe.__dataclass_fields__ if name != "steps"})


def _steps_in(context: RunContext, missing: Sequence[SubSpace], recipe: Recipe, seconds: float) -> int:
    """How many steps fit into a time, by timing some on SuperLMs that are thrown away."""
    trainers = [SuperLMTrainer(context.new_superlm(sub), recipe, context.objective) for sub in missing]
    begun = time.perf_counter()
    timed: list[float] = []
    while len(timed) < 4 or (len(timed) < 12 and time.perf_counter() - begun < 0.03 * seconds):
        start = time.perf_counter()
        train_step(
            trainers, context.ordered_teacher, context.text.micro_batches(len(timed)), context.config.teacher_layer
        )
        timed.append(time.perf_counter() - start)
    step_seconds = sum(timed[1:]) / len(timed[1:])  # the first one warms up
    steps = max(1, int((seconds - (time.perf_counter() - begun)) / step_seconds))
    context.progress.say(f"a step takes {step_seconds:.2f} s: {steps} steps in {seconds / 60:g} minutes")
    return steps


def _check_interrupted(context: RunContext, missing: Sequence[SubSpace], resume: bool) -> None:
    half = [sub.name for sub in missing if (context.folder.superlm_folder(sub.name) / CHECKPOINT).is_file()]
    if half and not resume:
        raise RunError(
            f"training of {', '.join(half)} in {str(context.folder.path)!r} was interrupted; "
            "go on with --resume, or give another --run folder"
        )


# ---- search


def _run_search(context: RunContext, problem: SearchProblem) -> pd.DataFrame:
    """Score feasible students on held-out text; returns the ranked candidates."""
    config = context.config
    sampler = choose_sampler(config.sampler, int(problem.feasible.sum()), config.trials)
    name = "/".join([sampler, f"seed{config.seed}", *sorted(problem.budget_costs.columns)])
    study = Search(problem, context.folder.study_url, name)

    def score(candidate: Candidate) -> float:
        heldout = context.heldout_for(candidate.config)
        return heldout.loss(_superlm_of(context, candidate), candidate.config)

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
    return _ranked(problem, losses)


def _superlm_of(context: RunContext, candidate: Candidate) -> SuperLM:
    return context.trained_superlm(context.space.sub_space(candidate.sub_space))


def _ranked(problem: SearchProblem, losses: Mapping[str, float]) -> pd.DataFrame:
    return rank_candidates(problem.table.assign(feasible=problem.feasible), losses, problem.budget_costs)


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
        missing = set(losses) - set(problem.table.index)
        if missing:
            raise ValueError(f"unknown student {min(missing)!r}")
    except (ValueError, KeyError, pd.errors.ParserError) as error:
        raise RunError(f"{str(path)!r} is damaged ({error}); search again to write it anew") from error
    return _ranked(problem, losses)


def _write_candidates(context: RunContext, ranked: pd.DataFrame) -> None:
    with atomic_path(context.folder.candidates_path) as temporary:
        ranked.to_csv(temporary, index=False)


def _verify_front(context: RunContext, problem: SearchProblem, ranked: pd.DataFrame) -> None:
    """Count the FLOPs of every student on the front again with fvcore."""
    front = ranked[ranked["pareto"]]
    with context.progress.track("checking FLOPs with fvcore", len(front)) as advance:
        for student_id, row in front.iterrows():
            candidate = problem.candidates[str(student_id)]
            check_flops(_superlm_of(context, candidate), candidate, int(row["flops"]), context.config.seq_len)
            advance(1)


def _budget_notes(problem: SearchProblem) -> list[str]:
    """What to say about budgets that keep nobody out."""
    largest = problem.budget_costs.max()
    return [
        f"budget {budget.text} does not bind: the largest student costs "
        f"{describe_cost(budget, float(largest[budget.text]))}"
        for budget in problem.budgets
        if not problem.binding()[budget.text]
    ]


def _skipped_notes(context: RunContext, needed: Sequence[SubSpace]) -> list[str]:
    skipped = [sub.name for sub in context.space.sub_spaces if sub not in needed and not context.is_trained(sub)]
    return [f"no student of {', '.join(skipped)} meets the budgets: not trained"] if skipped else []


# ---- report and export


def _write_report(
    context: RunContext, problem: SearchProblem, ranked: pd.DataFrame, notes: Sequence[str], report_dir: Path | None
) -> Path:
    """Write the page and, where a Chrome is found, the picture; returns the page (in `report_dir` if given)."""
    data = report_data(context, problem, ranked, notes)
    page = write_html(data, context.folder.report_path)
    picture = write_png(data, page.with_suffix(".png"))
    if report_dir is None:
        return page
    copy = report_dir / f"{context.folder.path.resolve().name}.html"
    copy_file(page, copy)
    if picture is not None:
        copy_file(picture, copy.with_suffix(".png"))
    return copy


def report_data(context: RunContext, problem: SearchProblem, ranked: pd.DataFrame, notes: Sequence[str]) -> ReportData:
    """Everything that a report shows; it says itself which budgets bind, so `notes` are about the rest."""
    best = best_id(ranked)
    lines = [b for b in problem.budgets if b.seq_len in (None, context.config.seq_len)]
    rows = read_metrics(context.folder.metrics_path) if context.folder.metrics_path.is_file() else []
    return ReportData(
        title=f"{context.config.teacher} · {context.space.name}",
        candidates=ranked.reset_index(drop=True),
        training=pd.DataFrame(rows, columns=list(StepMetrics.__dataclass_fields__)),
        budgets=tuple(BudgetLine(budget.text, budget.cost, budget.limit) for budget in lines),
        best=best,
        knee=knee_id(ranked),
        teacher_costs=context.teacher_costs(),
        seq_len=context.config.seq_len,
        objective=context.objective.name,
        provenance=provenance(context),
        notes=tuple(notes),
        export_command=export_command(context, "best"),
        certificate=certificate_of(context, ranked, best),
    )


def provenance(context: RunContext) -> dict[str, str]:
    """Where a run's numbers come from, for people."""
    config, resolved = context.config, context.resolved()
    steps = resolved.get("train_steps", 0)
    return {
        "teacher": f"{config.teacher} (fingerprint {context.teacher.fingerprint})",
        "search space": f"{context.space.name}: {len(context.space.candidates)} students in "
        + ", ".join(sub.name for sub in context.space.sub_spaces),
        "text": ", ".join(config.corpus),
        "training": f"{steps} steps of {context.text.batch_size} {context.text.unit} "
        f"({steps * resolved.get('tokens_a_step', 0):,} tokens), "
        f"learning rate {config.learning_rate:g}, {config.precision}",
        "objective": f"{context.objective.name}, {context.objective.options.relation_heads} relation heads, "
        f"importance order {config.order}, layer map {config.layer_map}",
        "held-out text": f"{context.text.num_heldout} {context.text.unit}",
        "seed": str(config.seed),
        "threads": str(torch.get_num_threads()),
        "versions": ", ".join(f"{name} {number}" for name, number in installed_versions().items()),
    }


def export_command(context: RunContext, pick: str) -> str:
    """The line that exports a student of this run."""
    return f"autodistil export --run {context.folder.path} --pick {pick} --to my-student"


def _export(
    context: RunContext,
    problem: SearchProblem,
    ranked: pd.DataFrame,
    student_id: str,
    to: Path,
    replace_existing: bool = False,
) -> ExportedStudent:
    candidate = problem.candidates[student_id]
    superlm = _superlm_of(context, candidate)
    row = ranked.loc[student_id]
    check_flops(superlm, candidate, int(row["flops"]), context.config.seq_len)
    costs: dict[str, Any] = {**row.to_dict(), "teacher": context.teacher_costs(), "seq_len": context.config.seq_len}
    trust = verdict(certificate_of(context, ranked, student_id))
    loss = f"{row['loss']:.4f} ({context.objective.name})"
    facts = {
        "held-out loss": loss,
        "how far to trust it": trust,
        **context.vocabulary_facts(candidate.config),
        **provenance(context),
    }
    return export_student(superlm, candidate, context.teacher, costs, facts, to, replace_existing)
