"""Stage three: the report of a search."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

import pandas as pd
import torch

from autodistil.errors import ConfigError, suggest
from autodistil.report.page import write_html, write_markdown
from autodistil.report.picture import write_picture, write_png
from autodistil.report.rows import BudgetLine, ReportData
from autodistil.run.run import RunContext
from autodistil.stages.certifying import certificate_of
from autodistil.stages.ranking_by_task import proxy_words, score_name
from autodistil.stages.searching import perplexity_notes
from autodistil.student_search.candidates import SCORE, exported_loss, rank_notes
from autodistil.student_search.pick import best_id, knee_id
from autodistil.student_search.problem import SearchProblem
from autodistil.training.metrics import read_metrics
from autodistil.training.trainer import StepMetrics
from autodistil.utils import copy_file, installed_versions


def write_report(
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


WRITERS: Mapping[str, Callable[[ReportData, Path], Path]] = MappingProxyType(
    {"html": write_html, "png": write_picture, "pdf": write_picture, "md": write_markdown}
)
"""What writes a report, by format, which is also the ending of its file."""


def write_formats(
    context: RunContext, problem: SearchProblem, ranked: pd.DataFrame, formats: Sequence[str], report_dir: Path | None
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
    data = report_data(context, problem, ranked, ())
    base = context.folder.report_path
    files = [WRITERS[name](data, base.with_suffix(f".{name}")) for name in dict.fromkeys(formats)]
    if report_dir is None:
        return files
    name = context.folder.path.resolve().name
    return [copy_file(file, report_dir / f"{name}{file.suffix}") for file in files]


def report_data(context: RunContext, problem: SearchProblem, ranked: pd.DataFrame, notes: Sequence[str]) -> ReportData:
    """Everything that a report shows; it says itself which budgets bind, so `notes` are about the rest."""
    best = best_id(ranked)
    lines = [b for b in problem.budgets if b.text in problem.device_costs or b.seq_len in (None, context.seq_len)]
    rows = read_metrics(context.folder.metrics_path) if context.folder.metrics_path.is_file() else []
    return ReportData(
        title=f"{context.config.teacher} · {context.space.name}",
        candidates=ranked.reset_index(drop=True),
        training=pd.DataFrame(rows, columns=list(StepMetrics.__dataclass_fields__)),
        budgets=tuple(BudgetLine(budget.text, budget.column, budget.limit) for budget in lines),
        best=best,
        knee=knee_id(ranked),
        teacher_costs=context.teacher_costs(),
        seq_len=context.seq_len,
        objective=context.measure.name,
        provenance=provenance(context),
        notes=(*perplexity_notes(context, exported_loss(ranked, best)), *rank_notes(ranked), *notes),
        export_command=export_command(context.folder.path, "best"),
        certificate=certificate_of(context, ranked, best),
        devices=tuple(problem.device_costs.values()),
        score_name=(score_name(context) or "task score") if SCORE in ranked else None,
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
        **_teaching(context),
        "held-out text": f"{context.text.num_heldout} {context.text.unit}"
        + ("; losses of students that racing stopped before the end are estimates" if config.racing != "none" else ""),
        **({"ranked by": words} if (words := proxy_words(context)) else {}),
        "seed": str(config.seed),
        "threads": str(torch.get_num_threads()),
        "versions": ", ".join(f"{name} {number}" for name, number in installed_versions().items()),
    }


def _teaching(context: RunContext) -> dict[str, str]:
    """Who taught whom and by which layer, where it is not the teacher by its last one."""
    config, facts = context.config, {}
    if config.assistant is not None:
        taught = [sub.name for sub in context.space.sub_spaces if sub.name in context.taught]
        facts["assistant"] = f"{config.assistant} teaches {', '.join(taught)}; held-out losses are against the teacher"
    if config.teacher_layer is not None:
        facts["teacher layer"] = (
            f"attention of layer {config.teacher_layer} of {context.teacher.dims.num_layers} (from 0)"
        )
    return facts


def export_command(run: Path, pick: str) -> str:
    """The line that exports a student of this run."""
    return f"autodistil export --run {shlex.quote(str(run))} --pick {pick} --to my-student"
