"""Fine-tuned students beside each other, of one task and the same rows, each with its teacher."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from autodistil.errors import ConfigError, RunError
from autodistil.evaluation.standard_error import standard_errors
from autodistil.export.adapted_folder import FIGURES, Adaptation, read_adaptation
from autodistil.report.adapted import PLAIN, STUDENT, TEACHER, AdaptedComparison, FineTunedModel
from autodistil.stages.comparing import unique_names
from autodistil.tasks.classification import Classification


def compare_adapted(folders: Sequence[Path]) -> AdaptedComparison:
    """Lay fine-tuned students over one another; one alone is shown with its teacher.

    Args:
        folders: what `autodistil adapt` wrote, one or more.

    Raises:
        ConfigError: one is given twice, or they were scored on different tasks or rows.
        RunError: one is no fine-tuned student, or its figures are damaged.
    """
    found = dict(zip(unique_names(folders), map(read_adaptation, folders), strict=True))
    (first_name, first), *others = found.items()
    for name, other in others:
        if (other.task, other.scored_rows, other.classes) != (first.task, first.scored_rows, first.classes):
            raise ConfigError(
                f"{first_name} was scored on {_rows(first)}, {name} on {_rows(other)}; only figures of the same rows "
                "compare: adapt both on the same task and data"
            )
    models = [
        _model(one, name, kind, number)
        for number, (name, one) in enumerate(found.items())
        for kind in (STUDENT, PLAIN)
        if kind in one.metrics
    ]
    teachers: list[FineTunedModel] = []
    for one in found.values():
        if TEACHER in one.metrics:
            teacher = _model(one, _teacher_name(one), TEACHER, len(found) + len(teachers))
            known = {(other.name, tuple(other.metrics.items())) for other in teachers}
            teachers += [] if (teacher.name, tuple(teacher.metrics.items())) in known else [teacher]
    return AdaptedComparison(first.task, first.split, first.rows, first.classes, (*models, *teachers))


def _rows(one: Adaptation) -> str:
    return f"task {one.task!r}, {one.split} ({one.rows:,} rows, {one.scored_rows})"


def _teacher_name(one: Adaptation) -> str:
    """The last part of where the teacher is: its folder, or its name on the Hub."""
    return Path(one.teacher or "teacher").name


def _model(one: Adaptation, name: str, kind: str, series: int) -> FineTunedModel:
    metrics: Mapping[str, float] = one.metrics[kind]
    return FineTunedModel(
        name=name,
        kind=kind,
        series=series,
        metrics=metrics,
        standard_error=standard_errors({metric: (value,) for metric, value in metrics.items()}, one.rows),
        classification=_classification(one, kind),
        costs=one.costs.get(STUDENT if kind == PLAIN else kind, {}),
        teacher=_teacher_name(one) if kind == STUDENT and one.teacher else None,
        abstention=one.abstention if kind == STUDENT else None,
        doubt=one.doubt if kind == STUDENT else None,
    )


def _classification(one: Adaptation, kind: str) -> Classification | None:
    values: Mapping[str, Any] | None = one.classification.get(kind)
    try:
        return None if values is None else Classification.from_dict(values)
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        path = str(one.path / FIGURES)
        raise RunError(f"{path!r} is damaged ({error!r}); make the student again with autodistil adapt") from error
