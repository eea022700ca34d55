"""Stage three: the report of a search."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

import pandas as pd

from autodistil.errors import ConfigError, RunError, suggest
from autodistil.evaluation.results import RESULTS, TaskResult, read_results
from autodistil.report.page import write_html, write_markdown
from autodistil.report.picture import write_picture, write_png
from autodistil.report.rows import ReportData
from autodistil.run.facts import provenance, score_name
from autodistil.run.folder import RunFolder
from autodistil.run.run import Run
from autodistil.stages.certifying import certificate_of, certifying_note
from autodistil.stages.exporting import agreement_as_exported
from autodistil.stages.keeping import read_kept
from autodistil.stages.searching import perplexity_notes, teacher_of
from autodistil.stages.static import read_static
from autodistil.stages.timing import known_speeds
from autodistil.stages.training_length import length_notes
from autodistil.student_search.candidates import BY_SCORE, CandidateTable
from autodistil.student_search.pick import best_id, knee_id
from autodistil.student_search.problem import SearchProblem
from autodistil.training.metrics import missing_steps, read_metrics
from autodistil.training.trainer import StepMetrics
from autodistil.utils import copy_file, shown


def write_report(
    run: Run, problem: SearchProblem, table: CandidateTable, notes: Sequence[str], report_dir: Path | None
) -> Path:
    """Write the page and, where a Chrome is found, the picture; returns the page (in `report_dir` if given)."""
    data = report_data(run, problem, table, notes)
    page = write_html(data, run.folder.report_path)
    picture = write_png(data, page.with_suffix(".png"))
    return _copied(run.folder, [page] if picture is None else [page, picture], report_dir)[0]


def _copied(folder: RunFolder, files: list[Path], report_dir: Path | None) -> list[Path]:
    """Files of a report, copied to `report_dir` under the run's name; as they are where none is given."""
    name = folder.path.resolve().name
    return files if report_dir is None else [copy_file(file, report_dir / f"{name}{file.suffix}") for file in files]


WRITERS: Mapping[str, Callable[[ReportData, Path], Path]] = MappingProxyType(
    {"html": write_html, "png": write_picture, "pdf": write_picture, "md": write_markdown}
)
"""What writes a report, by format, which is also the ending of its file."""


def write_formats(
    run: Run, problem: SearchProblem, table: CandidateTable, formats: Sequence[str], report_dir: Path | None
) -> list[Path]:
    """Write the report in these formats; returns the files (in `report_dir` if given).

    Raises:
        ConfigError: there is no such format.
        RunError: a picture is asked for and cannot be drawn, or the disk refuses.
    """
    unknown = [name for name in formats if name not in WRITERS]
    if unknown:
        hint = suggest(unknown[0], WRITERS)
        raise ConfigError(f"report format {unknown[0]!r}{hint} is unknown; allowed: {', '.join(WRITERS)}")
    data = report_data(run, problem, table, ())
    base = run.folder.report_path
    files = [WRITERS[name](data, base.with_suffix(f".{name}")) for name in dict.fromkeys(formats)]
    return _copied(run.folder, files, report_dir)


def report_data(run: Run, problem: SearchProblem, table: CandidateTable, notes: Sequence[str]) -> ReportData:
    """Everything that a report shows; it says itself which budgets bind, so `notes` are about the rest."""
    inputs, folder, best = run.inputs, run.folder, best_id(table)
    rows = read_metrics(folder.metrics_path) if folder.metrics_path.is_file() else []
    trained = [sub.name for sub in inputs.space.sub_spaces if run.superlms.is_trained(sub)]
    lacking = missing_steps(rows, trained, folder.resolved().get("train_steps", 0))
    damage = [
        f"{folder.metrics_path.name} lacks {count} steps of {name}, damaged or cut short; curves show the rest"
        for name, count in lacking.items()
    ]
    tasks, unread = _task_results(folder)
    damage += unread
    for line in damage:
        run.progress.say(line)
    perplexity = perplexity_notes(inputs, run.scorer, table[best].exported_loss)
    certificate = certificate_of(folder.certificate_path, table, best)
    kept = read_kept(folder)
    keeps = [] if kept is None or kept.student != best else [kept.words]
    static = read_static(folder.static_path)
    enough = [*length_notes(folder), *certifying_note(run, certificate)]
    return ReportData(
        title=f"{shown(run.config.teacher)} · {inputs.space.name}",
        table=table,
        training=pd.DataFrame(rows, columns=list(StepMetrics.__dataclass_fields__)),
        budgets=problem.budgets,
        best=best,
        knee=knee_id(table),
        teacher=teacher_of(run, problem),
        speeds=known_speeds(folder.speed_path),
        tasks=tasks,
        no_gain=tuple(problem.no_gain),
        agreement=agreement_as_exported(run, problem, table, best),
        seq_len=inputs.seq_len,
        objective=inputs.measure.name,
        provenance=provenance(inputs, run.superlms),
        notes=(*keeps, *([static.words] if static else []), *perplexity, *table.rank_notes(), *enough, *notes, *damage),
        export_command=export_command(folder.path, "best"),
        certificate=certificate,
        devices=tuple(problem.device_costs.values()),
        samples=inputs.samples,
        score_name=(score_name(folder) or "task score") if table.ranking == BY_SCORE else None,
    )


def _task_results(folder: RunFolder) -> tuple[dict[str, list[TaskResult]], list[str]]:
    """What was found on labelled tasks of the students that lie in the run folder, by id; and what cannot be read."""
    found, damage = {}, []
    for path in sorted(folder.student_folder("").glob(f"*/{RESULTS}")):
        try:
            found[path.parent.name] = read_results(path.parent)
        except RunError as error:
            damage.append(str(error))
    return found, damage


def export_command(run: Path, pick: str) -> str:
    """The line that exports a student of this run."""
    return f"autodistil export --run {shlex.quote(str(run))} --pick {pick} --to my-student"
