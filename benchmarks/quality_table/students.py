"""The student of each row, exported as a Hugging Face folder, whatever it comes from: all are measured alike.

Most makers yield a SuperLM with the student in it; exporting checks the folder against it, its parameters against the
closed form and its FLOPs against fvcore. Those of other libraries write the folder themselves.
"""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

from autodistil.costs.closed_form import COST_COLUMNS
from autodistil.export.checks import check_flops
from autodistil.export.student_folder import export_student
from autodistil.run.facts import teacher_costs
from autodistil.utils import write_text
from quality_table import slices, trained_alone
from quality_table.bench import Bench, Skip
from quality_table.drafts import Draft, student_facts
from quality_table.layer_reduction import make_layer_reduction
from quality_table.rows import RowSpec
from quality_table.settings import digest
from quality_table.static import make_static

MAKERS: Mapping[str, Callable[[Bench, RowSpec], Draft]] = MappingProxyType(
    {
        "pick": slices.pick_draft,
        "runner-up": slices.runner_up_draft,
        "pick-proxy": slices.pick_proxy_draft,
        "pick-refined": slices.pick_refined_draft,
        "alone": trained_alone.alone_draft,
        "hand-made": trained_alone.hand_made_draft,
        "hand-made-equal-compute": trained_alone.hand_made_equal_compute_draft,
        "random-pick": slices.random_pick_draft,
        "untrained": slices.untrained_draft,
        "untrained-leading": slices.untrained_leading_draft,
        "truncated": slices.truncated_draft,
        "random-teacher": trained_alone.random_teacher_draft,
    }
)
FOLDERS: Mapping[str, Callable[[Bench, RowSpec, Path], dict[str, Any]]] = MappingProxyType(
    {
        "layer-reduction": make_layer_reduction,
        "layer-reduction-our-rate": make_layer_reduction,
        "layer-reduction-equal-compute": make_layer_reduction,
        "static": make_static,
    }
)
"""Makers of other libraries: they write a folder, and return what the table says of it."""


@dataclass(frozen=True)
class Made:
    """A student's folder and what the table says of it."""

    folder: Path
    facts: dict[str, Any]


def row_key(bench: Bench, spec: RowSpec) -> str:
    """Stands for what decides a row's student."""
    return digest(
        [
            bench.key,
            bench.search_key,
            spec.id,
            {name: value(bench) for name, value in _EXTRA.get(spec.kind, {}).items()},
        ]
    )


_RATE: Mapping[str, Callable[[Bench], Any]] = MappingProxyType({"rate": lambda bench: bench.settings.hand_made_rate})
_BUDGETS: Mapping[str, Callable[[Bench], Any]] = MappingProxyType(
    {"budgets": lambda bench: len(bench.settings.budgets)}
)
_EXTRA: Mapping[str, Mapping[str, Callable[[Bench], Any]]] = MappingProxyType(
    {
        "hand-made": _RATE,
        "hand-made-equal-compute": {**_RATE, **_BUDGETS},
        "layer-reduction-equal-compute": _BUDGETS,
        "pick-proxy": {"proxy": lambda bench: bench.settings.proxy},
    }
)
"""What decides a kind of row beside our training and the budget."""


def make(bench: Bench, spec: RowSpec) -> Made:
    """The student of a row, made if it is not there.

    Raises:
        Skip: there is none.
    """
    if spec.kind == "teacher":
        return _teacher(bench)
    folder = bench.folder / "students" / f"{spec.id}-{row_key(bench, spec)}"
    record = folder.with_suffix(".json")
    if not (record.is_file() and folder.is_dir()):
        begun = time.perf_counter()
        if spec.kind in FOLDERS:
            facts = _written(bench, spec, folder)
        else:
            facts = _export(MAKERS[spec.kind](bench, spec), folder)
        write_text(record, json.dumps({**facts, "seconds": round(time.perf_counter() - begun, 1)}, indent=1))
    return Made(folder, json.loads(record.read_text(encoding="utf-8")))


def _written(bench: Bench, spec: RowSpec, folder: Path) -> dict[str, Any]:
    building = folder.with_name(f".{folder.name}.tmp")
    for path in (building, folder):
        shutil.rmtree(path, ignore_errors=True)
    facts = FOLDERS[spec.kind](bench, spec, building)
    building.rename(folder)
    return facts


def _export(draft: Draft, folder: Path) -> dict[str, Any]:
    run, candidate = draft.run, draft.candidate
    named = student_facts(run, candidate)
    costs = {name: named[name] for name in COST_COLUMNS}
    check_flops(draft.superlm, candidate, costs["flops"], run.config.seq_len)
    for_card = {**costs, "teacher": teacher_costs(run.inputs), "seq_len": run.config.seq_len}
    facts = {key: str(value) for key, value in draft.facts.items()}
    export_student(
        draft.superlm,
        candidate,
        run.inputs.teacher,
        for_card,
        facts,
        folder,
        replace_existing=True,
    )
    return {**named, **draft.facts}


def _teacher(bench: Bench) -> Made:
    teacher = bench.run.inputs.teacher
    if teacher.folder is None:
        raise Skip("the teacher is no local folder")
    names = {"label": teacher.dims.label, "id": "teacher", "flops_share": 1.0}
    return Made(teacher.folder, {**names, **teacher_costs(bench.run.inputs)})
