"""The method on one page: teacher and text -> K SuperLMs -> search under budgets -> report and students.

`search` below takes these steps in this order; each names the file that does it.

run/inputs.py              what a run starts from: a frozen teacher, a search space of K sub-spaces, text with a
                           held-out share
stages/costing.py          closed-form costs and budgets; for those of a device some students are measured on it by
                           design, all others predicted
stages/training.py         each SuperLM starts as leading slices of the teacher; one teacher forward a step serves them
                           all, and each distils its largest, smallest and some random students from it
stages/searching.py        held-out loss of the feasible students; Pareto front over loss and budgeted costs
stages/ranking_by_task.py  with a proxy task: its score of the students still in question ranks them
stages/measuring.py        under budgets of a device: finalists are measured, and the search goes on until one holds
stages/keeping.py          if asked: the cheapest student that keeps a share of the teacher's score, found as a budget
stages/refining.py         if asked: the best students of the front go on distilling alone and are ranked again
stages/certifying.py       the ends of each SuperLM are scored; `certify` trains a sample of students alone as well
stages/timing.py           forwards of the students worth choosing, timed beside the teacher's
stages/exporting.py        the best student as an ordinary Hugging Face model
stages/reporting.py        the front to look at

Beside a search: `stages/planning.py` says what one would be, `stages/tuning.py` tries recipes, `stages/profiling.py`
chooses students to measure, and `stages/comparing.py` sets runs beside each other. A `Run` (`run/run.py`) is what
stages share.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd

from autodistil.costs.speed import Speed
from autodistil.errors import BudgetError
from autodistil.evaluation.agreement import Agreement
from autodistil.export.student_folder import ExportedStudent
from autodistil.formats.writing import check_formats
from autodistil.report.notebook import front_html
from autodistil.run.run import Run
from autodistil.run.tracking import Found, check_tracker
from autodistil.stages.agreeing import beside_teacher
from autodistil.stages.certifying import DEFAULT_SAMPLE, certify_search, score_ends
from autodistil.stages.costing import Measure, measure_here, profile_devices, search_problem
from autodistil.stages.exporting import agreement_as_exported, export_candidate
from autodistil.stages.keeping import Kept, cheapest_keeping, check_measurable, read_share, write_kept
from autodistil.stages.measuring import device_notes, hold_budgets
from autodistil.stages.planning import Plan, plan_search
from autodistil.stages.ranking_by_task import open_proxy, rank_by_task, refined_note
from autodistil.stages.refining import rank_refined, refine_anew, refine_finalists
from autodistil.stages.reporting import export_command, write_formats, write_report
from autodistil.stages.searching import (
    budget_notes,
    check_study,
    head_notes,
    last_search,
    needed_sub_spaces,
    perplexity_notes,
    run_search,
    skipped_notes,
    teacher_notes,
    teacher_of,
    texts_note,
    unscored_notes,
    verify_front,
)
from autodistil.stages.static import add_static
from autodistil.stages.timing import speeds_of
from autodistil.stages.training import train_missing
from autodistil.stages.training_length import length_notes
from autodistil.student_search.candidates import CandidateTable, Refinement
from autodistil.student_search.certificate.assess import Certificate
from autodistil.student_search.certificate.measured import read_measured
from autodistil.student_search.pick import PICKS, best_id, half_id, knee_id, near_id, pick_student
from autodistil.student_search.problem import SearchProblem
from autodistil.student_search.teacher_row import TeacherRow
from autodistil.utils import Progress


@dataclass(frozen=True)
class SearchResult:
    """What a search found. Losses are held-out; FLOPs are multiply-adds, batch 1, at the run's length."""

    run: Path
    budgets: tuple[str, ...]
    budget_columns: tuple[str, ...]
    """The columns of their costs, in the same order."""
    teacher: TeacherRow
    """The teacher beside its students; it is none of them, and `best` is the best of these."""
    best: str
    """Id of the feasible student with the lowest loss, or the highest score on the proxy task; where finalists were
    refined, of the best of these."""
    half: str | None
    """Id of the best student at half its cost (of what limits the search); None where none is that cheap."""
    near: str
    """Id of the cheapest student within 1 % of its loss or score."""
    knee: str | None
    """Id of the student at the knee of the front, where it has one."""
    table: CandidateTable = field(repr=False)
    """The students that were looked at."""
    report: Path
    student: ExportedStudent
    """The best student, exported."""
    answer: str | None
    """What to say first where the teacher meets all budgets itself, such as `all-MiniLM-L6-v2 meets 5GFLOPs already:
    1.44 GFLOPs.`; None where it does not, or was not measured."""
    agreement: Agreement
    """How near the best student is to the teacher, and how near the untrained slice of its shape was."""
    kept: Kept | None
    """What the best student keeps of the teacher's score, where the cheapest was asked for that keeps a share."""
    speeds: Mapping[str, Speed]
    """By id, how much faster than the teacher `best`, `half`, `near` and `knee` are on this machine; those are missing
    that other work disturbed."""
    notes: tuple[str, ...]
    seconds: float

    @property
    def beside_teacher(self) -> str:
        """The best student beside the teacher in a line: shares of its costs, and how near it is."""
        return beside_teacher(self.teacher, self.table[self.best], self.agreement)

    @property
    def teacher_meets_budgets(self) -> bool:
        """Whether the teacher is known to meet all budgets itself; `answer` says it."""
        return self.answer is not None

    def _repr_html_(self) -> str:
        return front_html(self.table, str(self.run), self.budgets, self.teacher)

    def export_command(self, pick: str) -> str:
        """The line that exports a student of this search."""
        return export_command(self.run, pick)

    @property
    def candidates(self) -> pd.DataFrame:
        """One row a student, by id, as in `candidates.csv`."""
        return self.table.frame

    @property
    def ranks_flipped(self) -> bool:
        """Whether refining the finalists alone changed their order."""
        return self.table.ranks_flipped

    @property
    def pareto(self) -> pd.DataFrame:
        """The front, cheapest first."""
        return self.table.front.cheapest_first.frame


def search(
    run: Run,
    resume: bool = False,
    report_dir: Path | None = None,
    measure: Measure | None = None,
    keep: str | float | None = None,
) -> SearchResult:
    """Train what is not trained yet, search under the budgets, report, and export the best student.

    Args:
        run: an open run; its configuration holds the budgets.
        resume: go on with an interrupted training.
        report_dir: also leave the report there, under the run's name.
        measure: the stopwatch for budgets of a device; this machine's unless given.
        keep: such as `85%`, the share of the teacher's score that the cheapest student is to keep; its FLOPs are then
            a budget beside the others.

    Raises:
        AutodistilError: wrong input; what was done before is kept.
    """
    start = time.perf_counter()
    asked, kept = None if keep is None else read_share(keep), None
    check_tracker(run.config.track)
    measure = measure or measure_here(run.inputs.teacher, run.progress)
    profile_devices(run.inputs, measure)
    problem = search_problem(run.inputs, run.config.budgets)
    with run.tracker.working(), run.folder.locked():
        needed = needed_sub_spaces(problem)
        skipped = skipped_notes(run.superlms, needed)
        said = (*head_notes(run.inputs.teacher), *teacher_notes(problem), *budget_notes(problem), *skipped)
        notes = _say(run.progress, list(said))
        check_study(run.config.study_storage)
        _ = read_measured(run.folder.certificate_path)  # refuses a damaged file before hours of training
        task = open_proxy(run.folder, run.config, run.inputs.teacher)
        if asked is not None:
            check_measurable(run, task)
        train_missing(run, needed, resume, problem.possible.costliest if run.config.num_finalists else None)

        def ranked(costed: SearchProblem) -> CandidateTable:
            return rank_by_task(run, costed, run_search(run, costed), task)

        problem, table = hold_budgets(run, problem, ranked, measure)
        run.progress.say(texts_note(run.inputs, table))
        if asked is not None:
            budget, kept = cheapest_keeping(run, problem, table, asked, task, resume)
            run.search_under((*run.config.budgets, budget))
            problem, table = hold_budgets(run, search_problem(run.inputs, run.config.budgets), table.under, measure)
        write_kept(run, kept)
        table.write(run.folder.candidates_path, run.inputs.ranks_by_perplexity)
        table = refine_finalists(run, problem, table, resume)
        scored = refined_note(run, problem, table, task)
        notes += _say(run.progress, [*table.rank_notes(), *scored, *length_notes(run.folder)])
        score_ends(run, needed, table)
        verify_front(run, problem, table)
        best, half, near, knee = best_id(table), half_id(table), near_id(table), knee_id(table)
        choice = dict.fromkeys(student for student in (best, half, near, knee) if student is not None)
        speeds = speeds_of(run, [problem.candidates[student] for student in choice])
        notes += _say(run.progress, perplexity_notes(run.inputs, run.scorer, table[best].exported_loss))
        to = run.folder.student_folder(best)
        student = export_candidate(run, problem, table, best, to, replace_existing=True, speeds=speeds)
        held = device_notes(problem, best)
        report = write_report(run, problem, table, [*held, *skipped, *scored], report_dir)
        teacher = teacher_of(run, problem)
        agreement = agreement_as_exported(run, problem, table, best)
        notes += [note for note in (agreement.warning, kept and kept.words) if note]
        budgets = tuple(budget.text for budget in problem.budgets)
        run.tracker.log_found(Found.of(budgets, table))
    seconds = time.perf_counter() - start
    return SearchResult(
        run=run.folder.path,
        budgets=budgets,
        budget_columns=tuple(budget.column for budget in problem.budgets),
        teacher=teacher,
        best=best,
        half=half,
        near=near,
        knee=knee,
        table=table,
        report=report,
        student=student,
        answer=teacher.answer(problem.budgets),
        agreement=agreement,
        kept=kept,
        speeds=speeds,
        notes=(*notes, *held),
        seconds=seconds,
    )


def _say(progress: Progress, notes: list[str]) -> list[str]:
    for note in notes:
        progress.say(note)
    return notes


def plan(run: Run) -> Plan:
    """Say what a search would be before anything is trained, from steps that are timed and thrown away.

    Args:
        run: an open run; its configuration holds the budgets. Its folder is only read.

    Raises:
        AutodistilError: wrong input, as in a search.
    """
    with run.only_read() as looked_at:
        return plan_search(looked_at)


def train(run: Run, resume: bool = False) -> None:
    """Train the SuperLMs of all sub-spaces that are not trained yet."""
    with run.tracker.working(), run.folder.locked():
        train_missing(run, run.inputs.space.sub_spaces, resume)


@dataclass(frozen=True)
class Certified:
    """What `certify` leaves behind."""

    certificate: Certificate
    path: Path
    """`certificate.json`."""
    report: Path
    """The report, written again."""


def certify(run: Run, sample: int = DEFAULT_SAMPLE, one: bool = False, resume: bool = False) -> Certified:
    """Train a sample of students alone, to see how far the ranks of the search can be trusted.

    Args:
        run: a run that was searched.
        sample: students of each trained sub-space; those trained before count as well.
        one: also train one SuperLM over all sub-spaces.
        resume: go on with an interrupted certification.

    Raises:
        RunError: the run was not searched, a training was interrupted, or a file is damaged.
        ConfigError: the sample is too small.
    """
    with run.folder.locked():
        found = certify_search(run, sample, one, resume)
        return Certified(found, run.folder.certificate_path, report(run))


def refine(run: Run, pick: str, resume: bool = False) -> tuple[Refinement, Path]:
    """Go on distilling a student of the last search alone; exports of it then have the refined weights.

    Args:
        run: an open run; its configuration holds the steps and the learning rate.
        pick: `best`, `half`, `near`, `knee` or an id.
        resume: go on with an interrupted refinement.

    Returns:
        What it did to the held-out loss, and the report, written again.

    Raises:
        ExportError: no such student, or it was not evaluated.
        RunError: the run was not searched, or the student was refined with other settings.
    """
    with run.folder.locked():
        problem, table = last_search(run.inputs)
        student_id = pick_student(table, pick)
        refined = refine_anew(run, problem.candidates[student_id], table, resume)
        _ = rank_refined(run.inputs, table)
        return refined, report(run)


def report(run: Run, report_dir: Path | None = None, static: bool = False) -> Path:
    """Write the report of the last search again.

    Args:
        run: an open run.
        report_dir: also leave it there, under the run's name.
        static: make a static model of the teacher first, which this report and later ones show beside the students.

    Raises:
        RunError: the run was never searched.
        ConfigError: the teacher embeds no text, or model2vec is not installed.
    """
    if static:
        run.progress.say(add_static(run).words)
    return write_report(run, *last_search(run.inputs), (), report_dir)


def report_as(run: Run, formats: Sequence[str], report_dir: Path | None = None) -> list[Path]:
    """Write the report of the last search in these formats: `html`, `png`, `pdf`, `md`.

    Raises:
        ConfigError: there is no such format.
        RunError: the run was never searched, or a picture is asked for and there is no browser to draw it.
    """
    return write_formats(run, *last_search(run.inputs), formats, report_dir)


def export(
    run: Run, pick: str, to: Path, budgets: Sequence[str] = (), unrefined: bool = False, formats: Sequence[str] = ()
) -> tuple[str, ExportedStudent]:
    """Export a student of the last search.

    Args:
        run: an open run.
        pick: `best`, `half`, `near`, `knee` or an id.
        to: a new folder.
        budgets: hold the pick to these budgets instead of those of the last search.
        unrefined: the slice of the SuperLM, though the student was refined alone.
        formats: keys of `formats.FORMATS`, written beside the Hugging Face files; of decoders `DECODER_FORMATS`.

    Returns:
        The student's id and what was written.

    Raises:
        ExportError: no such student or format, it was not evaluated, or the target is taken.
        ProfileError: a library that writes a format is not installed.
        BudgetError: no evaluated student meets the budgets.
    """
    check_formats(formats, run.inputs.teacher.family.causal)
    problem, table = last_search(run.inputs, budgets)
    if not len(table.front):
        raise BudgetError(
            f"no evaluated student of run {str(run.folder.path)!r} meets "
            f"{' and '.join(problem.budget_costs.columns)}; search with these budgets first"
        )
    student_id = pick_student(table, pick)
    if pick in PICKS:
        _say(run.progress, unscored_notes(run.inputs, problem, table))
    return student_id, export_candidate(run, problem, table, student_id, to, unrefined=unrefined, formats=formats)


def student_to_adapt(run: Run, pick: str) -> tuple[str, str]:
    """The folder of a student of the last search, exported into the run where it is not yet, and the run's teacher.

    Raises:
        ExportError: no such student, or it was not evaluated.
    """
    with run.folder.locked():
        problem, table = last_search(run.inputs)
        student_id = pick_student(table, pick)
        to = run.folder.student_folder(student_id)
        if not (to / "model.safetensors").is_file():
            export_candidate(run, problem, table, student_id, to)
    return str(to), run.config.teacher
